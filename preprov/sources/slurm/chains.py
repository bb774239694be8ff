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
    _runs: dict[int, int] = field(default_factory=dict)

    @classmethod
    def read(cls, notebook: Mapping[str, str]) -> "Chains":
        """Of the notebook."""
        out = cls()
        for key, value in notebook.items():
            if key.startswith(_PREFIX):
                for child, parents in json.loads(value).items():
                    out.parents.setdefault(int(child), {}).update({int(p): bool(c) for p, c in parents})
        out._join()
        return out

    def add(self, child: int, parents: Mapping[int, bool]) -> None:
        """Note what a unit waits for."""
        found = {p: corr for p, corr in parents.items() if p != child}
        if found and not found.items() <= self.parents.get(child, {}).items():
            self.parents.setdefault(child, {}).update(found)
            self._join()

    def knows(self, unit: int) -> bool:
        """True if it is noted what the unit waits for."""
        return unit in self.parents

    def units(self) -> frozenset[int]:
        """All that hang together with others."""
        return frozenset(self._runs)

    def run_of(self, unit: int) -> int:
        """The run a unit belongs to: the first submission of those that hang together."""
        return self._runs.get(unit, unit)

    def members(self, run: int) -> list[int]:
        """Units of a run, the first submission first."""
        return sorted(u for u, r in self._runs.items() if r == run) or [run]

    def notes(self, notebook: Mapping[str, str], finished: Iterable[int]) -> dict[str, str | None]:
        """What to change in the notebook; runs in `finished` are dropped, and nothing is remembered of them."""
        gone = set(finished)
        wanted: dict[str, str] = {}
        for run in {r for r in self._runs.values() if r not in gone}:
            rows = {u: sorted(self.parents[u].items()) for u in self.members(run) if u in self.parents}
            wanted[f"{_PREFIX}{run}"] = json.dumps(rows, separators=(",", ":"))
        out: dict[str, str | None] = {k: v for k, v in wanted.items() if notebook.get(k) != v}
        out.update(dict.fromkeys(k for k in notebook if k.startswith(_PREFIX) and k not in wanted))
        return out

    def _join(self) -> None:
        """Give each unit of a chain its smallest member."""
        root: dict[int, int] = {}

        def find(u: int) -> int:
            while root.setdefault(u, u) != u:
                root[u] = root[root[u]]
                u = root[u]
            return u

        for child, parents in self.parents.items():
            for parent in parents:
                a, b = find(child), find(parent)
                root[max(a, b)] = min(a, b)
        self._runs = {u: find(u) for u in list(root)}


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
