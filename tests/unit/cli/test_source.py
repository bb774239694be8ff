"""Sources and routes on the command line, with a place that is a list."""

import tomllib
from datetime import UTC, datetime, timedelta

import pytest

from preprov import sourcing
from preprov.contracts import Reject
from preprov.model.time import epoch
from preprov.model.work import Schedule
from preprov.testing.listed import ListedPlace, ListedRun
from preprov.testing.store_examples import T0
from tests.unit.cli.conftest import nights
from tests.unit.cli.test_commands import valid

NAN = float("nan")


@pytest.fixture
def place(monkeypatch):
    place = ListedPlace("prod", at=T0)
    monkeypatch.setattr(sourcing, "live_source", lambda section, clock: place.source())
    return place


@pytest.fixture
def added(preprov, place):
    words = ("url=https://airflow.example.com", "auth=token", "user=me", "password.env=AIRFLOW_PASSWORD", "every=15")
    result = preprov("source", "add", "prod", "airflow", *words, "-o", "json")
    assert result.code == 0, result.err
    valid(result.json)
    return preprov


def chain(run_id: str, dag: str, queue: str = "", cpu: float = 2.0, ago: timedelta = timedelta(hours=1)) -> ListedRun:
    return ListedRun(run_id, dag, epoch(datetime.now(UTC) - ago), (("a", queue, cpu),))


def ended(run: ListedRun, hours: float) -> ListedRun:
    run.ended = run.submit + 3600 * hours
    return run


def test_a_source_is_added_to_the_file_and_the_rest_of_it_stays(added, tmp_path):
    text = (tmp_path / "preprov.toml").read_text()
    (section,) = tomllib.loads(text)["source"]
    assert section == {
        "name": "prod",
        "kind": "airflow",
        "url": "https://airflow.example.com",
        "auth": "token",
        "user": "me",
        "password": {"env": "AIRFLOW_PASSWORD"},
        "every": 15,
    }
    (tmp_path / "preprov.toml").write_text("# mine\n" + text)
    assert added("source", "add", "file", "swf", "path=a.swf", "pool=p", "--no-test").code == 0
    now = (tmp_path / "preprov.toml").read_text()
    assert now.startswith("# mine\n" + text)
    assert len(tomllib.loads(now)["source"]) == 2
    assert "already" in added("source", "add", "prod", "swf", "path=a.swf", "pool=p").err
    assert (tmp_path / "preprov.toml").read_text() == now


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("prod", "airflow"), "`url` must begin with"),
        (("prod", "airflow", "url=https://x", "pasword.env=X"), "did you mean 'password'"),
        (("prod", "airflow", "url=https://x", "user=a"), "needs a `password`"),
        (("prod", "airflow", "url=https://x", 'password="hunter2"', "user=a"), "password"),
        (("prod", "airflow", "url"), "is not key=value"),
        (("prod", "nothing"), "unknown kind 'nothing'"),
        (("../x", "airflow", "url=https://x"), "name"),
        (("prod", "airflo", "url=https://x"), "did you mean 'airflow'"),
    ],
)
def test_what_makes_no_sense_is_not_added(preprov, tmp_path, words, said):
    result = preprov("source", "add", *words)
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "preprov.toml").exists()


def test_what_does_not_work_is_not_added(preprov, place, tmp_path):
    place.fail_after(0)
    result = preprov("source", "add", "prod", "airflow", "url=https://x")
    assert result.code == 1
    assert "the list does not answer" in result.err
    assert not (tmp_path / "preprov.toml").exists()


def test_testing_says_what_can_be_seen_and_what_not(added, place):
    place.start(3)
    told = valid(added("source", "test", "-o", "json").json)
    assert told["ok"] is True
    assert told["findings"][0]["found"] == "3 to be seen"
    place.fail_after(0)
    result = added("source", "test", "prod", "-o", "json")
    assert result.code == 1
    assert valid(result.json)["findings"][0]["hint"] == "wait"
    assert "no source 'x'" in added("source", "test", "x").err


