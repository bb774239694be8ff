"""Samples that grow coarser with age: what is kept of them, and what a crash in the middle leaves."""

import math
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprov.model.agent import Usage
from preprov.model.errors import StoreError
from preprov.model.usage import Thinning, UsageSummary
from preprov.store import samples as module
from preprov.store.samples import ParquetSampleStore

DAY = 86_400.0
NOW = 100 * DAY
AGES = Thinning(((7 * DAY, 30.0), (30 * DAY, 300.0)))


class Aging:
    """A store in which time passes as the test says; each append is a file of its own."""

    def __init__(self, folder: Path, thinning: Thinning | None = None) -> None:
        self.now = NOW
        self.folder = folder
        self.store = ParquetSampleStore(folder, thinning, now=lambda: self.now)

    def keep(self, *samples: tuple[str, Usage]) -> None:
        """In two files, so that there is something to merge."""
        self.store.append("p", samples[::2])
        self.store.append("p", samples[1::2])

    def files(self) -> list[Path]:
        """Those that hold samples."""
        return sorted(self.folder.glob("p/*.parquet"))


@pytest.fixture
def aging(tmp_path: Path) -> Aging:
    return Aging(tmp_path)


def minutes(at: float, n: int, every: float = 5.0) -> list[tuple[str, Usage]]:
    """`n` samples of one task from an instant on; memory goes up and down."""
    return [("c", Usage(at + every * i, cpu=float(i % 7), memory=float(i % 13), disk_io=None)) for i in range(n)]


def test_samples_are_whole_for_a_week_then_thin_then_coarse(aging: Aging) -> None:
    taken = minutes(NOW - 6 * DAY, 120)
    aging.keep(*taken)
    aging.store.compact("p")
    assert len(aging.store.samples("c")) == 120
    counts = []
    for days in (8, 20, 29, 40, 400):
        aging.now = NOW - 6 * DAY + days * DAY
        aging.keep(("other", Usage(aging.now)), ("other", Usage(aging.now + 1)))
        aging.store.compact("p")
        counts.append(len(aging.store.samples("c")))
    assert counts == [20, 20, 20, 2, 2]
    whole = [u for _, u in taken]
    (told,) = aging.store.summaries(["c"]).values()
    assert told.samples == 120
    assert told.memory_peak == 12.0
    assert told.memory_mean == pytest.approx(sum(u.memory or 0 for u in whole) / 120)
    assert told.cpu_mean == pytest.approx(sum(u.cpu or 0 for u in whole) / 120)
    assert all(u.disk_io is None for u in aging.store.samples("c")), "never 0"
    assert aging.store.samples("c")[-1].at == whole[-1].at


def test_a_stretch_is_thinned_only_once_all_of_it_is_old(aging: Aging) -> None:
    start = NOW - 7 * DAY
    assert start % 30 == 0
    aging.keep(*minutes(start - 30, 12))
    aging.now = NOW + 29
    aging.store.compact("p")
    assert [u.at - start for u in aging.store.samples("c")] == [-5.0, *(5.0 * i for i in range(6))]


def test_thinning_again_changes_nothing(aging: Aging) -> None:
    aging.keep(*minutes(NOW - 50 * DAY, 200, every=1.7))
    aging.store.compact("p")
    once, (file,) = aging.store.samples("c"), aging.files()
    before = file.stat()
    aging.store.compact("p")
    assert aging.files() == [file]
    assert file.stat().st_ino == before.st_ino, "what needs nothing is not written again"
    aging.keep(("d", Usage(NOW)), ("d", Usage(NOW + 1)))
    aging.store.compact("p")
    assert aging.store.samples("c") == once


def test_what_comes_late_is_thinned_on_its_own_and_nothing_is_lost(aging: Aging) -> None:
    for part in (minutes(NOW - 10 * DAY, 6, every=2.0), minutes(NOW - 10 * DAY + 15, 6, every=2.0)):
        aging.keep(*part)
        aging.store.compact("p")
    assert aging.store.summaries(["c"])["c"] == UsageSummary(12, 2.5, 2.5, 5.0, 2.5)


