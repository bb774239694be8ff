"""The rejects file: every row that was kept aside, with its line and the reason, so that bad input loses nothing."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Final

from preprov.contracts import Reject, SourceBatch

_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class RejectsWriter:
    """Writes rejects as they come; made by `rejects_file`.

    Attributes:
        count: how many were written.
    """

    def __init__(self, file: IO[str], *, as_json: bool) -> None:
        self._file = file
        self._json = as_json
        self.count = 0
        if not as_json:
            file.write("line\treason\traw\n")

    def write(self, rejects: Iterable[Reject]) -> None:
        """Add these."""
        for r in rejects:
            if self._json:
                row = json.dumps({"line": r.line, "reason": r.reason, "raw": r.raw}, ensure_ascii=False)
            else:
                row = f"{r.line}\t{r.reason.translate(_ESCAPES)}\t{r.raw.translate(_ESCAPES)}"
            self._file.write(row + "\n")
            self.count += 1

    def watching(self, batches: Iterable[SourceBatch]) -> Iterator[SourceBatch]:
        """The same batches, their rejects written on the way."""
        for batch in batches:
            self.write(batch.rejects)
            yield batch


@contextmanager
def rejects_file(path: Path) -> Iterator[RejectsWriter]:
    r"""A rejects file at `path`: JSON lines if its suffix is .jsonl, else tab-separated with \t and \n escaped.

    It appears whole under its name when the block ends; if the block raises, or nothing was rejected, a file that
    stood there before is left as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as f:
        part = Path(f.name)
        try:
            writer = RejectsWriter(f, as_json=path.suffix == ".jsonl")
            yield writer
            f.flush()
            os.fsync(f.fileno())
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    if writer.count:
        part.chmod(0o644)
        part.replace(path)
    else:
        part.unlink()