def test_a_pass_and_another_one(added, place, tmp_path):
    place.start(4)
    (first,) = valid(added("source", "sync", "-o", "json").json)["passes"]
    assert (first["new"], first["unrouted"]) == (4, 4)
    (tmp_path / "preprov.toml").write_text((tmp_path / "preprov.toml").read_text() + '[[route]]\npool = "batch"\n')
    (again,) = valid(added("source", "sync", "--again", "-o", "json").json)["passes"]
    assert (again["new"], again["changed"], again["pools"]) == (0, 4, ["batch"])
    listed = valid(added("source", "list", "-o", "json").json)["sources"]
    assert (listed[0]["open"], listed[0]["over"], listed[0]["pools"]) == (4, 0, ["batch"])
    assert "batch" in added("source", "list").out
    queue = added("queue", "analyze", "--pool", "batch", "--at", (T0 + timedelta(minutes=1)).isoformat(), "-o", "json")
    assert queue.json["queued"]["runs"] == 4


def test_a_file_is_a_source_too(preprov, tmp_path):
    (tmp_path / "t.csv").write_text(nights(3))
    assert preprov("source", "add", "nights", "dags", "path=t.csv", "pool=bi", "-o", "json").code == 0
    (done,) = valid(preprov("source", "sync", "-o", "json").json)["passes"]
    assert (done["new"], done["tasks"], done["pools"]) == (3, 6, ["bi"])
    (row,) = valid(preprov("source", "list", "-o", "json").json)["sources"]
    assert (row["kind"], row["where"]) == ("dags", "t.csv")


def test_a_source_that_is_configured_no_more_is_still_told(added, place, tmp_path):
    place.start(1)
    added("source", "sync")
    (tmp_path / "preprov.toml").write_text("")
    (row,) = valid(added("source", "list", "-o", "json").json)["sources"]
    assert (row["source"], row["configured"]) == ("prod", False)
    assert "preprov source add" in added("source", "sync").err


def renamed(tmp_path, old="prod", new="airflow"):
    config = tmp_path / "preprov.toml"
    config.write_text(config.read_text().replace(f'name = "{old}"', f'name = "{new}"'))


@pytest.fixture
def read(added, place, tmp_path):
    """Something read under the name prod, which has a schedule and a run that is not over."""
    (tmp_path / "preprov.toml").write_text((tmp_path / "preprov.toml").read_text() + '[[route]]\npool = "batch"\n')
    place.add(chain("1", "etl", "q"))
    place.add(ended(chain("2", "etl", "q", ago=timedelta(hours=3)), 1))
    place.schedules = (Schedule("etl", "", "0 3 * * *", "UTC"),)
    added("source", "sync")
    return added


def queued(preprov):
    return preprov("queue", "analyze", "--pool", "batch", "-o", "json").json["queued"]["runs"]


def test_what_a_source_told_that_is_configured_no_more_is_no_demand_and_said_to_be_none(read, tmp_path):
    assert queued(read) == 1
    renamed(tmp_path)
    assert queued(read) == 0
    assert "prod: not in preprov.toml" in read("queue", "analyze", "--pool", "batch").err
    assert "counts for nothing" in " ".join(read("source", "list").out.split())
    renamed(tmp_path, "airflow", "prod")
    assert queued(read) == 1
    assert "not in preprov.toml" not in read("queue", "analyze", "--pool", "batch").err


def test_a_source_that_was_renamed_keeps_what_was_read_and_nothing_stands_twice(read, place, tmp_path):
    assert "still the name" in read("source", "rename", "prod", "airflow").err
    renamed(tmp_path)
    assert "is not the name" in read("source", "rename", "prod", "else").err
    valid(read("source", "rename", "prod", "airflow", "-o", "json").json)
    place.name = "airflow"
    assert queued(read) == 1
    (done,) = valid(read("source", "sync", "-o", "json").json)["passes"]
    assert (done["new"], done["same"], done["notes"]) == (0, 2, [])
    (row,) = valid(read("source", "list", "-o", "json").json)["sources"]
    assert (row["source"], row["open"], row["over"]) == ("airflow", 1, 1)
    result = read("source", "rename", "nothing", "airflow")
    assert result.code == 1
    assert "there is something of: airflow" in result.err


