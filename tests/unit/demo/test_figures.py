"""Pictures: they are drawn, in both formats, of much and of nothing, and the same content gives the same bytes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from preprov.contracts import PoolSnapshot
from preprov.figures import (
    Busy,
    Level,
    Stretch,
    forecast_fan,
    forecast_parts,
    node_timeline,
    plan_against_actual,
    wait_histogram,
)
from preprov.model.demand import DemandCurve
from preprov.model.resources import Resources

T0 = datetime(2025, 10, 31, 0, 55, tzinfo=UTC)
ZONE = "Europe/Zurich"


def minutes(n: float) -> datetime:
    return T0 + timedelta(minutes=n)


def curve() -> DemandCurve:
    rng = np.random.default_rng(1)
    samples = rng.gamma(4.0, 5.0, (50, 30, 1)) * np.array([1.0, 4.0, 0.0, 0.0, 0.0])
    return DemandCurve("demo", T0, T0, 60, samples.astype(np.float32))


def snapshots() -> list[PoolSnapshot]:
    return [
        PoolSnapshot(
            "demo",
            minutes(i),
            {"local": {"ready": i % 5, "warming": 1}},
            Resources(cpu=8.0 * (i % 5)),
            Resources(cpu=4.0 * (i % 5)),
            1.0,
            i % 6,
            Resources(cpu=float(i == 7)),
        )
        for i in range(20)
    ]


STRETCHES = [Stretch("n1", "warming", minutes(0), minutes(2)), Stretch("n1", "ready", minutes(2), minutes(9))]
BUSY = [Busy("n1", "a", minutes(3), minutes(5)), Busy("n1", "b", minutes(4), minutes(6))]
DRAWINGS: dict[str, Callable[[str], bytes]] = {
    "fan": lambda fmt: forecast_fan(curve(), ZONE, fmt=fmt),
    "parts": lambda fmt: forecast_parts(curve(), ZONE, fmt=fmt),
    "fan with what came": lambda fmt: forecast_fan(
        curve(), ZONE, actual=Level([minutes(1), minutes(5)], [3.0, 9.0]), fmt=fmt
    ),
    "plan": lambda fmt: plan_against_actual(snapshots(), ZONE, fmt=fmt),
    "no plan": lambda fmt: plan_against_actual([], ZONE, fmt=fmt),
    "nodes": lambda fmt: node_timeline(STRETCHES, BUSY, ZONE, fmt=fmt),
    "no nodes": lambda fmt: node_timeline([], [], ZONE, fmt=fmt),
    "waits": lambda fmt: wait_histogram({"live": [0.0, 0.0, 3.0], "reactive": [90.0, 120.0], "none": []}, fmt=fmt),
    "no waits": lambda fmt: wait_histogram({}, fmt=fmt),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_is_drawn_as_png(name: str) -> None:
    assert DRAWINGS[name]("png").startswith(b"\x89PNG")


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_content_gives_the_same_svg(name: str) -> None:
    first = DRAWINGS[name]("svg")
    assert b"<svg" in first
    assert first == DRAWINGS[name]("svg")


def test_times_are_shown_in_the_zone_and_words_stay_text() -> None:
    svg = forecast_fan(curve(), ZONE, fmt="svg").decode()
    assert ">Friday 31 October 2025, Europe/Zurich<" in svg
    assert ">02:00<" in svg
    assert "Demand of pool demo, forecast 31 Oct 01:55" in svg


def test_a_fan_is_of_the_resource_that_was_asked_for() -> None:
    assert "memory, GiB" in forecast_fan(curve(), "UTC", kind="memory", fmt="svg", title="t").decode()
