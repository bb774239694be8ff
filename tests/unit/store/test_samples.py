"""Usage samples in Parquet."""

import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from preprov.contracts import SampleStore
from preprov.model.agent import Usage
from preprov.model.errors import StoreError, StoreUnavailableError
from preprov.model.usage import UsageSummary
from preprov.sim.facts import MemorySamples
from preprov.store import samples as module
from preprov.store.samples import ParquetSampleStore


@pytest.fixture
def samples(tmp_path: Path) -> ParquetSampleStore:
    return ParquetSampleStore(tmp_path, now=lambda: 100.0)


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def test_a_failing_stream_leaves_no_file(samples: ParquetSampleStore, tmp_path: Path) -> None:
    def broken() -> object:
        yield "c", Usage(1.0)
        raise RuntimeError("the agent went away")

    with pytest.raises(RuntimeError, match="went away"):
        samples.append("p", broken())  # type: ignore[arg-type]
    assert files(tmp_path) == []
    assert samples.samples("c") == ()


def test_more_than_a_chunk_is_one_file(
    samples: ParquetSampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 10)
    made = [Usage(float(i), cpu=i / 7) for i in range(35)]
    assert samples.append("p", (("c", u) for u in made)) == 35
    assert len(files(tmp_path)) == 1
    assert samples.samples("c") == tuple(made)


