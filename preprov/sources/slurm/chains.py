"""Submissions that wait for each other are one run: who waits for whom, remembered after Slurm has forgotten it.

Slurm names a dependency only while it is not met. So it is noted when it is seen, in the source's notebook; one that
came and went between two passes is read from the command of the submission, where the accounting keeps that.
"""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_PREFIX: Final = "chain/"
_KINDS: Final = ("afterok", "afterany", "aftercorr", "afterburstbuffer", "afternotok")
_TERM: Final = re.compile(r"(after\w*|expand|singleton):?([^,?()]*)")
_JOB: Final = re.compile(r"(\d+)(?:_(\*|\d+))?")


@dataclass
class Chains:
    """Who waits for whom.

    Attributes:
        parents: unit -> the units it waits for (True = element by element).
    """

    parents: dict[int, dict[int, bool]] = field(default_factory=dict)
    _group: dict[int, list[int]] = field(default_factory=dict)
    """Unit -> the units it hangs together with, the first submission first in place; one list for all of them."""

    @classmethod
    def read(cls, notebook: Mapping[str, str]) -> "Chains":
        """Of the notebook."""
        out = cls()
        for key, value in notebook.items():
            if key.startswith(_PREFIX):
                for child, parents in json.loads(value).items():
                    out.add(int(child), {int(p): bool(c) for p, c in parents})
        return out

    def add(self, child: int, parents: Mapping[int, bool]) -> None:
        """Note what a unit waits for."""
        found = {p: corr for p, corr in parents.items() if p != child}
        if found and not found.items() <= self.parents.get(child, {}).items():
            self.parents.setdefault(child, {}).update(found)
            for parent in found:
                self._join(child, parent)

    def knows(self, unit: int) -> bool:
        """True if it is noted what the unit waits for."""
        return unit in self.parents

    def units(self) -> frozenset[int]:
        """All that hang together with others."""
        return frozenset(self._group)

    def run_of(self, unit: int) -> int:
        """The run a unit belongs to: the first submission of those that hang together."""
        group = self._group.get(unit)
        return group[0] if group else unit

    def members(self, run: int) -> list[int]:
        """Units of a run, the first submission first."""
        group = self._group.get(run)
        return sorted(group) if group and group[0] == run else [run]

    def notes(self, notebook: Mapping[str, str], finished: Iterable[int]) -> dict[str, str | None]:
        """What to change in the notebook; runs in `finished` are dropped, and nothing is remembered of them."""
        gone = set(finished)
        wanted: dict[str, str] = {}
        for run in {g[0] for g in self._group.values()} - gone:
            rows = {u: sorted(self.parents[u].items()) for u in self.members(run) if u in self.parents}
            wanted[f"{_PREFIX}{run}"] = json.dumps(rows, separators=(",", ":"))
        out: dict[str, str | None] = {k: v for k, v in wanted.items() if notebook.get(k) != v}
        out.update(dict.fromkeys(k for k in notebook if k.startswith(_PREFIX) and k not in wanted))
        return out

    def _join(self, a: int, b: int) -> None:
        """Two units hang together, and so do all that hang together with either: the fewer go to the more."""
        few, many = sorted((self._group.setdefault(a, [a]), self._group.setdefault(b, [b])), key=len)
        if few is many:
            return
        begin = len(many) if few[0] < many[0] else 0
        many += few
        many[0], many[begin] = many[begin], many[0]
        self._group.update(dict.fromkeys(few, many))


def waits_for(dependency: str) -> dict[int, bool]:
    """Units named by `afterok:5_*(unfulfilled),aftercorr:7`; those that only begin after others began are no edges."""
    out: dict[int, bool] = {}
    for term in _TERM.finditer(dependency.replace("(unfulfilled)", "").replace("(failed)", "")):
        if term[1] in _KINDS:
            for job in _JOB.finditer(term[2]):
                out[int(job[1])] = term[1] == "aftercorr"
    return out


def waits_for_of(command: str) -> dict[int, bool]:
    """The same of the command of a submission."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    return waits_for(",".join(_given(words)))


def _given(words: list[str]) -> Iterator[str]:
    for i, word in enumerate(words):
        if word.startswith("--dependency="):
            yield word.partition("=")[2]
        elif word in ("--dependency", "-d") and i + 1 < len(words):
            yield words[i + 1]
        elif re.fullmatch(r"-dafter.*", word):
            yield word[2:]
