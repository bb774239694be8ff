"""What earlier tasks of the same sample tell of a task that is about to begin.

A workflow that works through samples names each task's sample in a tag. What an ended task of that sample wrote is what
the next one reads: an input size that is known before it starts, where the trace itself has none. Two tasks are kin if
the words of one tag are among those of the other (`ERR26` and `SPAdes-ERR26.7`). Only what had ended when a task was
submitted is looked at, and never the task itself.
"""

import re
from collections import Counter, defaultdict
from typing import Any, Final

import numpy as np

from preprov.model.executions import Executions
from preprov.profiles.history import Facts

INPUT: Final = "input"
WRITTEN: Final = "written"
SECONDS: Final = "seconds"
_SEPARATORS: Final = re.compile(r"[^0-9A-Za-z]+")
_EXTENSIONS: Final = re.compile(
    r"(?:\.(?:fa|fasta|fastq|fq|fna|faa|gff|gtf|bam|sam|cram|bed|vcf|txt|tsv|csv|json|gz|bz2|zip|parquet))+$",
    re.IGNORECASE,
)
_RAREST: Final = 3
_MOST_POSTINGS: Final = 300
_MOST_SOURCES: Final = 11
"""Earlier tasks that are told of, the last ones: the one before it is most likely what it reads from."""


def words_of(tag: str) -> frozenset[str]:
    """The words in a name or tag, without file name extensions."""
    return frozenset(w for w in _SEPARATORS.split(_EXTENSIONS.sub("", tag.strip())) if w)


def facts(ran: Executions) -> list[Facts]:
    """What is known of each task of one workflow when it is submitted."""
    words = [words_of(str(t)) for t in ran.column("tag")]
    submitted, ended, inputs = ran.column("submitted"), ran.column("ended"), ran.column("input_bytes")
    told = _Told(ran, words)
    out: list[Facts] = [Facts()] * len(words)
    by_end = iter(np.argsort(ended, kind="stable")[: int(np.isfinite(ended).sum())].tolist())
    upcoming = next(by_end, None)
    for task in np.argsort(submitted, kind="stable").tolist():
        while upcoming is not None and ended[upcoming] <= submitted[task]:
            told.add(upcoming)
            upcoming = next(by_end, None)
        known = told.of(task)
        if np.isfinite(inputs[task]):
            known[INPUT] = float(inputs[task])
        out[task] = Facts(known, words[task])
    return out


class _Told:
    """Ended tasks by the words in their tags."""

    def __init__(self, ran: Executions, words: list[frozenset[str]]) -> None:
        self._name = ran.column("process").tolist()
        self._ended = ran.column("ended")
        self._written = ran.column("written_bytes")
        self._seconds = ran.column("runtime_s")
        self._words = words
        self._postings: dict[str, list[int]] = defaultdict(list)
        self._often: Counter[str] = Counter()

    def add(self, task: int) -> None:
        for word in self._words[task]:
            self._postings[word].append(task)
            self._often[word] += 1

    def of(self, task: int) -> dict[str, float]:
        """Bytes and seconds by the kin's name; the bytes of the last of them, and in all."""
        nearest: dict[str, list[int]] = {}
        shared: dict[str, int] = {}
        for other in self._kin(task):
            name = self._name[other]
            common = len(self._words[other] & self._words[task])
            if common > shared.get(name, 0):
                shared[name], nearest[name] = common, [other]
            elif common == shared[name]:
                nearest[name].append(other)
        last = sorted(nearest, key=lambda n: float(self._ended[nearest[n]].max()), reverse=True)
        out: dict[str, float] = {}
        for name in last[:_MOST_SOURCES]:
            out |= self._numbers(name, nearest[name])
        written = [v for k, v in out.items() if k.endswith(WRITTEN)]
        return out | ({INPUT: written[0], WRITTEN: sum(written)} if written else {})

    def _numbers(self, name: str, rows: list[int]) -> dict[str, float]:
        sums = {WRITTEN: float(self._written[rows].sum()), SECONDS: float(self._seconds[rows].sum())}
        return {f"{name} {what}": value for what, value in sums.items() if np.isfinite(value)}

    def _kin(self, task: int) -> list[int]:
        mine, name = self._words[task], self._name[task]
        rarest = sorted((w for w in mine if self._often[w]), key=lambda w: (self._often[w], w))[:_RAREST]
        met: dict[int, Any] = {}
        for word in rarest:
            for other in self._postings[word][-_MOST_POSTINGS:]:
                if other not in met and self._name[other] != name:
                    theirs = self._words[other]
                    if theirs <= mine or mine <= theirs:
                        met[other] = None
        return list(met)
