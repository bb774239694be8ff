"""Wait until capacity is warm."""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.configuration import conf

from preprov_provider.client import PreprovUnavailable
from preprov_provider.compat import (
    AirflowException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    TaskDeferralTimeout,
    timed_out,
)
from preprov_provider.hooks.preprov import PreprovHook
from preprov_provider.operators.preprov import OUTAGE_S, REST_S, is_none, reservation_of
from preprov_provider.reserving import OVER
from preprov_provider.triggers.preprov import ReservationReadyTrigger

if TYPE_CHECKING:
    from airflow.utils.context import Context


class WarmCapacitySensor(BaseSensorOperator):
    """Wait until a reservation is ready: every instance is bound to a node that is warm.

    :param reservation_id: as ReserveCapacityOperator returned it. If it is empty, because preprov did not answer and
        the operator went on without, there is nothing to wait for.
    :param if_unavailable: what to do when preprov does not answer for two minutes (or for `timeout`, if that is less):
        "continue" without warm capacity, for work should not stand still because of it; or "fail", to be tried again as
        often as `retries` says.
    :param if_void: what to do when it expires, or is released, or `timeout` is over, before it is ready: "fail" or
        "continue".
    :param deferrable: wait in the triggerer, without holding a worker.
    """

    template_fields: Sequence[str] = ("reservation_id",)
    ui_color = "#f4e3c1"

    def __init__(
        self,
        *,
        reservation_id: str,
        if_unavailable: Literal["continue", "fail"] = "continue",
        if_void: Literal["continue", "fail"] = "fail",
        preprov_conn_id: str = PreprovHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        """See the class."""
        super().__init__(**kwargs)
        self.reservation_id = reservation_id
        self.if_unavailable = if_unavailable
        self.if_void = if_void
        self.preprov_conn_id = preprov_conn_id
        self.deferrable = deferrable

    def execute(self, context: "Context") -> Any:
        """Look once, then wait here or in the triggerer."""
        if not self.deferrable:
            try:
                return super().execute(context)
            except AirflowSensorTimeout as error:
                self._timed_out(error)
                return None
        try:
            is_ready = self._is_ready()
        except PreprovUnavailable as error:
            self.log.warning("%s", error)
            is_ready = False
        if not is_ready:
            self.defer(
                trigger=ReservationReadyTrigger(self.reservation_id, self.preprov_conn_id, OUTAGE_S),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout),
            )
        return None

    def poke(self, context: "Context") -> bool:
        """Whether the wait has an end now. An outage is waited out here, for as long as one is."""
        began = time.monotonic()
        while True:
            try:
                return self._is_ready()
            except PreprovUnavailable as error:
                if time.monotonic() - began >= min(OUTAGE_S, self.timeout):
                    return self._unavailable(str(error))
                self.log.warning("%s; asked again in %.0f s", error, REST_S)
                time.sleep(REST_S)

    def execute_complete(self, context: "Context", event: Mapping[str, Any]) -> None:
        """The triggerer says what became of it."""
        if "unavailable" in event:
            self._unavailable(str(event["unavailable"]))
        else:
            self._ended(reservation_of(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: "Context") -> Any:
        """As Airflow does; where `timeout` is over, the reservation is looked at once more."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (AirflowSensorTimeout, TaskDeferralTimeout) as error:
            if not timed_out(error):
                raise
            try:
                if not self._is_ready():
                    self._timed_out(error)
            except PreprovUnavailable as silent:
                self._unavailable(str(silent))
            return None

    def _is_ready(self) -> bool:
        if is_none(self.reservation_id):
            self.log.info("there is no reservation to wait for")
            return True
        return self._ended(PreprovHook(self.preprov_conn_id).client.look(self.reservation_id))

    def _ended(self, found: Mapping[str, Any]) -> bool:
        """Whether there is nothing more to wait for."""
        if found["state"] not in OVER:
            return bool(found["ready"])
        why = f"reservation {self.reservation_id} is {found['state']}: {found.get('reason') or 'no reason given'}"
        if self.if_void == "fail":
            raise AirflowException(why)
        self.log.warning("%s. Going on without it.", why)
        return True

    def _unavailable(self, why: str) -> bool:
        if self.if_unavailable == "fail":
            raise AirflowException(why)
        self.log.warning("%s. Going on without warm capacity.", why)
        return True

    def _timed_out(self, error: Exception) -> None:
        if self.if_void == "fail":
            raise error
        self.log.warning("reservation %s was not ready in time. Going on without it.", self.reservation_id)
