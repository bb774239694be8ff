"""What people submit: three kinds of file, one meaning, and errors that name file and key."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from preprov.model.errors import ConfigError, WorkError
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef, ImageRef
from preprov.sources.submission import read_submission

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
TOML = """
[dag]
id = "nightly"
tenant = "finance"
queue = "batch"
priority = 3
due = "+2m"
land_by = "+1h"
zone = "Europe/Zurich"
max_cost = 1.5

[[task]]
id = "extract"
command = "sh -c 'echo hi; sleep 1'"
requests = { cpu = "500m", memory = "512MiB", network = "100MB/s" }
runtime = "1m30s"
retries = 2
env = { STAGE = "raw" }

[[task]]
id = "load"
parents = ["extract"]
command = ["python", "-m", "load"]
instances = 3
gang = true
priority = 9
images = ["file:///images/etl", { uri = "file:///images/x.tar", digest = "sha256:00" }]
datasets = [{ uri = "s3://bucket/raw", version = "7", size = "2GiB" }]
affinity = { disk = "ssd" }
"""


def saved(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).write_text(text)
    return tmp_path / name


def dag(**over: Any) -> dict[str, Any]:
    return {"id": "d", "tasks": [{"id": "a"}]} | over


def from_json(tmp_path: Path, content: Any, **options: Any) -> Any:
    return read_submission(saved(tmp_path, "d.json", json.dumps(content)), **({"now": NOW} | options))


def test_everything_a_toml_file_can_say(tmp_path: Path) -> None:
    (d,) = read_submission(saved(tmp_path, "d.toml", TOML), now=NOW)
    extract, load = d.tasks
    assert (d.dag_id, d.tenant, d.queue, d.priority, d.zone, d.max_cost_usd) == (
        *("nightly", "finance", "batch", 3),
        *("Europe/Zurich", 1.5),
    )
    assert d.due == datetime(2026, 1, 5, 12, 2, tzinfo=UTC)
    assert d.land_by == datetime(2026, 1, 5, 13, 2, tzinfo=UTC)
    assert extract.command == ("sh", "-c", "echo hi; sleep 1")
    assert extract.request == Resources(cpu=0.5, memory=0.5, network=100)
    assert (extract.runtime_hint_s, extract.retries, dict(extract.env)) == (90, 2, {"STAGE": "raw"})
    assert load.command == ("python", "-m", "load")
    assert (load.parents, load.instances, load.gang, load.priority) == (("extract",), 3, True, 9)
    assert load.images == (ImageRef("file:///images/etl"), ImageRef("file:///images/x.tar", "sha256:00"))
    assert load.datasets == (DatasetRef("s3://bucket/raw", "7", "", 2.0),)
    assert dict(load.affinity) == {"disk": "ssd"}
    assert load.request == Resources(), "what it asks for is left to its route"


def test_python_json_and_toml_say_the_same(tmp_path: Path) -> None:
    plain = {"id": "d", "due": "+2m", "tasks": [{"id": "a", "command": "true"}, {"id": "b", "parents": ["a"]}]}
    toml = 'id = "d"\ndue = "+2m"\n[[tasks]]\nid = "a"\ncommand = "true"\n[[tasks]]\nid = "b"\nparents = ["a"]\n'
    files = {
        "d.json": json.dumps(plain),
        "d.toml": toml,
        "d.py": f"dag = {plain!r}",
        "e.py": f"dags = [{plain!r}]",
        "e.json": json.dumps({"dag": plain}),
        "f.json": json.dumps([plain]),
        "s.py": "from preprov.model.resources import ZERO\nfrom preprov.model.work import DagSpec, TaskSpec\n"
        "from datetime import datetime, UTC\n"
        'dag = DagSpec("d", (TaskSpec("a", ("true",), request=ZERO), TaskSpec("b", parents=("a",), request=ZERO)),'
        " due=datetime(2026, 1, 5, 12, 2, tzinfo=UTC))",
    }
    read = [read_submission(saved(tmp_path, name, text), now=NOW) for name, text in files.items()]
    assert all(r == read[0] for r in read)


def test_several_dags_in_one_file(tmp_path: Path) -> None:
    toml = '[[dag]]\nid = "x"\n[[dag.task]]\nid = "a"\n[[dag]]\nid = "y"\npool = "gpu"\n[[dag.task]]\nid = "a"\n'
    x, y = read_submission(saved(tmp_path, "d.toml", toml), pool="night", now=NOW)
    assert (x.dag_id, x.pool, y.dag_id, y.pool) == ("x", "night", "y", "gpu")
    with pytest.raises(WorkError, match="DAG id used twice: x"):
        read_submission(saved(tmp_path, "d.toml", toml.replace('"y"', '"x"')))


@pytest.mark.parametrize(
    ("over", "due", "land_by"),
    [
        ({"due": "14:00"}, "14:00", None),
        ({"due": "14:00", "zone": "Europe/Zurich"}, "13:00", None),
        ({"due": "2026-01-05T15:00"}, "15:00", None),
        ({"due": "14:00", "land_by": "15:30"}, "14:00", "15:30"),
        ({"land_by": "+30m"}, None, "12:30"),
        ({"due": "+1h", "deadline": "+30m"}, "13:00", "13:30"),
        ({"schedule": "0 18 * * *", "land_by": "+2h"}, None, "20:00"),
        ({"schedule": "0 18 * * *", "land_by": "+2h", "zone": "Europe/Zurich"}, None, "19:00"),
    ],
)
def test_when(tmp_path: Path, over: dict[str, Any], due: str | None, land_by: str | None) -> None:
    (d,) = from_json(tmp_path, dag(**over))
    assert (d.due and f"{d.due:%H:%M}") == due
    assert (d.land_by and f"{d.land_by:%H:%M}") == land_by


def test_zone_of_the_caller_is_the_default(tmp_path: Path) -> None:
    (d,) = from_json(tmp_path, dag(due="14:00"), zone="Asia/Tokyo")
    assert (d.zone, d.due) == ("Asia/Tokyo", datetime(2026, 1, 6, 5, 0, tzinfo=UTC))


def test_a_toml_time_is_a_time(tmp_path: Path) -> None:
    text = 'id = "d"\ndue = 2026-02-01T03:00:00\nland_by = 2026-02-01T05:00:00Z\ntask = [{ id = "a" }]\n'
    (d,) = read_submission(saved(tmp_path, "d.toml", text), zone="Europe/Zurich", now=NOW)
    assert (d.due, d.land_by) == (datetime(2026, 2, 1, 2, tzinfo=UTC), datetime(2026, 2, 1, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    ("content", "what", "where", "hint"),
    [
        (dag(tenent="x"), "unknown key 'tenent'", "tenent", "tenant"),
        (dag(tasks=[{"id": "a"}, {"id": "b", "parnets": []}]), "unknown key 'parnets'", "tasks[2].parnets", "parents"),
        (dag(tasks=[{"id": "a", "requests": {"cpus": 1}}]), "unknown key 'cpus'", "tasks[1].requests.cpus", "cpu"),
        (dag(zzzz=1), "unknown key 'zzzz'", "zzzz", "known here: id, tasks"),
        (dag(tasks=[{"id": "a", "requests": {"cpu": "lots"}}]), "'lots' is not cores", "tasks[1].requests.cpu", ""),
        (dag(tasks=[{"id": "a", "runtime": "-5m"}]), "'-5m' is not a duration", "tasks[1].runtime", ""),
        (dag(tasks=[{"id": "a", "runtime": 0}]), "greater than 0", "tasks[1].runtime", ""),
        (dag(tasks=[{"id": "a", "instances": 0}]), "greater than or equal to 1", "tasks[1].instances", ""),
        (dag(tasks=[{"id": "a", "command": "echo 'x"}]), "cannot be split", "tasks[1].command", ""),
        (dag(zone="Europe/Zurrich"), "unknown time zone 'Europe/Zurrich'; did you mean 'Europe/Zurich'?", "zone", ""),
        (dag(schedule="0 25 * * *"), "not a cron expression", "schedule", ""),
        (dag(schedule="* * * * * *"), "five fields", "schedule", ""),
        (dag(due="soon"), "due: 'soon' is not a time", "", ""),
        (dag(max_cost=-1), "greater than or equal to 0", "max_cost", ""),
        ({"tasks": [{"id": "a"}]}, "Field required", "id", ""),
        (dag(id=""), "at least 1 character", "id", ""),
        ("text", "a submission is a table of keys", "", ""),
        ({"dag": [dag(), dag(id="e")], "task": [{"id": "x"}]}, "task stands beside the DAG", "", "dag.task"),
    ],
)
def test_a_wrong_file_is_told_by_file_and_key(tmp_path: Path, content: Any, what: str, where: str, hint: str) -> None:
    with pytest.raises(ConfigError) as e:
        from_json(tmp_path, content)
    assert what in e.value.what
    assert e.value.where.startswith(str(tmp_path / "d.json"))
    assert e.value.where.endswith(where)
    assert hint in e.value.hint
    assert e.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (dag(tasks=[{"id": "a", "parents": ["b"]}, {"id": "b", "parents": ["a"]}]), "has a cycle"),
        (dag(tasks=[{"id": "a", "parents": ["gone"]}]), "unknown parent gone"),
        (dag(tasks=[{"id": "a"}, {"id": "a"}]), "task id used twice: a"),
        (dag(tasks=[]), "has no tasks"),
        ({}, "holds no DAG"),
        ({"dags": []}, "holds no DAG"),
    ],
)
def test_a_malformed_dag_is_told_by_file(tmp_path: Path, content: Any, what: str) -> None:
    with pytest.raises(WorkError, match=what) as e:
        from_json(tmp_path, content)
    assert e.value.where.startswith(str(tmp_path / "d.json"))


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("d.toml", "id = ", "d.toml"),
        ("d.json", '{\n"id": }', "d.json:2"),
        ("d.py", "x = 1\nraise RuntimeError('no')\n", "d.py:2"),
        ("d.py", "def f(:\n", "d.py"),
        ("d.py", "import sys\nsys.exit(3)\n", "d.py:2"),
        ("d.yaml", "id: d", "d.yaml"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, text: str, where: str) -> None:
    with pytest.raises(ConfigError) as e:
        read_submission(saved(tmp_path, name, text))
    assert e.value.where == str(tmp_path / where)


@pytest.mark.parametrize("name", ["absent.toml", "absent.py"])
def test_an_absent_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_submission(tmp_path / name)


def test_a_python_file_without_a_dag(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="neither `dag` nor `dags`"):
        read_submission(saved(tmp_path, "d.py", "x = 1"))
