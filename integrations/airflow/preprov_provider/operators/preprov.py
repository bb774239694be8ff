"""Reserve capacity before the tasks that need it, and give it back after them."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

from airflow.configuration import conf

from preprov_provider import client
from preprov_provider.client import PreprovUnavailable
from preprov_provider.compat import AirflowException, BaseOperator, TaskDeferralTimeout
from preprov_provider.hooks.preprov import PreprovHook
from preprov_provider.triggers.preprov import OVER, ReservationReadyTrigger

if TYPE_CHECKING:
    from airflow.utils.context import Context

ASK_S = 30.0
REST_S = 5.0
OUTAGE_S = 120.0
"""While it waits, preprov may be silent for so long, as when it starts anew; then it does not answer."""


class ReserveCapacityOperator(BaseOperator):
    """Reserve capacity of one of preprov's pools, and wait until it is warm.

    Put it before tasks that must not wait for machines; the tasks themselves need no change. Its result is the
    reservation. A retry of the task finds the reservation that the first try made.

    :param preprov_pool: the pool, as preprov.toml names it.
    :param cpu: cores of one instance. :param memory: GiB. :param gpu: devices.
    :param count: instances; all are held together, or none.
    :param start: an ISO time from which it is wanted; now if not given.
    :param duration: how long it is held, at most.
    :param expires_in: how long after its start it is kept while it is not ready; afterwards it is void.
    :param claimant: for what; by default DAG, run and task.
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
        start: str | None = None,
        duration: timedelta = timedelta(hours=1),
        expires_in: timedelta | None = None,
        claimant: str = "{{ dag.dag_id }}/{{ run_id }}/{{ task.task_id }}",
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

    def execute(self, context: "Context") -> dict[str, Any] | None:
        """Reserve, and wait here or in the triggerer."""
        try:
            found = self._reserve(context)
        except PreprovUnavailable as error:
            return self._unavailable(str(error), None)
        self.log.info("reservation %s of pool %s: %s", found["reservation_id"], self.preprov_pool, found["state"])
        if not self.wait_for_ready or found["ready"]:
            return found
        if self.deferrable:
            self.defer(
                trigger=ReservationReadyTrigger(found["reservation_id"], self.preprov_conn_id, OUTAGE_S),
                method_name="execute_complete",
                kwargs={"reservation": found},
                timeout=self._patience(),
            )
        return self._waited(found)

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
        except TaskDeferralTimeout:
            try:
                found = self._reserve(context, anew=False)
            except PreprovUnavailable as error:
                return self._unavailable(str(error), None)
            return self._ended(found)

    def _patience(self) -> timedelta:
        if self.timeout is not None:
            return self.timeout
        begins = datetime.fromisoformat(self.start.replace("Z", "+00:00")) if self.start else None
        if begins is None:
            return self.duration
        now = datetime.now(begins.tzinfo or timezone.utc)
        return self.duration + max(begins.replace(tzinfo=now.tzinfo) - now, timedelta(0))

    def _reserve(self, context: "Context", *, anew: bool = True) -> dict[str, Any]:
        """The reservation of this task; `anew`: another one if that is over."""
        body = client.reservation(
            self.preprov_pool,
            self.claimant,
            {"cpu": float(self.cpu), "memory": float(self.memory), "gpu": float(self.gpu)},
            count=int(self.count),
            start=self.start,
            seconds=self.duration.total_seconds(),
            expires_in=self.expires_in.total_seconds() if self.expires_in else None,
            priority=self.reservation_priority,
        )
        hook = PreprovHook(self.preprov_conn_id)
        ti = context["ti"]
        name = (ti.dag_id, ti.run_id, ti.task_id, str(getattr(ti, "map_index", -1)))
        found = hook.client.reserve(body, key_of(*name))
        if anew and found["state"] in OVER:  # of an earlier try, or of the run before it was cleared
            found = hook.client.reserve(body, key_of(*name, found["reservation_id"]))
        return found

    def _waited(self, found: dict[str, Any]) -> dict[str, Any] | None:
        hook, answered = PreprovHook(self.preprov_conn_id), time.monotonic()
        until = answered + self._patience().total_seconds()
        while not found["ready"] and found["state"] not in OVER and (left := until - time.monotonic()) > 0:
            try:
                found = hook.client.wait(found["reservation_id"], min(ASK_S, left))
                answered = time.monotonic()
            except PreprovUnavailable as error:
                if time.monotonic() - answered >= OUTAGE_S:
                    return self._unavailable(str(error), found)
                self.log.warning("%s; asked again in %.0f s", error, REST_S)
                time.sleep(REST_S)
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


def key_of(*parts: str) -> str:
    """A key by which preprov knows a request again."""
    return f"airflow-{hashlib.sha256(chr(31).join(parts).encode()).hexdigest()[:40]}"


def is_none(reservation_id: object) -> bool:
    """Whether a template found no reservation: nothing was reserved, for preprov did not answer."""
    return reservation_id in (None, "", "None")
