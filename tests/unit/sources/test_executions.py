"""Execution traces as files: Nextflow's own, tables like it, and what is wrong with some rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from preprov.model.errors import ConfigError, SourceError
from preprov.sources.executions import read_executions

PRINTED = """task_id\tname\tstatus\tsubmit\tstart\tcomplete\trealtime\t%cpu\tcpus\tmemory\tpeak_rss\trchar\twchar
1\tW:ALIGN (S1)\tCOMPLETED\t2024-03-01 10:00:00.000\t2024-03-01 10:01:00.000\t2024-03-01 10:05:20.000\t3m 20s\t98.5%\t2\t8 GB\t1.5 GB\t2 MB\t10 KB
2\tW:ALIGN (S2)\tFAILED\t2024-03-01 10:00:00.000\t-\t-\t1m\t-\t2\t8 GB\t1 GB\t-\t-
3\tW:SORT (S1)\tCACHED\t2024-03-01 09:00:00.000\t2024-03-01 09:01:00.000\t2024-03-01 09:02:00.000\t-\t-\t1\t-\t0\t-\t-
"""  # noqa: E501


def test_a_trace_as_nextflow_prints_it(tmp_path: Path) -> None:
    file = tmp_path / "trace.txt"
    file.write_text(PRINTED)
    read = read_executions(file)
    frame = read.executions.frame
    assert frame["process"].tolist() == ["W:SORT", "W:ALIGN"]  # in the order of submission
    sort, align = frame.to_dict("records")
    assert (align["runtime_s"], align["memory"], align["peak"], align["cpu"]) == (200.0, 8.0, 1.5, 0.985)
    assert (align["read_bytes"], align["written_bytes"]) == (2 * 2**20, 10 * 2**10)
    assert sort["runtime_s"] == 60.0
    assert np.isnan([sort["peak"], sort["memory"], sort["read_bytes"]]).all()
    assert [(r.line, r.reason) for r in read.rejects] == [(3, "status FAILED")]
    assert "1 of 2 rows without peak memory" in read.notes


def raw(tmp_path: Path, **columns: object) -> Path:
    usual = {"process": ["A"] * 3, "realtime": [1000, 2000, 3000], "peak_rss": [2**30] * 3, "submit": [1.7e12] * 3}
    file = tmp_path / "trace.parquet"
    pd.DataFrame(usual | columns).to_parquet(file)
    return file


def test_raw_numbers_are_milliseconds_and_bytes(tmp_path: Path) -> None:
    frame = read_executions(raw(tmp_path)).executions.frame
    assert frame["runtime_s"].tolist() == [1.0, 2.0, 3.0]
    assert frame["peak"].tolist() == [1.0] * 3
    assert frame["submitted"].tolist() == [1.7e9] * 3
    assert frame["workflow"].tolist() == ["trace"] * 3


def test_clocks_that_run_backwards_and_runs_of_thirty_days(tmp_path: Path) -> None:
    read = read_executions(
        raw(tmp_path, realtime=[-5.0, np.nan, 30 * 86_400_000.0], start=[9.0] * 3, complete=[8.0, 8.0, 9.0])
    )
    assert read.executions.frame["runtime_s"].tolist() == [30 * 86_400.0]
    assert [r.reason for r in read.rejects] == ["no runtime"] * 2


def test_other_names_by_mapping(tmp_path: Path) -> None:
    file = raw(tmp_path, what=["X", "Y", "Z"])
    assert read_executions(file, {"process": "what"}).executions.frame["process"].tolist() == ["X", "Y", "Z"]
    with pytest.raises(ConfigError, match="no column"):
        read_executions(file, {"process": "nothing"})


def test_what_is_no_trace_says_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match="process, realtime"):
        read_executions(file)
    file.write_text("process,realtime,status\nA,5,FAILED\n")
    with pytest.raises(SourceError, match="no usable row"):
        read_executions(file)
