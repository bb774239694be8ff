"""What the benchmark of nights on a real Slurm says of each night."""

from benchmarks.slurm.side import Terms
from benchmarks.slurm.summary import night_table, summary


def row(night: int, *waits: float, minutes: float = 80.0) -> dict[str, object]:
    ordered = sorted(waits)
    return {
        "night": night,
        "jobs": len(waits),
        "wait_median_s": ordered[len(ordered) // 2],
        "wait_p95_s": ordered[-1],
        "node_minutes": minutes,
        "core_minutes": 40.0,
        "boots": 3,
        "not_completed": [],
        "waits_s": ordered,
    }


def test_each_night_has_its_median_p95_and_node_minutes() -> None:
    trial = {
        "seed": 7,
        "nights": {
            "s7preprov": [row(0, 9, 9, 9), row(1, 0, 1, 3), row(2, 0, 0, 2, minutes=90.0)],
            "s7suspend30": [row(1, 2, 20, 50), row(2, 1, 30, 60, minutes=70.0)],
        },
        "whatif": {},
        "errors": {},
    }
    nights = summary([trial], Terms(), 1)["nights"]
    assert [(r["wait_median_s"], r["wait_p95_s"], r["node_minutes"]) for r in nights["preprov"]] == [
        (1, 3, 80.0),
        (0, 2, 90.0),
    ]
    assert "waits_s" not in nights["preprov"][0]
    assert night_table(nights).splitlines() == [
        "| seed, night | preprov | suspend30 |",
        "|---|---|---|",
        "| 7, 1 | 1.0 s, 3.0 s, 80.0 | 20.0 s, 50.0 s, 80.0 |",
        "| 7, 2 | 0.0 s, 2.0 s, 90.0 | 30.0 s, 60.0 s, 70.0 |",
    ]
