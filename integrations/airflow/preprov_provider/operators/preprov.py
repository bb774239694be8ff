"""Reserve capacity before the tasks that need it, and give it back after them."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal, cast

import pendulum
from airflow.configuration import conf

from preprov_provider import client, reserving
from preprov_provider.client import PreprovError, PreprovUnavailable
from preprov_provider.compat import AirflowException, BaseOperator, TaskDeferralTimeout, timed_out
from preprov_provider.hooks.preprov import PreprovHook
from preprov_provider.naming import short
from preprov_provider.reserving import OVER
from preprov_provider.triggers.preprov import KILLED, ReservationReadyTrigger

if TYPE_CHECKING:
    from airflow.utils.context import Context

ASK_S = 30.0
REST_S = 5.0
OUTAGE_S = 120.0
"""While it waits, preprov may be silent for so long, as when it starts anew; then it does not answer."""


class ReserveCapacityOperator(BaseOperator):
    """Reserve capacity of one of preprov's pools, and wait until it is warm.

    Put it before tasks that must not wait for machines; the tasks themselves need no change. Its result is the
    reservation. A retry of the task finds the reservation that the first try made; if that is over, a new one is made.
    One that was edited before it was tried again gives back what it had reserved, and reserves anew. Killed while it
    waits, it gives the reservation back.

    :param preprov_pool: the pool, as preprov.toml names it.
    :param cpu: cores of one instance. :param memory: GiB. :param gpu: devices.
    :param count: instances; all are held together, or none.
    :param start: an ISO time from which it is wanted; now if not given. One without a zone is in that of the DAG.
    :param duration: how long it is held, at most.
    :param expires_in: how long after its start it is kept while it is not ready; afterwards it is void.
    :param claimant: for what; by default DAG, run and task, with the index of a mapped one. Of a name of your own there
        is one live reservation at a time: give one to each mapped instance, and to each run.
    :param timeout: how long to wait until it is warm; by default until the reservation would end. After that it is as
        void: see `if_void`.
    :param wait_for_ready: False: reserve and go on, and let a WarmCapacitySensor wait.
    :param if_unavailable: what to do while preprov does not answer, at first or for two minutes of the wait: "continue"
        without warm capacity, for work should not stand still because of it; or "fail", to be tried again as often as
        `retries` says.
    :param if_void: what to do when it expires, or is released, or `timeout` is over, before it is ready: "fail" or
        "continue".
    :param deferrable: wait in the triggerer, without holding a worker.
    """

    template_fields: Sequence[str] = ("preprov_pool", "start", "claimant", "cpu", "memory", "gpu", "count")
    ui_color = "#f4e3c1"

    def __init__(
        self,
        *,
        preprov_pool: str,
        cpu: float = 0.0,
        memory: float = 0.0,
        gpu: float = 0.0,
        count: int = 1,
        start: str | datetime | None = None,
        duration: timedelta = timedelta(hours=1),
        expires_in: timedelta | None = None,
        claimant: str | None = None,
        reservation_priority: int | None = None,
        timeout: timedelta | None = None,
        wait_for_ready: bool = True,
        if_unavailable: Literal["continue", "fail"] = "continue",
        if_void: Literal["continue", "fail"] = "fail",
        preprov_conn_id: str = PreprovHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        """See the class."""
        super().__init__(**kwargs)
        self.preprov_pool = preprov_pool
        self.cpu, self.memory, self.gpu = cpu, memory, gpu
        self.count = count
        self.start = start
        self.duration = duration
        self.expires_in = expires_in
        self.claimant = claimant
        self.reservation_priority = reservation_priority
        self.timeout = timeout
        self.wait_for_ready = wait_for_ready
        self.if_unavailable = if_unavailable
        self.if_void = if_void
        self.preprov_conn_id = preprov_conn_id
        self.deferrable = deferrable
        self._waits_for: tuple[str, dict[str, Any]] | None = None

    def execute(self, context: "Context") -> dict[str, Any] | None:
        """Reserve, and wait here or in the triggerer."""
        start = starting(self.start, context)
        try:
            found = reserving.reserve(
                PreprovHook(self.preprov_conn_id).client, self._body(context, start), names_of(context), is_of(context)
            )
        except PreprovUnavailable as error:
            return self._unavailable(str(error), None)
        self.log.info("reservation %s of pool %s: %s", found["reservation_id"], self.preprov_pool, found["state"])
        if not self.wait_for_ready or found["ready"]:
            return found
        if self.deferrable:
            self.defer(
                trigger=ReservationReadyTrigger(found["reservation_id"], self.preprov_conn_id, OUTAGE_S, owned=True),
                method_name="execute_complete",
                kwargs={"reservation": found},
                timeout=self._patience(start),
            )
        return self._waited(found, self._patience(start).total_seconds())

    def execute_complete(
        self, context: "Context", event: Mapping[str, Any], reservation: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """The triggerer says what became of it."""
        if "unavailable" in event:
            return self._unavailable(str(event["unavailable"]), reservation)
        return self._ended(reservation_of(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: "Context") -> Any:
        """As Airflow does; where `timeout` is over, the reservation is looked at once more."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout as error:
            if not timed_out(error):
                raise
            claimant = self._claimant(context)
            try:
                ask = PreprovHook(self.preprov_conn_id).client
                found = reserving.live(ask, self.preprov_pool, claimant, is_of(context))
            except PreprovUnavailable as error:
                return self._unavailable(str(error), None)
            if found is None:
                return self._void(f"the reservation of {claimant} is over", None)
            return self._ended(found)

    def on_kill(self) -> None:
        """Somebody ended the task while it waited: nobody will take up what it reserved."""
        if self._waits_for is None:
            return
        reservation_id, settings = self._waits_for  # a handler of a signal had better not ask Airflow for a connection
        try:
            client.Client(**settings).release(reservation_id, KILLED)
        except PreprovError as error:
            self.log.warning("%s. Reservation %s ends by itself.", error, reservation_id)

    def _patience(self, start: datetime | None) -> timedelta:
        if self.timeout is not None:
            return self.timeout
        now = datetime.now(timezone.utc)
        return self.duration + max((start or now) - now, timedelta(0))

    def _claimant(self, context: "Context") -> str:
        return short(self.claimant or label_of(context))

    def _body(self, context: "Context", start: datetime | None) -> dict[str, Any]:
        return client.reservation(
            self.preprov_pool,
            self._claimant(context),
            {"cpu": float(self.cpu), "memory": float(self.memory), "gpu": float(self.gpu)},
            count=int(self.count),
            start=start.isoformat() if start else None,
            seconds=self.duration.total_seconds(),
            expires_in=self.expires_in.total_seconds() if self.expires_in else None,
            priority=self.reservation_priority,
            reason=reason_of(context),
        )

    def _waited(self, found: dict[str, Any], patience_s: float) -> dict[str, Any] | None:
        hook, answered = PreprovHook(self.preprov_conn_id), time.monotonic()
        until = answered + patience_s
        self._waits_for = found["reservation_id"], hook.settings
        while not found["ready"] and found["state"] not in OVER and (left := until - time.monotonic()) > 0:
            try:
                found = hook.client.wait(found["reservation_id"], min(ASK_S, left))
                answered = time.monotonic()
            except PreprovUnavailable as error:
                if time.monotonic() - answered >= OUTAGE_S:
                    return self._unavailable(str(error), found)
                self.log.warning("%s; asked again in %.0f s", error, REST_S)
                time.sleep(REST_S)
        self._waits_for = None
        return self._ended(found)

    def _unavailable(self, why: str, found: dict[str, Any] | None) -> dict[str, Any] | None:
        """What to do without preprov; `found`: the reservation as it was last seen, to be given back later."""
        if self.if_unavailable == "fail":
            raise AirflowException(why)
        self.log.warning("%s. Going on without warm capacity.", why)
        return found

    def _ended(self, found: dict[str, Any]) -> dict[str, Any] | None:
        if found["ready"]:
            self.log.info("warm: %s", ", ".join(n for n in found["nodes"] if n))
            return found
        why = f"reservation {found['reservation_id']} is {found['state']}: {found.get('reason') or 'no reason given'}"
        if found["state"] not in OVER:
            why = f"reservation {found['reservation_id']} was not ready in time"
        return self._void(why, found)

    def _void(self, why: str, found: dict[str, Any] | None) -> dict[str, Any] | None:
        if self.if_void == "fail":
            raise AirflowException(why)
        self.log.warning("%s. Going on without it.", why)
        return found


