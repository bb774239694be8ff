"""What every store must do with prices."""

from dataclasses import replace

from preprov.contracts import Ports
from preprov.model.offerings import CapacityType
from preprov.model.prices import PriceRow
from preprov.testing.store_examples import T0, PortsContract, minutes


class PriceContract(PortsContract):
    """Kept by offering and instant."""

    def test_prices_are_kept_by_offering_and_instant(self, ports: Ports) -> None:
        """The same again replaces and is not new."""
        first = PriceRow("m", 0.5, "z", CapacityType.SPOT, since=T0, source="spot", interruptions_per_hour=0.01)
        later = replace(first, usd_per_hour=0.6, since=T0 + minutes(5))
        other = PriceRow("n", None, since=T0, source="list")
        assert ports.prices.save([later, first, other], at=T0) == 3
        assert ports.prices.save([replace(first, usd_per_hour=0.4)], at=T0 + minutes(9)) == 0
        assert ports.prices.rows() == (replace(first, usd_per_hour=0.4), later, other)
        assert ports.prices.rows(instance_types=["n", "x"]) == (other,)
        assert ports.prices.rows(instance_types=()) == ()