def test_small_files_are_merged_and_nothing_is_lost_or_doubled(
    samples: ParquetSampleStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPACT_FILES", 5)
    made = [Usage(float(i), memory=i / 3) for i in range(20)]
    for i, usage in enumerate(made):
        samples.append("p", [(f"c{i % 2}", usage), ("both", usage)])
    assert len(files(tmp_path)) < 5
    assert samples.samples("both") == tuple(made)
    assert samples.samples("c1") == tuple(made[1::2])


def test_a_merge_that_died_before_it_cleaned_up_doubles_nothing(samples: ParquetSampleStore, tmp_path: Path) -> None:
    samples.append("p", [("c", Usage(1.0)), ("c", Usage(2.0))])
    (one,) = files(tmp_path)
    one.with_name("copy.parquet").write_bytes(one.read_bytes())
    assert samples.samples("c") == (Usage(1.0), Usage(2.0))
    assert samples.compact("p") == 2
    assert samples.samples("c") == (Usage(1.0), Usage(2.0))


def test_a_half_written_file_is_not_seen(samples: ParquetSampleStore, tmp_path: Path) -> None:
    samples.append("p", [("c", Usage(1.0))])
    (tmp_path / "p" / ".half.part").write_bytes(b"PAR1 and then the power went")
    assert samples.samples("c") == (Usage(1.0),)


def test_one_small_file_is_left_alone(samples: ParquetSampleStore, tmp_path: Path) -> None:
    samples.append("p", [("c", Usage(1.0))])
    before = files(tmp_path)
    assert samples.compact("p") == 0
    assert samples.compact("nobody") == 0
    assert files(tmp_path) == before


def test_a_file_that_vanishes_while_it_is_read_is_looked_for_again(
    samples: ParquetSampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        samples.append("p", [("c", Usage(float(i)))])
    select = module._select
    first = [True]

    def racing(names: list[Path], claimants: list[str], ask: Callable[[object], list[tuple[object, ...]]]) -> object:
        if first.pop() if first else False:
            samples.compact("p")
        return select(names, claimants, ask)

    monkeypatch.setattr(module, "_select", racing)
    assert [u.at for u in samples.samples("c")] == [0.0, 1.0, 2.0]


def test_two_that_merge_at_once_lose_nothing(samples: ParquetSampleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        samples.append("p", [("c", Usage(float(i)))])
    write = ParquetSampleStore._write
    second: list[int] = []

    def racing(store: ParquetSampleStore, names: list[Path], target: Path) -> None:
        second.append(samples.compact("p"))
        write(store, names, target)

    monkeypatch.setattr(ParquetSampleStore, "_write", racing)
    assert samples.compact("p") == 4
    assert second == [0]
    assert [u.at for u in samples.samples("c")] == [0.0, 1.0, 2.0, 3.0]


def test_samples_that_are_never_still_may_be_asked_for_again(
    samples: ParquetSampleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples.append("p", [("c", Usage(1.0))])

    def always_gone(names: list[Path], *_asked: object) -> object:
        names[0].rename(names[0].with_name(f"{names[0].stem}-again.parquet"))
        raise StoreError("no such file")

    monkeypatch.setattr(module, "_select", always_gone)
    with pytest.raises(StoreUnavailableError, match="rearranged"):
        samples.samples("c")


def test_a_damaged_file_is_an_error_that_says_so(samples: ParquetSampleStore, tmp_path: Path) -> None:
    samples.append("p", [("c", Usage(1.0))])
    (tmp_path / "p" / "x.parquet").write_bytes(b"not parquet at all, and long enough to be read")
    with pytest.raises(StoreError, match=r"x\.parquet"):
        samples.samples("c")


def test_a_folder_that_cannot_be_written_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as error:
        ParquetSampleStore(tmp_path / "file").append("p", [("c", Usage(1.0))])
    assert "file" in error.value.where


def test_claimants_are_taken_literally(samples: ParquetSampleStore) -> None:
    samples.append("p", [('it\'s "odd"; DROP TABLE x', Usage(1.0)), ("%", Usage(2.0))])
    assert samples.samples('it\'s "odd"; DROP TABLE x') == (Usage(1.0),)
    assert samples.samples("%") == (Usage(2.0),)


@pytest.mark.parametrize("make", [ParquetSampleStore, lambda _folder: MemorySamples()])
def test_many_tasks_are_asked_about_at_once(make: Callable[[Path], SampleStore], tmp_path: Path) -> None:
    store = make(tmp_path)
    store.append("p", [("a", Usage(2.0, cpu=4.0, memory=3.0)), ("a", Usage(1.0, cpu=2.0)), ("b", Usage(1.0))])
    store.append("q", [("a", Usage(3.0, cpu=0.0, memory=1.0)), ("c", Usage(1.0, cpu=1.0))])

    assert [u.at for u in store.series(["a", "b", "nobody"])["a"]] == [1.0, 2.0, 3.0]
    assert set(store.series(["a", "b", "nobody"])) == {"a", "b"}
    told = store.summaries(["a", "b", "nobody"])
    assert set(told) == {"a", "b"}
    assert told["a"] == UsageSummary(3, cpu_mean=2.0, cpu_p95=pytest.approx(3.8), memory_peak=3.0, memory_mean=2.0)
    assert told["b"].samples == 1
    assert math.isnan(told["b"].cpu_mean)
    assert math.isnan(told["b"].memory_peak)
    assert store.series([]) == {}
    assert store.summaries(()) == {}
    assert store.latest(["a", "b", "nobody"], since=2.5) == {"a": Usage(3.0, cpu=0.0, memory=1.0)}
    assert store.latest(["a", "b"], since=1.0).keys() == {"a", "b"}
    assert store.latest([], since=0.0) == {}


def test_files_from_before_a_column_was_known_are_read_and_merged_with_newer_ones(
    samples: ParquetSampleStore, tmp_path: Path
) -> None:
    samples.append("p", [("c", Usage(1.0, gpu=0.5))])
    (old,) = files(tmp_path)
    pq.write_table(pq.read_table(old).drop_columns(["gpu_memory"]), old)
    assert samples.samples("c") == (Usage(1.0, gpu=0.5),), "no file has it"
    samples.append("p", [("c", Usage(2.0, gpu=0.5, gpu_memory=3.0))])
    both = (Usage(1.0, gpu=0.5), Usage(2.0, gpu=0.5, gpu_memory=3.0))
    assert samples.samples("c") == both
    assert samples.compact("p") == 2
    assert samples.samples("c") == both