class ReleaseCapacityOperator(BaseOperator):
    """Give a reservation back, whatever became of the tasks before it.

    Without it a reservation ends by itself, at the end of its duration.

    :param reservation_id: as ReserveCapacityOperator returned it; nothing is done if it is empty.
    """

    template_fields: Sequence[str] = ("reservation_id",)
    ui_color = "#f4e3c1"

    def __init__(
        self,
        *,
        reservation_id: str,
        preprov_conn_id: str = PreprovHook.default_conn_name,
        trigger_rule: str = "all_done",
        **kwargs: Any,
    ) -> None:
        """See the class."""
        super().__init__(trigger_rule=trigger_rule, **kwargs)
        self.reservation_id = reservation_id
        self.preprov_conn_id = preprov_conn_id

    def execute(self, context: "Context") -> None:
        """Give it back; if preprov does not answer it ends by itself, so that is no failure."""
        if is_none(self.reservation_id):
            self.log.info("there is no reservation to be given back")
            return
        try:
            found = PreprovHook(self.preprov_conn_id).client.release(self.reservation_id, "released by its DAG")
        except PreprovUnavailable as error:
            self.log.warning("%s. The reservation ends by itself.", error)
            return
        self.log.info("reservation %s: %s", self.reservation_id, found["state"])


