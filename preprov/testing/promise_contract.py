"""What every store must do with promises."""

from dataclasses import replace

from preprov.contracts import Ports
from preprov.model.promises import Promise
from preprov.testing.store_examples import POOL, T0, PortsContract, minutes


class PromiseContract(PortsContract):
    """Kept by id, found newest first."""

    def test_promises_are_found_newest_first(self, ports: Ports) -> None:
        """The same id again replaces."""
        first = Promise("p1", POOL, T0, "preprov", "hit rate 0.99", T0, T0, 10, 24.0, 12.5, None, 0.99, 1.5, None)
        second = replace(first, promise_id="p2", at=T0 + minutes(5), usd_per_day=None)
        for p in (first, second, replace(first, pool="other", promise_id="p3"), replace(first, instances=11)):
            ports.promises.save(p)
        assert ports.promises.promises(POOL) == (second, replace(first, instances=11))
        assert ports.promises.promises(POOL, until=T0 + minutes(1)) == (replace(first, instances=11),)
        assert ports.promises.promises("none") == ()
