"""What every store must do with leases and with what people asked for."""

import pytest

from preprov.contracts import Ports
from preprov.model.errors import (
    LeaseHeldError,
)
from preprov.model.pools import Mode, Override
from preprov.testing.store_examples import (
    POOL,
    T0,
    PortsContract,
    minutes,
)


class IntentContract(PortsContract):
    """Leases and what people asked for."""

    def test_a_pool_is_passed_over_by_one_at_a_time(self, ports: Ports) -> None:
        """By others when it is given back; other pools are free."""
        with ports.leases.hold(POOL, "a", 60, T0):
            for holder in ("a", "b"):
                with pytest.raises(LeaseHeldError), ports.leases.hold(POOL, holder, 60, T0 + minutes(0.5)):
                    pass
            with ports.leases.hold("other", "b", 60, T0):
                pass
        with ports.leases.hold(POOL, "b", 60, T0):
            pass

    def test_a_lease_is_given_back_when_the_pass_fails(self, ports: Ports) -> None:
        """The failure itself comes through."""
        with pytest.raises(KeyError), ports.leases.hold(POOL, "a", 60, T0):
            raise KeyError
        with ports.leases.hold(POOL, "b", 60, T0):
            pass

    def test_an_expired_lease_is_taken_over_and_stays_taken(self, ports: Ports) -> None:
        """The one who lost it gives back nothing."""
        late = ports.leases.hold(POOL, "slow", 60, T0)
        late.__enter__()
        with ports.leases.hold(POOL, "next", 60, T0 + minutes(1)):
            late.__exit__(None, None, None)
            with pytest.raises(LeaseHeldError), ports.leases.hold(POOL, "third", 60, T0 + minutes(1.5)):
                pass

    def test_a_halt_holds_until_somebody_goes_on(self, ports: Ports) -> None:
        """With its reason."""
        assert ports.intent.halted() == ""
        ports.intent.set_halt("spend looks wrong", actor="ann", at=T0)
        assert ports.intent.halted() == "spend looks wrong"
        ports.intent.set_halt("", actor="ann", at=T0)
        assert ports.intent.halted() == ""

    def test_a_mode_set_at_run_time_expires(self, ports: Ports) -> None:
        """Then the configured one holds again."""
        assert ports.intent.mode(POOL, T0) is None
        ports.intent.set_mode(POOL, Mode.FULL, T0 + minutes(5), actor="ann", at=T0)
        assert ports.intent.mode(POOL, T0 + minutes(4)) is Mode.FULL
        assert ports.intent.mode(POOL, T0 + minutes(5)) is None
        assert ports.intent.mode("other", T0) is None
        ports.intent.set_mode(POOL, Mode.OBSERVE, None, actor="ann", at=T0)
        assert ports.intent.mode(POOL, T0 + minutes(9999)) is Mode.OBSERVE

    def test_floors_are_in_force_within_their_time(self, ports: Ports) -> None:
        """From the first instant to before the last."""
        floor = Override(POOL, 3, T0, T0 + minutes(10), "launch day")
        ports.intent.add_override(floor)
        ports.intent.add_override(floor)
        assert ports.intent.overrides(POOL, T0) == (floor,)
        assert ports.intent.overrides(POOL, T0 + minutes(10)) == ()
        assert ports.intent.overrides(POOL, T0 - minutes(1)) == ()
        assert ports.intent.overrides("other", T0) == ()

    def test_drains_are_replaced_as_a_whole(self, ports: Ports) -> None:
        """Empty gives everything back."""
        ports.intent.set_drain(POOL, ["n1", "n2", "n1"])
        ports.intent.set_drain("other", ["*"])
        assert ports.intent.drains(POOL) == {"n1", "n2"}
        ports.intent.set_drain(POOL, [])
        assert ports.intent.drains(POOL) == frozenset()
        assert ports.intent.drains("other") == {"*"}
