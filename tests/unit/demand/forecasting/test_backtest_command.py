"""`preprov backtest forecast` as a user meets it: a file goes in, a document and a picture come out."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

from preprov.cli.main import run
from tests.unit.demand.forecasting.series_samples import daily

ROOT = Path(__file__).resolve().parents[4]
SCHEMA = ROOT / "docs" / "reference" / "schemas" / "backtest-forecast.json"
CHEAP = ("--peer", "last", "--peer", "snaive24", "--workers", "1", "-o", "json")

FORECASTER = """
import numpy as np


class Fitted:
    def __init__(self, level):
        self.level = level

    def predict(self, history, horizon, quantiles):
        return np.tile(self.level * (0.5 + np.asarray(quantiles)), (horizon, 1))

    def state(self):
        return {"level": np.array(self.level)}


class Steady:
    name = "steady"
    min_steps = 24

    def fit(self, history, *, seed):
        return Fitted(float(np.nanmean(history.values)))

    def restore(self, state):
        return Fitted(float(state["level"]))
"""


def written(file: Path, series: dict[str, np.ndarray]) -> Path:
    parts = []
    for name, values in series.items():
        stamps = pd.date_range("2025-03-03", periods=len(values), freq="h")
        parts.append(pd.DataFrame({"series": name, "ts": stamps, "demand": values}))
    pd.concat(parts).to_csv(file, index=False)
    return file


def asked(*words: object) -> tuple[int, Any]:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        code = run([str(w) for w in ("backtest", "forecast", *words)])
    return code, json.loads(out.getvalue())


def installed(folder: Path, body: str = FORECASTER) -> dict[str, str]:
    """The environment of a process that finds a package with our entry point, as an installer leaves it."""
    info = folder / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "theirs.py").write_text(body)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[preprov.forecasters]\nsteady = theirs:Steady\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def outside(env: dict[str, str], *words: object) -> tuple[int, Any]:
    command = [sys.executable, "-m", "preprov.cli.main", "backtest", "forecast", *map(str, words)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_a_quick_look_at_two_series(tmp_path: Path, kind: str) -> None:
    table = written(tmp_path / "t.csv", {"a": daily(9), "b": daily(8, seed=1), "short": daily(1)})
    picture = tmp_path / f"out.{kind}"
    code, document = asked(table, "--quick", "--days", 2, *CHEAP, "--picture", picture, "--resume", tmp_path / "kept")
    assert code == 0
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert set(document["series"]) == {"a", "b"}
    assert list(document["left_out"]) == ["short"]
    measures = {"wql", "wape", "mase", "pinball95", "coverage80", "coverage90", "fit_seconds"}
    for row in document["series"].values():
        assert measures | {"peers"} <= set(row)
        assert set(row["peers"]) == {"last", "snaive24"}
        assert all(measures <= set(peer) for peer in row["peers"].values())
    summary = {"skill_vs_snaive24", "ratio_vs_best_peer", "worst_ratio_vs_last", "mean_coverage80"}
    assert summary == set(document["summary"])
    assert picture.read_bytes().startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    again = asked(table, "--quick", "--days", 2, *CHEAP, "--resume", tmp_path / "kept")[1]
    assert again["series"] == document["series"]


def dirty(kind: str) -> np.ndarray:
    values = daily(8)
    if kind == "gaps":
        values[60:75], values[100], values[-30:-20] = np.nan, np.nan, np.nan
    elif kind == "negative, infinite and no numbers":
        values[50], values[51], values[52] = -5.0, np.inf, np.nan
    elif kind == "ten times as high from one day to the next":
        values[6 * 24 :] *= 10
    elif kind == "constant":
        values[:] = 7.0
    elif kind == "all zeros":
        values[:] = 0.0
    elif kind == "three days only":
        values = values[: 3 * 24 + 1]
    return values


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "kind",
    [
        "gaps",
        "negative, infinite and no numbers",
        "ten times as high from one day to the next",
        "constant",
        "all zeros",
        "three days only",
    ],
)
def test_dirty_histories_are_judged_all_the_same(tmp_path: Path, kind: str) -> None:
    code, document = asked(written(tmp_path / "t.csv", {"a": dirty(kind)}), "--days", 1, *CHEAP)
    assert code == 0
    row = document["series"]["a"]
    assert (row["wql"] is None) == (kind == "all zeros")  # there is no demand to divide by
    assert 0 <= row["coverage80"] <= 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_hour_that_the_clocks_repeat_stands_twice(tmp_path: Path) -> None:
    local = pd.date_range("2025-10-20", "2025-10-29", freq="h", tz="Europe/Zurich").tz_localize(None)
    assert local.duplicated().sum() == 1
    values = daily(10)[: len(local)]
    table = tmp_path / "t.csv"
    pd.DataFrame({"ts": local, "demand": values}).to_csv(table, index=False)
    code, document = asked(table, "--days", 3, "--tz", "Europe/Zurich", *CHEAP)
    assert code == 0
    assert document["series"]["t"]["points"] == 72


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("series,when,cores\na,2025-01-01,3\n", "lacks column ts, demand"),
        ("ts,demand\n2025-01-01T00:00,-1\n2025-01-01T01:00,nan\n", "no usable series"),
        ("ts,demand\n2025-01-01T00:00,1\n2025-01-01T01:00,2\n", "too few whole days"),
    ],
)
def test_what_cannot_be_judged_is_an_error_that_says_why(tmp_path: Path, rows: str, says: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(rows)
    code, document = asked(table, *CHEAP)
    assert code == 1
    assert says in document["what"]


@pytest.mark.parametrize("words", [("--series", "zzz"), ("--peer", "oracle"), ("--member", "oracle")])
def test_a_name_that_nobody_has_is_an_error(tmp_path: Path, words: Sequence[str]) -> None:
    code, document = asked(written(tmp_path / "t.csv", {"a": daily(5)}), *CHEAP, *words)
    assert code == 2
    assert words[1] in document["what"]


def test_a_picture_of_no_known_kind_is_refused_before_the_work(tmp_path: Path) -> None:
    code, document = asked(written(tmp_path / "t.csv", {"a": daily(5)}), *CHEAP, "--picture", "x.gif")
    assert code == 2
    assert "x.gif" in document["what"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_installed_forecaster_stands_beside_us_and_joins_us(tmp_path: Path) -> None:
    env = installed(tmp_path / "site")
    table = written(tmp_path / "t.csv", {"a": daily(8)})
    words = ("--days", 1, "--workers", 1, "--peer", "last", "-o", "json")
    code, beside = outside(env, table, *words, "--peer", "steady")
    assert code == 0
    assert beside["series"]["a"]["peers"]["steady"]["stood_in"] == 0
    assert beside["series"]["a"]["peers"]["steady"]["wql"] > 0
    assert outside(env, table, *words, "--member", "steady")[0] == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_installed_forecaster_that_cannot_be_loaded_is_an_error(tmp_path: Path) -> None:
    env = installed(tmp_path / "site", "raise ImportError('half installed')\n")
    code, document = outside(env, written(tmp_path / "t.csv", {"a": daily(8)}), "--peer", "steady", "-o", "json")
    assert code == 1
    assert "half installed" in document["what"]
