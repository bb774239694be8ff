"""`preprov backtest sizing` as a user meets it: a trace goes in, a document and a picture come out."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

from preprov.cli.main import run
from tests.unit.profiles.runs import pipeline

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "reference" / "schemas" / "backtest-sizing.json"


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ran = pipeline(16).frame
    written = pd.DataFrame(
        {
            "process": ran["process"],
            "tag": ran["tag"],
            "status": ["FAILED", *["COMPLETED"] * (len(ran) - 1)],
            "submit": ran["submitted"] * 1e3,
            "start": ran["started"] * 1e3,
            "complete": ran["ended"] * 1e3,
            "realtime": ran["runtime_s"] * 1e3,
            "memory": ran["memory"] * 2**30,
            "peak_rss": ran["peak"] * 2**30,
            "wchar": ran["written_bytes"].fillna(0),
        }
    )
    file = tmp_path_factory.mktemp("trace") / "small.parquet"
    written.assign(workflow="small").to_parquet(file)
    return file


def asked(*words: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([str(w) for w in ("backtest", "sizing", *words)])
    return code, out.getvalue(), err.getvalue()


def test_the_document_has_ours_and_each_peer_by_workflow(trace: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sizing.svg"
    code, out, _ = asked(trace, "--workers", "1", "--seeds", "2", "--trade-off", "--picture", picture, "-o", "json")
    document: Any = json.loads(out)
    assert code == 0
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    scores = document["workflows"]["small"]
    assert list(scores) == ["ours", "presets", "witt-lr", "witt-p95", "tovar"]
    assert all(set(s) == {"gbh", "failures", "maq"} and np.isfinite(list(s.values())).all() for s in scores.values())
    assert scores["presets"]["failures"] == 0
    assert document["rejects"] == 1
    assert len(document["details"]["small"]["seeds"]) == 2
    assert set(document["sensitivity"]) == {"half_time_to_failure", "only_what_had_ended"}
    assert [p["failure"] for p in document["trade_off"]["small"]] == [1.0, 2.0, 4.0, 8.0]
    assert picture.read_bytes().startswith(b"<?xml")


def test_a_person_gets_a_table_and_hears_what_was_left_out(trace: Path) -> None:
    code, out, _ = asked(trace, "--workers", "1", "--seeds", "1", "--no-sensitivity")
    assert code == 0
    assert "witt-p95" in out
    assert "1 row(s) rejected" in out


def test_a_workflow_that_is_not_there(trace: Path) -> None:
    code, _, err = asked(trace, "--workflow", "none")
    assert code != 0
    assert "small" in err