def reservation_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """What a trigger found.

    Raises:
        AirflowException: preprov refused.
    """
    if "error" in event:
        raise AirflowException(str(event["error"]))
    return dict(event["reservation"])


def names_of(context: "Context") -> tuple[str, ...]:
    """What tells a task instance from all others of this Airflow."""
    ti = context["ti"]
    index = getattr(ti, "map_index", None)
    return ti.dag_id, ti.run_id, ti.task_id, str(-1 if index is None else index)


def label_of(context: "Context") -> str:
    """The same for people: DAG, run, task, and the index of a mapped one."""
    dag_id, run_id, task_id, index = names_of(context)
    return f"{dag_id}/{run_id}/{task_id}" + (f"[{index}]" if int(index) >= 0 else "")


def reason_of(context: "Context") -> str:
    """What is written down of why there is a reservation: the task instance that asked for it."""
    return short(f"for Airflow's task {label_of(context)}")


def is_of(context: "Context") -> Callable[[Mapping[str, Any]], bool]:
    """Whether a live reservation is of this task instance: it says so, or has the name that nobody else has."""
    reason, claimant = reason_of(context), short(label_of(context))
    return lambda found: found.get("reason") == reason or found.get("claimant") == claimant


def starting(start: str | datetime | None, context: "Context") -> datetime | None:
    """When a reservation begins; None = now. A time without a zone is in that of the DAG.

    Raises:
        ValueError: it is no time.
    """
    if start in (None, "", "None"):
        return None
    zone = getattr(context.get("dag"), "timezone", None) or pendulum.UTC
    if isinstance(start, datetime):
        return start if start.tzinfo is not None else pendulum.instance(start, tz=zone)
    return cast("datetime", pendulum.parse(str(start), tz=zone, exact=False))


def is_none(reservation_id: object) -> bool:
    """Whether a template found no reservation: nothing was reserved, for preprov did not answer."""
    return reservation_id in (None, "", "None")