def test_a_large_file_is_thinned_once_all_of_it_is_old(aging: Aging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SMALL_BYTES", 10)
    aging.store.append("p", minutes(NOW - 8 * DAY, 60))
    aging.store.append("p", [*minutes(NOW - 8 * DAY, 60, every=2.5), ("d", Usage(NOW))])
    old, mixed = sorted(aging.files(), key=lambda f: f.stat().st_mtime_ns)
    rows = [pq.read_metadata(f).num_rows for f in (old, mixed)]
    assert aging.store.compact("p") == 0
    assert [pq.read_metadata(f).num_rows for f in (old, mixed)] == [10, rows[1]]
    aging.now += 8 * DAY
    aging.store.compact("p")
    assert [pq.read_metadata(f).num_rows for f in (old, mixed)] == [10, 5 + 1]
    aging.now += 40 * DAY
    aging.store.compact("p")
    assert [pq.read_metadata(f).num_rows for f in (old, mixed)] == [1, 1 + 1]
    assert aging.store.summaries(["c"])["c"].samples == 120


def test_files_of_an_earlier_version_are_read_merged_and_thinned(aging: Aging) -> None:
    folder = aging.folder / "p"
    folder.mkdir()
    at = [NOW - 9 * DAY + i for i in range(4)]
    columns = {"claimant": ["c"] * 4, "ts": at, "cpu": [1.0, 2.0, None, 3.0], "memory": [4.0, 1.0, 1.0, 2.0]}
    pq.write_table(pa.table({**columns, "network": [None, None, None, 5.0]}), folder / "old.parquet")
    assert aging.store.samples("c")[3] == Usage(at[3], 3.0, 2.0, network=5.0)
    aging.store.append("p", [("c", Usage(NOW, read_ops=7.0))])
    aging.store.compact("p")
    assert aging.store.summaries(["c"])["c"] == UsageSummary(5, 2.0, pytest.approx(2.85), 4.0, 2.0)
    assert aging.store.samples("c")[-1] == Usage(NOW, read_ops=7.0)


def test_who_wants_all_samples_keeps_them(tmp_path: Path) -> None:
    aging = Aging(tmp_path, Thinning(()))
    aging.keep(*minutes(0.0, 40))
    aging.store.compact("p")
    assert len(aging.store.samples("c")) == 40


# --------------------------------------------------------------------------- what a crash leaves


class PowerCut(BaseException):
    """The process ends here."""


def cut_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, after: bool = False) -> None:
    whole: Callable[..., object] = getattr(owner, name)

    def dies(*args: object, **kwargs: object) -> object:
        if after:
            whole(*args, **kwargs)
        raise PowerCut

    monkeypatch.setattr(owner, name, dies)


def died(aging: Aging, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, after: bool = False) -> None:
    """Compact until the power goes; what the process would have cleared away in `finally` stays too."""
    with monkeypatch.context() as patch:
        cut_at(patch, owner, name, after)
        with pytest.raises(PowerCut):
            aging.store.compact("p")


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (ParquetSampleStore, "_write", True),  # written whole, under another name
        (module, "_note", True),  # and it stands what it replaces
        (Path, "replace", False),
        (Path, "replace", True),  # it has taken its place; the others are still there
        (module.os, "fsync", False),
    ],
)
def test_a_merge_that_dies_anywhere_changes_nothing_that_is_read(
    aging: Aging, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, after: bool
) -> None:
    aging.keep(*minutes(NOW - 8 * DAY, 120))
    want = aging.store.summaries(["c"])["c"]
    died(aging, monkeypatch, owner, name, after)
    told = aging.store.summaries(["c"])["c"]
    assert (told.samples, told.memory_peak) == (want.samples, want.memory_peak)
    assert (told.cpu_mean, told.memory_mean) == pytest.approx((want.cpu_mean, want.memory_mean))
    aging.store.compact("p")
    assert len(aging.files()) == 1
    assert len(aging.store.samples("c")) == 20
    assert aging.store.summaries(["c"])["c"].memory_mean == pytest.approx(want.memory_mean)
    assert [f.name for f in (aging.folder / "p").glob(".*") if f.name != ".lock"] == []


