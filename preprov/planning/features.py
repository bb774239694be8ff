"""Features of nodes, and what a task demands of them, as Slurm writes it: `gpu&(rack1|rack2)`, `[a*2&b*1]`.

A group says in its options which features its nodes have. Where no group of a pool does, nobody knows, and nothing is
ruled out; where one does, those that say nothing have none. Labels of Kubernetes are features, too: `key=value`, and
`key=?` for any value. Nodes have many that nobody lists, so that rule holds for each key of a label by itself.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, partial
from typing import Final

from preprov.model.pools import Group, Pool

CONSTRAINT: Final = "constraint"
"""The label of a task that is such an expression."""
_WORDS: Final = re.compile(r"[\[\]()&|,*]|[^\[\]()&|,*\s]+")


def offered(pool: Pool, group: str) -> frozenset[str] | None:
    """Features of the nodes of a group; None = nobody says."""
    said = {g.name: _said(g) for g in pool.groups}
    return said[group] or frozenset() if any(s is not None for s in said.values()) else None


def differ(pool: Pool) -> bool:
    """True if features tell its groups apart."""
    return len({offered(pool, g.name) for g in pool.groups}) > 1


def meets(pool: Pool, group: str, constraint: str) -> bool:
    """True if nodes of the group can be what the constraint wants, as far as anybody says."""
    features = offered(pool, group)
    if features is None:
        return True
    keys = {k for g in pool.groups for k in _labels(g)}
    return met(constraint, features, frozenset(keys))


def _said(group: Group) -> frozenset[str] | None:
    features, labels = group.options.get("features"), _labels(group)
    if features is None and not labels:
        return None
    found = features if isinstance(features, Collection) else ()
    return frozenset(str(f) for f in found) | {f"{k}={v}" for k, v in labels.items()}


def _labels(group: Group) -> Mapping[str, object]:
    """Of all nodes of a group in a Kubernetes cluster."""
    found = group.options.get("node_selector")
    return found if isinstance(found, Mapping) else {}


@lru_cache(maxsize=4096)
def met(constraint: str, features: frozenset[str], keys: frozenset[str] = frozenset()) -> bool:
    """True if a node with these features can be one of those that the constraint wants; what cannot be read is met.

    Operators have no rank: they are applied from the left. Within brackets each node needs one of the terms only.

    Args:
        keys: of labels that are told; a label with any other is met.
    """
    words = _WORDS.findall(constraint)
    has = partial(_has, features, keys)
    try:
        found = _expression(words, has, any_of=False)
    except IndexError:
        return True
    return found or bool(words)  # words that are left: it was not read to its end


def _has(features: frozenset[str], keys: frozenset[str], word: str) -> bool:
    key, label, value = word.partition("=")
    if label and key not in keys and word not in features:
        return True
    return any(f.startswith(f"{key}=") for f in features) if value == "?" else word in features


def _expression(words: list[str], has: Callable[[str], bool], *, any_of: bool) -> bool:
    out = _term(words, has)
    while words and words[0] in "&|,":
        operator = words.pop(0)
        right = _term(words, has)
        out = (out or right) if any_of or operator == "|" else (out and right)
    return out


def _term(words: list[str], has: Callable[[str], bool]) -> bool:
    word = words.pop(0)
    if word in "([":
        out = _expression(words, has, any_of=word == "[")
        if words.pop(0) not in ")]":
            raise IndexError(word)
    elif word in ")]&|,*":
        raise IndexError(word)
    else:
        out = has(word)
    if words[:1] == ["*"]:  # of so many nodes of the job
        del words[:2]
    return out
