"""Wait until capacity is warm."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf

from preprov_provider.client import PreprovUnavailable
from preprov_provider.compat import AirflowException, BaseSensorOperator
from preprov_provider.hooks.preprov import PreprovHook
from preprov_provider.operators.preprov import is_none, reservation_of
from preprov_provider.triggers.preprov import OVER, ReservationReadyTrigger

if TYPE_CHECKING:
    from airflow.utils.context import Context


class WarmCapacitySensor(BaseSensorOperator):
    """Wait until a reservation is ready: every instance is bound to a node that is warm.

    :param reservation_id: as ReserveCapacityOperator returned it. If it is empty, because preprov did not answer and
        the operator went on without, there is nothing to wait for.
    :param deferrable: wait in the triggerer, without holding a worker.
    """

    template_fields: Sequence[str] = ("reservation_id",)
    ui_color = "#f4e3c1"

    def __init__(
        self,
        *,
        reservation_id: str,
        preprov_conn_id: str = PreprovHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        """See the class."""
        super().__init__(**kwargs)
        self.reservation_id = reservation_id
        self.preprov_conn_id = preprov_conn_id
        self.deferrable = deferrable

    def execute(self, context: "Context") -> Any:
        """Look once, then wait here or in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        if not self.poke(context):
            self.defer(
                trigger=ReservationReadyTrigger(self.reservation_id, self.preprov_conn_id),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout),
            )
        return None

    def poke(self, context: "Context") -> bool:
        """Whether it is ready now. While preprov does not answer it is not."""
        if is_none(self.reservation_id):
            self.log.info("there is no reservation to wait for")
            return True
        try:
            found = PreprovHook(self.preprov_conn_id).client.look(self.reservation_id)
        except PreprovUnavailable as error:
            self.log.warning("%s", error)
            return False
        return self._is_ready(found)

    def execute_complete(self, context: "Context", event: Mapping[str, Any]) -> None:
        """The triggerer says what became of it."""
        self._is_ready(reservation_of(event))

    def _is_ready(self, found: Mapping[str, Any]) -> bool:
        if found["state"] in OVER:
            reason = found.get("reason") or "no reason given"
            raise AirflowException(f"reservation {self.reservation_id} is {found['state']}: {reason}")
        return bool(found["ready"])
