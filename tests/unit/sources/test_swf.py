"""Job logs: what a line means, what is kept aside, and that the fast and the exact path agree."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.contracts import SourceBatch, WorkSource
from preprov.model.errors import ConfigError, SourceError
from preprov.model.resources import Resources
from preprov.model.worktable import WorkTable
from preprov.sources.swf import SwfSource
from preprov.sources.swf_lines import FIELDS, parse_block

HEADER = """; Version: 2.2
; UnixStartTime: 749458803
; TimeZone: -28800
; TimeZoneString: US/Pacific
; MaxNodes: 64
; MaxProcs: 128
; Note: MaxProcs: not this one
"""


def job(number: int, **over: float) -> str:
    """A line of a log; fields not given have harmless values."""
    fields = dict.fromkeys(FIELDS, -1.0) | {
        "job": number,
        "submit": 100.0 * number,
        "wait": 10,
        "runtime": 60,
        "allocated": 4,
        "requested": 8,
        "requested_time": 600,
        "status": 1,
        "user": 7,
        "group": 3,
        "executable": 5,
    }
    return " ".join(f"{v:.12g}" for v in (fields | over).values())


def written(path: Path, *lines: str, header: str = HEADER) -> Path:
    text = (header + "\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def read(source: WorkSource) -> tuple[WorkTable, list[SourceBatch]]:
    batches = list(source.read())
    return WorkTable.concat([b.work for b in batches]), batches


def test_a_job_is_one_gang_of_all_its_processors(tmp_path: Path) -> None:
    work, _ = read(SwfSource(written(tmp_path / "log.swf", job(1))))
    task, run = work.tasks.iloc[0], work.runs.iloc[0]
    assert (task.cpu, task.instances, task.gang) == (4, 1, True)
    assert (run.run_id, run.dag_id, run.tenant, run.zone) == ("log/1", "u7.a5", "g3", "America/Los_Angeles")
    assert task.signature == "u7/a5/p4"
    assert task.hint_s == 600
    assert run.timing == "nominal"
    assert run.submit == run.due == task.ready_at == 749458803 + 100
    assert (task.started_at, task.ended_at, task.runtime_s) == (run.submit + 10, run.submit + 70, 60)


def test_what_the_log_does_not_know_stays_unknown(tmp_path: Path) -> None:
    line = job(1, wait=-1, requested_time=-1, group=-1, executable=-1, allocated=-1)
    work, _ = read(SwfSource(written(tmp_path / "log.swf", line)))
    task = work.tasks.iloc[0]
    assert np.isnan([task.started_at, task.ended_at, task.hint_s]).all()
    assert task.cpu == 8  # requested, as allocated is not known
    assert work.runs.tenant[0] == "u7"
    assert task.signature == "u7/a-/p8"


def test_signature_rounds_processors_up_to_a_power_of_two(tmp_path: Path) -> None:
    lines = [job(i + 1, allocated=n) for i, n in enumerate((1, 2, 3, 4, 5, 100))]
    work, _ = read(SwfSource(written(tmp_path / "log.swf", *lines)))
    assert [s.rsplit("/", 1)[1] for s in work.tasks.signature] == ["p1", "p2", "p4", "p4", "p8", "p128"]


def test_memory_is_requested_else_used_else_the_median_per_processor(tmp_path: Path) -> None:
    kib = 1024**2  # one GiB in KB
    lines = [
        job(1, requested_memory=kib, memory_used=9 * kib),
        job(2, memory_used=2 * kib, allocated=2),
        job(3, allocated=1),
        job(4, requested_memory=3 * kib, allocated=1),
    ]
    work, batches = read(SwfSource(written(tmp_path / "log.swf", *lines)))
    assert work.tasks.memory.tolist() == [4, 4, 2, 3]
    assert batches[0].imputed == {"memory": 1}


def test_a_log_without_memory_says_so(tmp_path: Path) -> None:
    work, batches = read(SwfSource(written(tmp_path / "log.swf", job(1))))
    assert work.tasks.memory.tolist() == [0]
    assert batches[0].imputed == {}
    assert any("no memory" in n for n in batches[0].notes)


def test_header_and_comments_stand_anywhere(tmp_path: Path) -> None:
    lines = [
        "; a remark",
        job(1),
        "",
        "   ; TimeZoneString: Europe/Stockholm",
        job(2),
        ";MaxProcs: 99",
        job(3, runtime=0),
    ]
    source = SwfSource(written(tmp_path / "log.swf.gz", *lines, header="; UnixStartTime: 0\n"))
    assert source.zone == "Europe/Stockholm"
    assert source.capacity == Resources(cpu=99)
    work, batches = read(source)
    assert len(work) == 2
    assert [(r.line, r.reason) for b in batches for r in b.rejects] == [(8, "runtime <= 0")]


@pytest.mark.parametrize(
    ("header", "zone"),
    [
        ("; TimeZoneString: US/Pacific\n; TimeZone: 3600\n", "America/Los_Angeles"),
        ("; TimeZoneString: Europe/Stockholm\n", "Europe/Stockholm"),
        ("; TimeZoneString: GB\n", "Europe/London"),
        ("; TimeZone: -28800\n", "Etc/GMT+8"),
        ("; TimeZone: 19800\n", "Asia/Kolkata"),
        ("; TimeZone: 0\n", "UTC"),
        ("; TimeZoneString: Nowhere/Land\n; TimeZone: 3600\n", "Etc/GMT-1"),
        ("; TimeZone: 1234\n", "UTC"),
        ("", "UTC"),
    ],
)
def test_zone_of_the_header(tmp_path: Path, header: str, zone: str) -> None:
    assert SwfSource(written(tmp_path / "log.swf", job(1), header=header)).zone == zone


@pytest.mark.parametrize("header", ["; TimeZoneString: Nowhere\n", "; TimeZone: 1234\n", ""])
def test_an_assumed_zone_is_noted(tmp_path: Path, header: str) -> None:
    source = SwfSource(written(tmp_path / "log.swf", job(1), header=header))
    assert any("--tz" in n for n in next(source.read()).notes)


def test_options_override_the_header(tmp_path: Path) -> None:
    path = written(tmp_path / "log.swf", job(1))
    other = SwfSource(path, epoch=datetime(2020, 1, 1, tzinfo=UTC), zone="Asia/Tokyo")
    work, _ = read(other)
    assert work.runs.submit[0] == datetime(2020, 1, 1, 0, 1, 40, tzinfo=UTC).timestamp()
    assert work.runs.zone[0] == other.zone == "Asia/Tokyo"
    assert other.digest != SwfSource(path).digest
    with pytest.raises(ConfigError, match="Nowhere"):
        _ = SwfSource(path, zone="Nowhere/Land").zone


def test_capacity_falls_back_to_nodes_and_to_none(tmp_path: Path) -> None:
    path = tmp_path / "log.swf"
    assert SwfSource(written(path, job(1))).capacity == Resources(cpu=128)
    assert SwfSource(written(path, job(1), header="; MaxNodes: 1,064 (two of them spare)\n")).capacity == Resources(
        cpu=1064
    )
    assert SwfSource(written(path, job(1), header="")).capacity is None


def test_broken_lines_are_kept_aside_with_line_and_reason(tmp_path: Path) -> None:
    lines = [
        job(1),
        "17 fields only " * 5,
        job(2) + " 19",
        job(3).replace("600", "six"),
        job(4, runtime=0),
        job(5, allocated=-1, requested=-1),
        job(6, submit=-1),
        job(1),
        job(7).replace("600", "nan"),
        job(8),
    ]
    work, batches = read(SwfSource(written(tmp_path / "log.swf", *lines)))
    assert work.runs.run_id.tolist() == ["log/1", "log/8"]
    rejects = [r for b in batches for r in b.rejects]
    assert [(r.line, r.reason) for r in rejects] == [
        (9, "15 fields instead of 18"),
        (10, "19 fields instead of 18"),
        (11, "field requested_time is not a number: 'six'"),
        (12, "runtime <= 0"),
        (13, "neither allocated nor requested processors are known"),
        (14, "no submit time"),
        (15, "job number used twice"),
        (16, "field requested_time is not a number: 'nan'"),
    ]
    assert rejects[3].raw == job(4, runtime=0)


def test_a_job_number_used_twice_is_seen_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "log.swf", *(job(i) for i in range(1, 40)), job(1))
    monkeypatch.setattr("preprov.sources.files.BLOCK", 256)
    work, batches = read(SwfSource(path))
    assert len(batches) > 5
    assert len(work) == 39
    assert [(r.line, r.reason) for b in batches for r in b.rejects] == [(47, "job number used twice")]
    assert work.tasks.run.tolist() == list(range(39))


def test_parts_of_a_job_told_as_a_whole_are_passed_over(tmp_path: Path) -> None:
    lines = [job(1), job(1, status=2, runtime=20), job(1, status=3, runtime=40), job(2)]
    work, batches = read(SwfSource(written(tmp_path / "log.swf", *lines)))
    assert work.tasks.runtime_s.tolist() == [60, 60]
    assert not batches[0].rejects
    assert any("parts of a job" in n for n in batches[0].notes)


def test_a_truncated_archive_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path / "log.swf.gz", *(job(i) for i in range(2000)))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SourceError, match="cut short") as e:
        list(SwfSource(path).read())
    assert e.value.where == str(path)
    assert "again" in e.value.hint


def test_a_file_that_only_claims_to_be_packed(tmp_path: Path) -> None:
    plain = written(tmp_path / "log.swf", job(1))
    plain.rename(tmp_path / "plain.swf.gz")
    work, _ = read(SwfSource(tmp_path / "plain.swf.gz"))
    assert len(work) == 1


@pytest.mark.parametrize("lines", [[], [job(1, runtime=-1)], ["not a log"]])
def test_no_usable_job_is_an_error(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(SourceError, match="no usable job"):
        list(SwfSource(written(tmp_path / "log.swf", *lines)).read())


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        SwfSource(tmp_path / "absent.swf")


def test_reading_twice_yields_the_same_and_progress_ends_at_one(tmp_path: Path) -> None:
    source = SwfSource(written(tmp_path / "log.swf", *(job(i) for i in range(1, 50))))
    told: list[float] = []
    first, _ = read(source)
    again = list(source.read(lambda share, text: told.append(share)))
    assert first.tasks.equals(again[0].work.tasks)
    assert told[-1] == 1.0
    assert isinstance(source, WorkSource)


WORDS = st.one_of(
    st.integers(-1, 10**6).map(str),
    st.floats(-1, 1e6, allow_nan=False).map(lambda x: f"{x:.2f}"),
    st.sampled_from(["x", "nan", "inf", "1e400", "--", "0x1", "1_000"]),
)
LINES = st.one_of(
    st.lists(st.integers(-1, 999).map(str), min_size=18, max_size=18).map(" ".join),
    st.lists(WORDS, min_size=0, max_size=21).map("  ".join),
    st.just("; a comment"),
)


@given(st.lists(LINES, max_size=12))
def test_fast_and_exact_path_agree(lines: list[str]) -> None:
    """A block as a whole gives what its lines give one by one."""
    block = "".join(f"{x}\n" for x in lines).encode()
    whole = parse_block(block, 1)
    single = [parse_block(f"{x}\n".encode(), n) for n, x in enumerate(lines, start=1)]
    assert whole.lines.tolist() == [n for s in single for n in s.lines.tolist()]
    assert whole.rejects == [r for s in single for r in s.rejects]
    values = [row for s in single for row in s.fields.to_numpy().tolist()]
    assert whole.fields.to_numpy().tolist() == values
    assert len(whole.lines) + len(whole.rejects) == sum(1 for x in lines if x.strip() and not x.startswith(";"))


LOGS = {
    # name: (jobs, rejects, core-hours, zone, MaxProcs)
    "NASA-iPSC-1993-3.1-cln": (18_066, 173, 131_733, "America/Los_Angeles", 128),
    "KTH-SP2-1996-2.1-cln": (28_467, 9, 560_164, "Europe/Stockholm", 100),
    "LANL-CM5-1994-4.1-cln": (122_055, 5, 13_173_634, "America/Denver", 1024),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGS)
def test_real_logs(traces: Path, name: str) -> None:
    jobs, rejects, core_hours, zone, procs = LOGS[name]
    source = SwfSource(traces / "swf" / f"{name}.swf.gz")
    work, batches = read(source)
    assert (len(work), sum(len(b.rejects) for b in batches)) == (jobs, rejects)
    assert (work.tasks.cpu * work.tasks.runtime_s).sum() / 3600 == pytest.approx(core_hours, abs=1)
    assert (source.zone, source.capacity) == (zone, Resources(cpu=procs))
    assert work.runs.run_id.is_unique


@pytest.mark.slow
def test_first_jobs_of_nasa(traces: Path) -> None:
    work, _ = read(SwfSource(traces / "swf" / "NASA-iPSC-1993-3.1-cln.swf.gz"))
    first = work.runs.iloc[:2]
    assert first.run_id.tolist() == ["NASA-iPSC-1993-3.1-cln/1", "NASA-iPSC-1993-3.1-cln/2"]
    local = [datetime.fromtimestamp(s, UTC).isoformat() for s in first.submit]
    assert local == ["1993-10-01T07:00:03+00:00", "1993-10-01T07:24:23+00:00"]
    assert work.tasks.cpu[:2].tolist() == [128, 128]
    assert work.tasks.runtime_s[:2].tolist() == [1451, 3726]


@pytest.mark.slow
def test_real_log_with_three_broken_lines(traces: Path, tmp_path: Path) -> None:
    lines = gzip.decompress((traces / "swf" / "KTH-SP2-1996-2.1-cln.swf.gz").read_bytes()).decode().splitlines()
    for n in (100, 5000, 20000):
        lines[n - 1] = "broken " + lines[n - 1]
    (tmp_path / "kth.swf").write_text("\n".join(lines))
    work, batches = read(SwfSource(tmp_path / "kth.swf"))
    broken = [r for b in batches for r in b.rejects if "fields" in r.reason]
    assert [r.line for r in broken] == [100, 5000, 20000]
    assert len(work) == 28_467 - 3
