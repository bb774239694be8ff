"""What every store must do with work that was ingested."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

from preprov.contracts import Ports, Reject, SourceBatch
from preprov.model.errors import (
    SourceError,
)
from preprov.model.series import SeriesDirt, SeriesHistory
from preprov.model.time import epoch, from_epoch
from preprov.model.work import Schedule
from preprov.model.worktable import RUN_COLUMNS, WorkTable
from preprov.testing.store_examples import (
    POOL,
    T0,
    PortsContract,
    assert_same_work,
    history,
    minutes,
)


class IngestContract(PortsContract):
    """Work that was ingested."""

    def test_what_was_ingested_is_read_back_the_same(self, ports: Ports) -> None:
        """Columns, types, order, edges, doubles."""
        work = history(200)
        done = ports.work.ingest(POOL, "trace.parquet", "d1", [SourceBatch(work)])
        assert (done.runs, done.tasks, done.already) == (200, len(work), False)
        assert_same_work(ports.work.work(POOL), work)

    def test_batches_make_one_history_by_submit_time(self, ports: Ports) -> None:
        """Whatever order they come in."""
        work = history(90)
        thirds = [work.select_runs(np.arange(90) // 30 == i) for i in range(3)]
        ports.work.ingest(POOL, "k", "d", [SourceBatch(t) for t in (thirds[2], thirds[0], thirds[1])])
        assert_same_work(ports.work.work(POOL), work)

    def test_a_window_holds_the_runs_submitted_in_it_ends_included(self, ports: Ports) -> None:
        """[since, until]."""
        work = history(50)
        ports.work.ingest(POOL, "k", "d", [SourceBatch(work)])
        submit = work.runs["submit"].to_numpy()
        since, until = from_epoch(np.ceil(submit[9] * 1e6) / 1e6), from_epoch(submit[20])
        found = ports.work.work(POOL, since=since, until=until + timedelta(microseconds=1))
        assert_same_work(found, work.select_runs((np.arange(50) >= 10) & (np.arange(50) <= 20)))
        exact = history(3, start=T0)
        exact.runs["submit"] = [epoch(T0), epoch(T0 + minutes(1)), epoch(T0 + minutes(2))]
        ports.work.ingest("exact", "k", "d", [SourceBatch(exact)])
        assert len(ports.work.work("exact", since=T0, until=T0 + minutes(1)).runs) == 2

    def test_an_unknown_pool_has_no_work(self, ports: Ports) -> None:
        """Absence is empty, not an error."""
        found = ports.work.work("nobody")
        assert len(found) == 0
        assert list(found.runs.columns) == list(RUN_COLUMNS)
        assert ports.work.series("nobody") is None
        assert ports.work.schedules("nobody") == ()
        assert "nobody" not in ports.work.pools()

    def test_the_same_content_twice_changes_nothing(self, ports: Ports) -> None:
        """Idempotent by (pool, digest), under any name."""
        work = history(20)
        ports.work.ingest(POOL, "a.swf", "d", [SourceBatch(work)])
        again = ports.work.ingest(POOL, "b.swf", "d", [SourceBatch(history(20, first=100))])
        assert (again.already, again.runs, again.tasks) == (True, 0, 0)
        earlier = ports.work.ingested(POOL, "d")
        assert earlier is not None
        assert earlier.already
        assert ports.work.ingested(POOL, "another") is None
        assert ports.work.ingested("other", "d") is None
        assert ports.work.ingested(POOL, "") is None
        assert_same_work(ports.work.work(POOL), work)
        assert not ports.work.ingest("other", "a.swf", "d", [SourceBatch(work)]).already

    def test_a_run_already_there_is_left_as_it_is(self, ports: Ports) -> None:
        """A log that has grown adds what is new."""
        ports.work.ingest(POOL, "log", "monday", [SourceBatch(history(20))])
        longer = history(30)
        longer.tasks["cpu"] = 99.0
        done = ports.work.ingest(POOL, "log", "tuesday", [SourceBatch(longer)])
        assert done.runs == 10
        found = ports.work.work(POOL)
        assert len(found.runs) == 30
        cpu = found.tasks["cpu"].to_numpy()
        run = found.tasks["run"].to_numpy()
        assert (cpu[run >= 20] == 99.0).all()
        assert (cpu[run < 20] != 99.0).all()

    def test_a_source_without_a_digest_is_idempotent_by_run(self, ports: Ports) -> None:
        """Nothing is doubled."""
        for _ in range(2):
            ports.work.ingest(POOL, "api", "", [SourceBatch(history(5))])
        assert len(ports.work.work(POOL).runs) == 5

    def test_a_failing_source_leaves_the_store_as_it_was(self, ports: Ports) -> None:
        """All batches or none."""
        ports.work.ingest(POOL, "k", "d", [SourceBatch(history(5))])

        def truncated() -> Iterator[SourceBatch]:
            yield SourceBatch(history(5, first=100), schedules=(Schedule("x", POOL, "0 1 * * *", "UTC"),))
            raise SourceError("the archive is truncated")

        with pytest.raises(SourceError, match="truncated"):
            ports.work.ingest(POOL, "k2", "d2", truncated())
        assert len(ports.work.work(POOL).runs) == 5
        assert ports.work.schedules(POOL) == ()
        assert not ports.work.ingest(POOL, "k2", "d2", [SourceBatch(history(5, first=100))]).already

    def test_a_source_with_no_usable_run_is_an_error(self, ports: Ports) -> None:
        """And nothing is kept."""
        with pytest.raises(SourceError):
            ports.work.ingest(POOL, "k", "d", [SourceBatch(WorkTable.empty(), rejects=(Reject(1, "no"),))])
        assert ports.work.pools() == {}

    def test_an_ingest_reports_what_was_wrong_and_filled_in(self, ports: Ports) -> None:
        """Counts are added over the batches."""
        batches = [
            SourceBatch(history(2), rejects=(Reject(3, "negative runtime", "x"),), notes=("n",), imputed={"cpu": 1}),
            SourceBatch(
                history(2, first=9), rejects=(Reject(7, "?"), Reject(8, "?")), notes=("n",), imputed={"cpu": 2}
            ),
        ]
        done = ports.work.ingest(POOL, "k", "d", batches, zone="Europe/Zurich")
        assert done.rejects == 3
        assert done.notes == ("n",)
        assert dict(done.imputed) == {"cpu": 3}
        assert ports.work.pools() == {POOL: "Europe/Zurich"}

    def test_declared_schedules_come_with_the_runs(self, ports: Ports) -> None:
        """Every field of them."""
        nightly = Schedule("dag-0", POOL, "0 2 L * *", "Europe/Zurich", "t", 4, T0, True, 2, 3600.5)
        ports.work.ingest(POOL, "k", "d", [SourceBatch(history(3), schedules=(nightly,))])
        assert ports.work.schedules(POOL) == (nightly,)
        assert not ports.work.has_template(POOL, "dag-0")

    def test_a_series_is_read_back_the_same(self, ports: Ports) -> None:
        """With what was dirty about it."""
        values = np.array([1.5, np.nan, 0.1 + 0.2])
        series = SeriesHistory(
            "s", "Europe/Zurich", 3600, T0, values, np.array([False, True, False]), {"load": values}, SeriesDirt(gaps=1)
        )
        assert not ports.work.write_series(POOL, "k", "d", series).already
        assert ports.work.write_series(POOL, "k", "d", series).already
        found = ports.work.series(POOL)
        assert found is not None
        assert found.quarantined is not None
        np.testing.assert_array_equal(found.values, values)
        np.testing.assert_array_equal(found.quarantined, [False, True, False])
        np.testing.assert_array_equal(found.exogenous["load"], values)
        assert (found.name, found.zone, found.step_seconds, found.start, found.dirt) == (
            "s",
            "Europe/Zurich",
            3600,
            T0,
            SeriesDirt(gaps=1),
        )
        assert ports.work.pools() == {POOL: "Europe/Zurich"}