@pytest.mark.parametrize(("owner", "name"), [(ParquetSampleStore, "_write"), (Path, "replace"), (module.os, "fsync")])
def test_thinning_that_dies_leaves_the_file_as_it_was(
    aging: Aging, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    aging.store.append("p", minutes(NOW - 8 * DAY, 60))
    (file,) = aging.files()
    before = file.read_bytes()
    died(aging, monkeypatch, owner, name)
    assert aging.files() == [file]
    assert file.read_bytes() == before
    aging.store.compact("p")
    assert len(aging.store.samples("c")) == 10


def test_a_file_that_is_thinned_while_it_is_read_is_read_again(aging: Aging, monkeypatch: pytest.MonkeyPatch) -> None:
    aging.store.append("p", minutes(NOW - 8 * DAY, 60))
    select, looks = module._select, []

    def racing(*args: object) -> object:
        found = select(*args)  # type: ignore[arg-type]
        if not looks:
            aging.store.compact("p")
        looks.append(len(found))
        return found

    monkeypatch.setattr(module, "_select", racing)
    assert len(aging.store.samples("c")) == 10
    assert looks == [60, 10]


def test_a_damaged_large_file_is_an_error_that_names_it(aging: Aging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SMALL_BYTES", 1)
    aging.store.append("p", minutes(NOW, 2))
    (aging.folder / "p" / "x.parquet").write_bytes(b"no parquet at all, and long enough to be read")
    with pytest.raises(StoreError, match=r"x\.parquet"):
        aging.store.compact("p")


# --------------------------------------------------------------------------- for whatever is observed

AMOUNT = st.none() | st.floats(0, 1e4, width=32)
SAMPLE = st.builds(
    Usage,
    at=st.integers(0, 60 * 24).map(lambda m: NOW - 45 * DAY + m * 2357.0),
    cpu=AMOUNT, memory=AMOUNT, working_set=AMOUNT, gpu_memory=AMOUNT, page_faults=AMOUNT, network=AMOUNT,
)  # fmt: skip


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), SAMPLE), min_size=2, max_size=60, unique_by=lambda s: (s[0], s[1].at)))
def test_peaks_and_means_are_kept_whatever_was_observed(
    tmp_path_factory: pytest.TempPathFactory, taken: list[tuple[str, Usage]]
) -> None:
    aging = Aging(tmp_path_factory.mktemp("samples"), Thinning(((7 * DAY, 7200.0), (30 * DAY, 86_400.0))))
    aging.keep(*taken)
    for later in (0.0, 9 * DAY):
        aging.now = NOW + later
        aging.keep(("other", Usage(aging.now)), ("other", Usage(aging.now + 1)))
        aging.store.compact("p")
        told, left = aging.store.summaries(["a", "b"]), aging.store.series(["a", "b"])
        for claimant in {c for c, _ in taken}:
            mine = [u for c, u in taken if c == claimant]
            memory, cpu = ([v for u in mine if (v := getattr(u, n)) is not None] for n in ("memory", "cpu"))
            found = told[claimant]
            assert found.samples == len(mine)
            assert found.memory_peak == (pytest.approx(max(memory)) if memory else pytest.approx(math.nan, nan_ok=True))
            assert found.memory_mean == pytest.approx(mean(memory), nan_ok=True)
            assert found.cpu_mean == pytest.approx(mean(cpu), nan_ok=True)
            for name in ("memory", "working_set", "gpu_memory"):
                peaks = [max((v for u in of if (v := getattr(u, name)) is not None), default=None) for of in
                         (mine, left[claimant])]  # fmt: skip
                assert peaks[0] == peaks[1], name
            assert {n for u in left[claimant] for n in ("page_faults", "network") if getattr(u, n) is not None} == {
                n for u in mine for n in ("page_faults", "network") if getattr(u, n) is not None
            }
