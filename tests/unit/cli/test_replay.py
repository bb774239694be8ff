"""preprov replay: the document, the report, and waits that anybody can recompute from the exported capacity."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.unit.cli.test_commands import valid
from tests.unit.replay.recompute import waits

HEAD = "run_id,dag_id,tenant,schedule,trigger,scheduled_for,submit,task,operator,parents,cpu,memory_gib,runtime_s"


def nights(days: int = 12) -> str:
    """Waves of three shapes at 01:00, 09:00 and 17:00, a little late."""
    rng, rows = np.random.default_rng(4), [HEAD]
    for day in range(1, days + 1):
        for hour in (1, 9, 17):
            when = f"2025-03-{day:02d}T{hour:02d}"
            head = f"d{hour}/{day},d{hour},t{hour % 2},0 {hour} * * *,scheduled,{when}:00:00Z"
            head += f",{when}:{rng.integers(0, 6)}{rng.integers(1, 9)}:{rng.integers(10, 59)}.25Z"
            rows.append(f"{head},first,A,,{rng.integers(1, 9)},4,{rng.uniform(60, 900):.2f}")
            for k in range(int(rng.integers(5, 30))):
                cpu, memory = rng.integers(1, 9), rng.integers(1, 40)
                rows.append(f"{head},mid{k},B,first,{cpu},{memory},{rng.uniform(60, 1800):.2f}")
            rows.append(f"{head},last,C,mid0|mid1,{rng.integers(1, 9)},8,{rng.uniform(60, 900):.2f}")
    return "\n".join(rows) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["reactive=600", "reactive-max=1", "static-stopped=4", "aws-predictive=0.7"])
def test_waits_from_the_exported_capacity_agree_to_the_second(preprov: Callable, tmp_path: Path, policy: str):
    (tmp_path / "t.csv").write_text(nights())
    name = policy.split("=")[0]
    words = ["--policies", name, "--knob", policy, "--lead-scale", "1", "--days", "3", "--workers", "1", "--tz", "UTC"]
    told = preprov("replay", "t.csv", *words, "--export-capacity", "c.parquet", "-o", "json")
    assert told.code == 0, told.err
    document = valid(told.json)
    (row,) = document["lead_scale"]["1"]["policies"][name]
    capacity = pd.read_parquet(tmp_path / "c.parquet")
    assert list(capacity.columns[:6]) == ["ts", "group", "state", "ready_nodes", "used_cpu", "used_memory"]
    trace = pd.read_csv(tmp_path / "t.csv")
    since, until = (pd.Timestamp(document["judged"][k]) for k in ("from", "to"))
    begun = pd.to_datetime(trace.submit) >= since - pd.Timedelta(days=1)
    found = waits(trace[begun], capacity, 16.0, 64.0)
    epoch = pd.Timestamp(0, tz="UTC")
    # nominal timing says what is judged
    judged = found.merge(nominal(trace), on=["run_id", "task"])
    judged = judged[judged.nominal.between(*((t - epoch) / pd.Timedelta(seconds=1) for t in (since, until)), "left")]
    assert len(judged) == document["judged"]["instances"] == row["instances"]
    waited = (judged.start - judged.ready).to_numpy()
    assert waited.mean() == pytest.approx(row["wait_mean_s"], abs=1e-3)
    assert waited.max() > 0
    assert np.quantile(waited, 0.95, method="inverted_cdf") == pytest.approx(row["wait_p95_s"], abs=1e-3)
    assert (waited <= 1e-5).mean() == pytest.approx(row["warm_hit_ratio"])


def nominal(trace: pd.DataFrame) -> pd.DataFrame:
    """When each task would have been ready had nothing waited."""
    at: dict[tuple[str, str], float] = {}
    end: dict[tuple[str, str], float] = {}
    for r in trace.itertuples():  # parents stand before their children
        parents = str(r.parents).split("|") if isinstance(r.parents, str) else []
        submit = pd.Timestamp(r.submit).timestamp()
        at[r.run_id, r.task] = max([submit, *(end[r.run_id, p] for p in parents)])
        end[r.run_id, r.task] = at[r.run_id, r.task] + r.runtime_s
    return pd.DataFrame([(*k, v) for k, v in at.items()], columns=["run_id", "task", "nominal"])


def test_policies_on_a_table(preprov: Callable, tmp_path: Path):
    (tmp_path / "t.csv").write_text(nights())
    words = ["t.csv", "--policies", "reactive,static-running,clairvoyant", "--quick", "--days", "1", "--tz", "UTC"]
    words += ["--workers", "1", "--resume", "kept"]
    told = preprov("replay", *words, "--report", "r.html", "-o", "json")
    assert told.code == 0, told.err
    document = valid(told.json)
    assert set(document["lead_scale"]) == {"1"}
    by = document["lead_scale"]["1"]["policies"]
    assert {n: len(rows) for n, rows in by.items()} == {"reactive": 3, "static-running": 3, "clairvoyant": 3}
    least = document["lead_scale"]["1"]["clairvoyant"][0]["cost_usd"]
    assert 0 < least <= min(r["cost_usd"] for r in by["static-running"] if r["wait_mean_s"] == 0)
    page = (tmp_path / "r.html").read_text()
    assert page.count("<svg") == 2
    assert "http://" not in page
    assert "https://" not in page
    assert "<td>t1</td>" in page, "each tenant has a row"
    again = preprov("replay", *words)
    assert again.code == 0
    assert "Lead" in again.out or "lead times x 1" in again.out
    assert len(list((tmp_path / "kept").glob("*.json"))) == 9
    hidden = preprov("replay", *words, "--schedules", "hidden", "-o", "json").json
    assert hidden["schedules"] == "hidden"
    assert hidden["judged"] == document["judged"]
    text = json.dumps(hidden["lead_scale"]["1"]["clairvoyant"])
    assert text == json.dumps(document["lead_scale"]["1"]["clairvoyant"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--policies", "best"], "there is no policy"),
        (["--policies", "reactive", "--knob", "reactive=x"], "not numbers"),
        (["--policies", "reactive", "--knob", "schedule=1"], "not POLICY=VALUE"),
        (["--lead-scale", "slow"], "not numbers"),
        (["--until", "tomorrow"], "is not a time"),
    ],
)
def test_what_cannot_be_played_is_said(preprov: Callable, tmp_path: Path, words: list[str], says: str):
    (tmp_path / "t.csv").write_text(nights(3))
    told = preprov("replay", "t.csv", "--tz", "UTC", *words)
    assert told.code == 2
    assert says in told.err
    assert "no file" in preprov("replay", "absent.csv").err