def test_a_source_that_was_read_under_both_names_is_put_right_by_removing_the_old_one(read, place, tmp_path):
    assert "would be read again" in read("source", "remove", "prod").err
    renamed(tmp_path)
    place.name = "airflow"
    (done,) = valid(read("source", "sync", "-o", "json").json)["passes"]
    assert (done["new"], done["notes"]) == (2, []), "the schedule is its own"
    assert queued(read) == 1
    assert "preprov source remove prod" in read("source", "rename", "prod", "airflow").err
    assert "--yes" in read("source", "remove", "prod").err
    told = valid(read("source", "remove", "prod", "--yes", "-o", "json").json)
    assert told["runs"] == 2
    assert [r["source"] for r in valid(read("source", "list", "-o", "json").json)["sources"]] == ["airflow"]
    assert queued(read) == 1


def test_what_a_source_says_is_in_its_list(read, place):
    place.notes, place.rejects = ("partition gpu is DOWN",), (Reject(0, "no id", "{}"),)
    read("source", "sync")
    place.notes = place.rejects = ()
    read("source", "sync")
    (row,) = valid(read("source", "list", "-o", "json").json)["sources"]
    assert [n["note"] for n in row["notes"]] == ["partition gpu is DOWN", "1 rows could not be read"]
    assert "partition gpu is DOWN" in read("source", "list").err


def test_two_places_whose_runs_may_be_called_the_same_are_warned_of(added):
    words = ("airflow", "url=https://staging.example.com", "user=me", "password.env=AIRFLOW_PASSWORD")
    told = valid(added("source", "add", "staging", *words, "pool=a", "-o", "json").json)
    assert all(f["state"] == "ok" for f in told["findings"])
    told = valid(added("source", "add", "third", *words, "pool=a", "-o", "json").json)
    (warned,) = [f for f in told["findings"] if f["state"] == "warn"]
    assert "staging" in warned["found"]
    assert "pool" in warned["hint"]
    told = valid(added("source", "test", "staging", "-o", "json").json)
    assert "third" in next(f["found"] for f in told["findings"] if f["state"] == "warn")
    assert told["ok"] is True


def test_routes_are_checked_in_core_hours(added, place, tmp_path):
    for run in (
        ended(chain("1", "etl_a", "q"), 1),
        ended(chain("2", "etl_b", "q", 8.0), 0.5),
        ended(chain("3", "ml", "gpu", 4.0), 3),
        ended(chain("4", "old", "gpu", 4.0, timedelta(days=30)), 3),
        chain("5", "etl_a", "q"),
    ):
        place.add(run)
    config = tmp_path / "preprov.toml"
    base = config.read_text()
    config.write_text(base + '[[route]]\npool = "batch"\ndag = "etl_*"\n')
    added("source", "sync")
    told = valid(added("route", "check", "-o", "json").json)
    assert told["core_hours"] == pytest.approx(18)
    first, rest = told["routes"]
    assert (first["route"], first["pool"], first["tasks"], first["core_hours"]) == (1, "batch", 2, pytest.approx(6))
    assert (rest["route"], rest["pool"], rest["core_hours"]) == (None, None, pytest.approx(12))
    (lost,) = told["unmatched"]
    assert (lost["dag_id"], lost["queue"], lost["tasks"]) == ("ml", "gpu", 1)
    assert told["moved"] == []
    assert "matches no route" in added("route", "check").out
    config.write_text(base + '[[route]]\npool = "other"\ndag = "etl_b"\n[[route]]\npool = "batch"\n')
    told = valid(added("route", "check", "--since", "60d", "-o", "json").json)
    assert told["unmatched"] == []
    assert {(m["dag_id"], m["core_hours"]) for m in told["moved"]} == {("ml", 12.0), ("old", 12.0), ("etl_b", 4.0)}
