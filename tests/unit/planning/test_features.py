"""Which features of nodes meet what a job of Slurm demands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.planning.features import met


@pytest.mark.parametrize(
    ("constraint", "features", "meets"),
    [
        ("gpu", {"gpu", "big"}, True),
        ("gpu", {"big"}, False),
        ("gpu&big", {"gpu"}, False),
        ("gpu,big", {"gpu", "big"}, True),
        ("intel|amd", {"amd"}, True),
        ("intel|amd", {"arm"}, False),
        ("(intel|amd)&ssd", {"amd"}, False),
        ("(intel|amd)&ssd", {"amd", "ssd"}, True),
        ("ssd&(intel|amd)", {"intel"}, False),
        ("[rack1|rack2]", {"rack2"}, True),
        ("[rack1*2&rack2*4]", {"rack2"}, True),
        ("[rack1*2&rack2*4]", {"rack3"}, False),
        ("gpu*2", {"gpu"}, True),
        ("gpu & big", {"gpu", "big"}, True),
        ("a&b|c", {"c"}, True),
        ("", set(), True),
        ("gpu&(", set(), True),
        ("gpu)", set(), True),
    ],
)
def test_a_constraint_is_met_or_not(constraint: str, features: set[str], meets: bool) -> None:
    assert met(constraint, frozenset(features)) is meets


@pytest.mark.parametrize(
    ("constraint", "features", "meets"),
    [
        ("disk=ssd", {"disk=ssd"}, True),
        ("disk=ssd", {"disk=hdd"}, False),
        ("disk=ssd", set(), False),
        ("disk=?", {"disk=hdd"}, True),
        ("disk=?", {"pool=x"}, False),
        ("disk=", {"disk="}, True),
        ("os=linux", {"disk=hdd"}, True),
        ("os=?", set(), True),
        ("os=linux&disk=ssd", {"disk=hdd"}, False),
        ("(disk=ssd|disk=nvme)&os=linux", {"disk=nvme"}, True),
        ("(disk=ssd|os=linux)", set(), True),
        ("gpu&disk=ssd", {"disk=ssd"}, False),
    ],
)
def test_labels_are_told_key_by_key(constraint: str, features: set[str], meets: bool) -> None:
    assert met(constraint, frozenset(features), frozenset({"disk", "pool"})) is meets


@given(st.text(alphabet="ab[]()&|,*2 ", max_size=12), st.frozensets(st.sampled_from("ab")))
def test_whatever_is_written_there_is_an_answer(text: str, features: frozenset[str]) -> None:
    assert met(text, features) in (True, False)
