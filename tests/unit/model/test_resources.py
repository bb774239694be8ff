import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.resources import KINDS, Resources

amount = st.floats(0, 1e6, allow_nan=False)
resources = st.builds(Resources, amount, amount, amount, amount, amount)


@given(resources, resources)
def test_adding_and_taking_away_gives_back_what_was(a, b):
    back = (a + b) - b
    assert back.as_tuple() == pytest.approx(a.as_tuple(), abs=1e-6, rel=1e-6)


@given(resources, resources)
def test_a_sum_holds_its_parts_and_the_maximum_holds_both(a, b):
    assert a.fits_in(a + b)
    assert a.fits_in(a.maximum(b))
    assert b.fits_in(a.maximum(b))


@given(resources)
def test_tuple_dict_and_back(a):
    assert Resources.of(a.as_dict()) == a == Resources.of(a.as_tuple())


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_an_impossible_amount_is_refused_by_name(kind, bad):
    with pytest.raises(ValueError, match=kind):
        Resources(**{kind: bad})


def test_an_unknown_resource_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="known: cpu"):
        Resources.of({"cores": 3})


def test_taking_away_too_much_is_an_error_and_clamping_is_not():
    with pytest.raises(ValueError, match="cpu"):
        Resources(cpu=1) - Resources(cpu=2)
    assert Resources(cpu=1, memory=5).minus_clamped(Resources(cpu=2, memory=1)) == Resources(memory=4)


def test_share_is_the_largest_over_the_binding_resources():
    want, whole = Resources(cpu=2, memory=30, network=100), Resources(cpu=8, memory=32)
    assert want.share_of(whole, ("cpu", "memory")) == pytest.approx(30 / 32)
    assert want.share_of(whole) == math.inf
