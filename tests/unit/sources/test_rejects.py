"""The rejects file: whole or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.contracts import Reject, SourceBatch
from preprov.model.worktable import WorkTable
from preprov.sources.rejects import rejects_file

REJECTS = (Reject(3, "runtime <= 0", "1 2\t3"), Reject(9, "no\nid", "é\\"))


def test_tab_separated(tmp_path: Path) -> None:
    with rejects_file(tmp_path / "deep" / "r.tsv") as writer:
        writer.write(REJECTS)
        assert not (tmp_path / "deep" / "r.tsv").exists()
    text = (tmp_path / "deep" / "r.tsv").read_text(encoding="utf-8")
    assert text.splitlines() == ["line\treason\traw", "3\truntime <= 0\t1 2\\t3", "9\tno\\nid\té\\\\"]
    assert writer.count == 2
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["r.tsv"]


def test_json_lines(tmp_path: Path) -> None:
    with rejects_file(tmp_path / "r.jsonl") as writer:
        writer.write(REJECTS)
    rows = [json.loads(x) for x in (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(r["line"], r["reason"], r["raw"]) for r in rows] == [(r.line, r.reason, r.raw) for r in REJECTS]


def test_batches_pass_through_unchanged(tmp_path: Path) -> None:
    batches = [SourceBatch(WorkTable.empty(), rejects=(r,)) for r in REJECTS]
    with rejects_file(tmp_path / "r.jsonl") as writer:
        assert list(writer.watching(batches)) == batches
    assert writer.count == 2


def test_nothing_changes_if_it_fails_or_nothing_was_rejected(tmp_path: Path) -> None:
    path = tmp_path / "r.tsv"
    path.write_text("earlier")

    def broken() -> Iterator[SourceBatch]:
        yield SourceBatch(WorkTable.empty(), rejects=REJECTS)
        raise RuntimeError

    def ingest() -> None:
        with rejects_file(path) as writer:
            list(writer.watching(broken()))

    with pytest.raises(RuntimeError):
        ingest()
    with rejects_file(path):
        pass
    assert path.read_text() == "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["r.tsv"]
