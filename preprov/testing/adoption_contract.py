"""What every store must do with how groups were found."""

from dataclasses import replace

from preprov.contracts import Ports
from preprov.model.adoption import Adoption
from preprov.testing.store_examples import POOL, T0, PortsContract, minutes

_FOUND = Adoption(
    POOL,
    "g",
    {"MinSize": 1, "WarmPool": None, "zones": ["a", "b"], "policy": {"delay": 1.5, "on": True}},
    T0,
    "ann",
    ("scaling policy cpu",),
)


class AdoptionContract(PortsContract):
    """Kept as found until it is given back."""

    def test_how_a_group_was_found_is_never_overwritten(self, ports: Ports) -> None:
        """Adopting it again gives what was found the first time."""
        assert ports.adoptions.in_force(POOL) == {}
        assert ports.adoptions.adopt(_FOUND) == _FOUND
        assert ports.adoptions.adopt(replace(_FOUND, baseline={"MinSize": 9}, at=T0 + minutes(1))) == _FOUND
        other = replace(_FOUND, group="h")
        ports.adoptions.adopt(other)
        assert ports.adoptions.in_force(POOL) == {"g": _FOUND, "h": other}
        assert ports.adoptions.in_force("other") == {}

    def test_given_back_it_can_be_found_anew(self, ports: Ports) -> None:
        """Releasing twice is fine."""
        ports.adoptions.adopt(_FOUND)
        for _ in range(2):
            ports.adoptions.release(POOL, "g", T0 + minutes(5))
        assert ports.adoptions.in_force(POOL) == {}
        again = replace(_FOUND, baseline={"MinSize": 2}, at=T0 + minutes(9))
        assert ports.adoptions.adopt(again) == again
        assert ports.adoptions.in_force(POOL) == {"g": again}

    def test_what_its_owner_changed_since_is_amended(self, ports: Ports) -> None:
        """Those settings only; where nothing is in force nothing happens."""
        ports.adoptions.amend(POOL, "g", {"image": {"id": "b"}})
        assert ports.adoptions.in_force(POOL) == {}
        ports.adoptions.adopt(_FOUND)
        ports.adoptions.ignore(POOL, "g", ["scaling policy cpu"])
        for image in ("b", "c"):
            ports.adoptions.amend(POOL, "g", {"image": {"id": image}})
        wanted = {**_FOUND.baseline, "image": {"id": "c"}}
        assert ports.adoptions.in_force(POOL)["g"] == replace(_FOUND, baseline=wanted, ignored=("scaling policy cpu",))

    def test_other_writers_can_be_ignored_and_heeded_again(self, ports: Ports) -> None:
        """The list is replaced; where nothing is in force nothing happens."""
        ports.adoptions.ignore(POOL, "g", ["scaling policy cpu"])
        ports.adoptions.adopt(_FOUND)
        for names in (("scaling policy cpu",), ()):
            ports.adoptions.ignore(POOL, "g", names)
            assert ports.adoptions.in_force(POOL)["g"] == replace(_FOUND, ignored=names)

    def test_a_store_has_a_name_that_stays(self, ports: Ports) -> None:
        """The same each time."""
        assert ports.adoptions.installation() == ports.adoptions.installation() != ""
