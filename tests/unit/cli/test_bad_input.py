"""Bad input: a one-paragraph error or a counted reject, exit code 1 or 2, and the store as it was."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.unit.cli.conftest import nights

SWF = "; UnixStartTime: 749458803\n; TimeZoneString: US/Pacific\n; MaxProcs: 128\n" + "".join(
    f"{i} {i * 100} 0 600 4 -1 -1 4 900 -1 1 {i % 3} 1 -1 1 -1 -1 -1\n" for i in range(1, 41)
)


def one_paragraph(result, code):
    assert result.code == code
    assert result.out == ""
    assert 1 <= len(result.err.strip().splitlines()) <= 3, result.err
    assert "Traceback" not in result.err
    assert result.err.startswith("error: ")


def state(preprov):
    """Everything that a refused command must leave alone."""
    listed = preprov("pool", "list", "-o", "json").json["pools"]
    runs = preprov("run", "list", "-o", "json").json["runs"]
    return [p["pool"] for p in listed], runs


def test_a_truncated_gz_is_an_error_and_the_store_is_as_it_was(preprov, tmp_path):
    whole = gzip.compress(SWF.encode() * 50)
    (tmp_path / "cut.swf.gz").write_bytes(whole[: len(whole) // 2])
    before = state(preprov)
    result = preprov("ingest", "swf", "cut.swf.gz", "--pool", "x")
    one_paragraph(result, 1)
    assert "cut.swf.gz" in result.err
    assert state(preprov) == before


def test_three_broken_lines_are_three_rejects_with_line_and_reason(preprov, tmp_path):
    lines = SWF.splitlines()
    lines[10], lines[20], lines[30] = "12 garbage", "not a job at all", "28 5 0 -7 4 -1 -1 4 9 -1 1 1 1 -1 1 -1 -1 -1"
    (tmp_path / "log.swf").write_text("\n".join(lines) + "\n")
    result = preprov("ingest", "swf", "log.swf", "--pool", "x", "-o", "json")
    assert result.code == 0
    assert (result.json["runs"], result.json["rejects"]) == (37, 3)
    kept = [json.loads(line) for line in Path(result.json["rejects_file"]).read_text().splitlines()]
    assert [k["line"] for k in kept] == [11, 21, 31]
    assert all(k["reason"] for k in kept)


def test_a_parquet_without_parents_says_which_column_it_lacks(preprov, tmp_path):
    (tmp_path / "t.csv").write_text(nights())
    frame = pd.read_csv(tmp_path / "t.csv")
    frame.drop(columns="parents").to_parquet(tmp_path / "t.parquet")
    before = state(preprov)
    result = preprov("ingest", "dags", "t.parquet", "--pool", "x")
    one_paragraph(result, 1)
    assert "parents" in result.err
    assert "--map" in result.err
    assert state(preprov) == before


def test_a_cyclic_dag_is_refused_at_the_door(preprov, tmp_path):
    (tmp_path / "d.toml").write_text(
        '[dag]\nid = "d"\n[[task]]\nid = "a"\nparents = ["b"]\n[[task]]\nid = "b"\nparents = ["a"]\n'
    )
    preprov("init")
    result = preprov("submit", "d.toml", "--pool", "laptop")
    one_paragraph(result, 2)
    assert "cycle" in result.err
    assert preprov("run", "list", "-o", "json").json["runs"] == []


def test_a_cyclic_run_in_a_table_is_rejected_and_the_others_are_kept(preprov, tmp_path):
    bad = (
        "loop/1,loop,bi,,manual,,2025-03-01T05:00:00Z,a,A,b,1,1,10\n"
        "loop/1,loop,bi,,manual,,2025-03-01T05:00:00Z,b,B,a,1,1,10\n"
    )
    (tmp_path / "t.csv").write_text(nights(bad=bad))
    result = preprov("ingest", "dags", "t.csv", "--pool", "x", "--tz", "UTC", "-o", "json")
    assert (result.json["runs"], result.json["rejects"]) == (5, 2)


def test_a_negative_runtime_is_a_counted_reject(preprov, tmp_path):
    bad = "adhoc/1,adhoc,bi,,manual,,2025-03-01T05:00:00Z,a,A,,1,1,-10\n"
    (tmp_path / "t.csv").write_text(nights(bad=bad))
    result = preprov("ingest", "dags", "t.csv", "--pool", "x", "--tz", "UTC", "-o", "json")
    assert (result.code, result.json["runs"], result.json["rejects"]) == (0, 5, 1)


def test_a_file_without_a_usable_row_is_an_error(preprov, tmp_path):
    (tmp_path / "empty.swf").write_text("; MaxProcs: 4\n1 0 0 -1 4 -1 -1 4 9 -1 1 1 1 -1 1 -1 -1 -1\n")
    before = state(preprov)
    one_paragraph(preprov("ingest", "swf", "empty.swf", "--pool", "x"), 1)
    assert state(preprov) == before


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    [
        ('[[pool]]\nname = "a"\nobjektive = {}\n', "objektive", "objective"),
        ("[gaurd]\nmax_nodes = 3\n", "gaurd", "guard"),
        ('[[pool]]\nname = "a"\n[[pool.group]]\nname = "g"\nprovder = "local"\n', "provder", "provider"),
        ("[controller]\nzone = 'Europe/Zurick'\n", "Europe/Zurick", "Europe/Zurich"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_nearest_right_one(preprov, tmp_path, text, wrong, right):
    (tmp_path / "preprov.toml").write_text(text)
    result = preprov("pool", "list")
    one_paragraph(result, 2)
    assert wrong in result.err
    assert right in result.err


def test_an_unreachable_database_is_one_paragraph_without_its_password(preprov, monkeypatch):
    monkeypatch.setenv("PREPROV_STORE__URL", "postgresql+psycopg://me:hunter2@127.0.0.1:1/preprov")
    result = preprov("pool", "list")
    one_paragraph(result, 1)
    assert "hunter2" not in result.err
    assert "127.0.0.1" in result.err


def test_errors_are_json_where_json_was_asked_for(preprov):
    result = preprov("forecast", "run", "--pool", "nowhere", "-o", "json")
    assert result.code == 2
    assert {"error", "what", "where", "hint", "schema", "command"} <= result.json.keys()
    assert result.json["error"] == "ConfigError"


def test_usage_errors_end_with_two(preprov):
    assert preprov("no-such-command").code == 2
    assert preprov("forecast", "run").code == 2


@pytest.mark.parametrize("when", ["yesterday", "25:99", "2025-13-01T00:00", "tomorrow night"])
def test_a_time_that_is_none_is_said_so(preprov, tmp_path, when):
    (tmp_path / "t.csv").write_text(nights())
    preprov("ingest", "dags", "t.csv", "--pool", "x", "--tz", "UTC")
    result = preprov("queue", "analyze", "--pool", "x", "--at", when)
    one_paragraph(result, 2)
    assert when in result.err


def test_secrets_are_masked_in_what_is_shown(preprov, monkeypatch, tmp_path):
    monkeypatch.setenv("PREPROV_STORE__URL", "postgresql+psycopg://me:hunter2@db.example/preprov")
    shown = preprov("config", "show", "-o", "json")
    assert shown.code == 0
    assert "hunter2" not in shown.out + shown.err
    assert "***" in shown.json["settings"]["store_url"]
