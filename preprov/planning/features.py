"""Features of nodes, and what a task demands of them, as Slurm writes it: `gpu&(rack1|rack2)`, `[a*2&b*1]`.

A group says in its options which features its nodes have. Where no group of a pool does, nobody knows, and nothing is
ruled out; where one does, those that say nothing have none.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final

from preprov.model.pools import Pool

CONSTRAINT: Final = "constraint"
"""The label of a task that is such an expression."""
_WORDS: Final = re.compile(r"[\[\]()&|,*]|[^\[\]()&|,*\s]+")


def offered(pool: Pool, group: str) -> frozenset[str] | None:
    """Features of the nodes of a group; None = nobody says."""
    said = {g.name: g.options["features"] for g in pool.groups if "features" in g.options}
    if not said:
        return None
    found = said.get(group, ())
    return frozenset(str(f) for f in found) if isinstance(found, Collection) else frozenset()


def tells_features(pool: Pool) -> bool:
    """True if any of its groups says which features its nodes have."""
    return any("features" in g.options for g in pool.groups)


@lru_cache(maxsize=4096)
def met(constraint: str, features: frozenset[str]) -> bool:
    """True if a node with these features can be one of those that the constraint wants; what cannot be read is met.

    Operators have no rank: they are applied from the left. Within brackets each node needs one of the terms only.
    """
    words = _WORDS.findall(constraint)
    try:
        found = _expression(words, features, any_of=False)
    except IndexError:
        return True
    return found or bool(words)  # words that are left: it was not read to its end


def _expression(words: list[str], features: frozenset[str], *, any_of: bool) -> bool:
    out = _term(words, features)
    while words and words[0] in "&|,":
        operator = words.pop(0)
        right = _term(words, features)
        out = (out or right) if any_of or operator == "|" else (out and right)
    return out


def _term(words: list[str], features: frozenset[str]) -> bool:
    word = words.pop(0)
    if word in "([":
        out = _expression(words, features, any_of=word == "[")
        if words.pop(0) not in ")]":
            raise IndexError(word)
    elif word in ")]&|,*":
        raise IndexError(word)
    else:
        out = word in features
    if words[:1] == ["*"]:  # of so many nodes of the job
        del words[:2]
    return out
