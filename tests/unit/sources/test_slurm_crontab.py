"""Lines of crontabs and scrontabs that submit jobs, and which turn a job belongs to."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.contracts import Reject
from preprov.sources.slurm.chains import Chains, waits_for, waits_for_of
from preprov.sources.slurm.crontab import CronLine, CronTurns, cron_lines

NOW = datetime(2025, 3, 3, 12, tzinfo=UTC)


def read(text: str, *, system: bool = False) -> list[CronLine | Reject]:
    return list(cron_lines(text, user="ana", zone="UTC", system=system))


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("30 2 * * * sbatch -J nightly -p big /opt/a.sh", ("30 2 * * *", "nightly", "big")),
        ("30 2 * * * /usr/bin/sbatch --job-name=nightly /opt/a.sh", ("30 2 * * *", "nightly", "")),
        ("@daily cd /opt && sbatch --partition=big a.sh 7", ("0 0 * * *", "a.sh", "big")),
        ("0 * * * * sbatch -Jx a.sh", ("0 * * * *", "x", "")),
        ("#SCRON --job-name=rollup\n0 */4 * * * /opt/rollup.sh", ("0 */4 * * *", "rollup", "")),
        ("#SCRON -p big\n0 4 * * * /opt/rollup.sh", ("0 4 * * *", "rollup.sh", "big")),
    ],
)
def test_a_line_that_submits_is_understood(line: str, meant: tuple[str, str, str]) -> None:
    (found,) = read(line)
    assert isinstance(found, CronLine)
    assert (found.cron, found.name, found.partition, found.user, found.zone) == (*meant, "ana", "UTC")


def test_what_submits_nothing_is_left_out() -> None:
    assert read("# a note\n\nMAILTO=ops\n@reboot sbatch a.sh\n0 1 * * * /opt/backup.sh\n") == []


def test_a_system_crontab_names_its_user_and_a_zone_holds_from_its_line_on() -> None:
    first, second = read("0 1 * * * etl sbatch a.sh\nCRON_TZ='Europe/Rome'\n0 1 * * * root sbatch b.sh\n", system=True)
    assert isinstance(first, CronLine)
    assert isinstance(second, CronLine)
    assert (first.user, first.zone, second.user, second.zone) == ("etl", "UTC", "root", "Europe/Rome")


@pytest.mark.parametrize(
    "line",
    [
        "61 2 * * * sbatch a.sh",
        "0 1 * * * sbatch 'a.sh",
        "CRON_TZ=Nowhere\n0 1 * * * sbatch a.sh",
        "CRON_TZ=Europe\n0 1 * * * sbatch a",
    ],
)
def test_what_cannot_be_read_is_rejected_with_its_line(line: str) -> None:
    (found,) = read(line)
    assert isinstance(found, Reject)
    assert found.line == len(line.splitlines())


@given(st.text(max_size=60))
def test_any_text_is_lines_or_rejects(text: str) -> None:
    for found in read(text, system=True):
        assert isinstance(found, CronLine | Reject)


def test_a_job_belongs_to_the_turn_before_it_unless_it_came_long_after() -> None:
    turns = CronTurns([line for line in read("30 2 * * * sbatch -J n a.sh") if isinstance(line, CronLine)])
    (dag,) = turns.queues()
    at = datetime(2025, 3, 3, 2, 30, tzinfo=UTC).timestamp()
    assert turns.turn_of(dag, at + 5.0) == at
    assert turns.turn_of(dag, at - 1.0) == at  # Slurm tells whole seconds
    assert turns.turn_of(dag, at + 7200.0) is None
    assert turns.turn_of("other", at) is None


def test_two_lines_of_one_name_are_one_schedule_of_turns() -> None:
    text = "30 2 * * * sbatch -J n a.sh\n0 14 * * * sbatch -J n a.sh\n"
    turns = CronTurns([line for line in read(text) if isinstance(line, CronLine)])
    (schedule,) = turns.schedules("t", NOW)
    assert schedule.cron == ""
    assert {(t.hour, t.minute) for t in schedule.turns} == {(2, 30), (14, 0)}
    assert turns.cron_of(schedule.dag_id) == ""


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("afterok:5_*(unfulfilled),aftercorr:7", {5: False, 7: True}),
        ("afterany:5:6", {5: False, 6: False}),
        ("after:5", {}),
        ("singleton(unfulfilled)", {}),
        ("afterok:9(failed)?afterok:10", {9: False, 10: False}),
        ("", {}),
    ],
)
def test_what_a_job_waits_for(said: str, meant: dict[int, bool]) -> None:
    assert waits_for(said) == meant


@pytest.mark.parametrize(
    "line", ["sbatch --dependency=afterok:5 a.sh", "sbatch -d afterok:5 a.sh", "sbatch -dafterok:5 'x"]
)
def test_what_it_waits_for_is_read_from_its_command(line: str) -> None:
    assert waits_for_of(line) == {5: False}


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=30))
def test_a_chain_is_the_same_after_it_was_noted_and_read_again(pairs: list[tuple[int, int]]) -> None:
    chains = Chains()
    for child, parent in pairs:
        chains.add(child, {parent: False})
    kept = {k: v for k, v in chains.notes({}, ()).items() if v is not None}
    again = Chains.read(kept)
    assert again.notes(kept, ()) == {}
    for unit in range(1, 31):
        assert again.run_of(unit) == chains.run_of(unit) <= unit
        assert unit in again.members(again.run_of(unit))
    for child, parent in pairs:
        assert child == parent or chains.run_of(child) == chains.run_of(parent)
    assert all(v is None for v in again.notes(kept, {again.run_of(u) for u in again.units()}).values())
