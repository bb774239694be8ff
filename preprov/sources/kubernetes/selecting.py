"""Which nodes a pod may be on, as a constraint that a plan can read: `disk=ssd&(zone=a|zone=b)&gpu=?`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from preprov.sources.kubernetes.reading import of
from preprov.sources.text import LONGEST

Json: TypeAlias = Mapping[str, Any]

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_LABEL: Final = re.compile(r"[A-Za-z0-9._/-]+=[A-Za-z0-9._-]*")


def constraint_of(spec: Json) -> tuple[str, tuple[str, ...]]:
    """(what its node selector and required node affinity demand, which parts of that are left out) of a pod's spec.

    There is no "not" in a constraint: what is left out makes it wider than it is, never narrower.
    """
    lost: list[str] = []
    parts = [_label(str(k), v, lost) for k, v in sorted(of(spec, "nodeSelector").items())]
    parts.append(_terms(of(of(of(spec, "affinity"), "nodeAffinity"), _REQUIRED).get("nodeSelectorTerms"), lost))
    text = "&".join(dict.fromkeys(p for p in parts if p))
    if len(text) > LONGEST:
        return "", (*lost, f"a selection of {len(text)} characters")
    return text, tuple(dict.fromkeys(lost))


def _terms(terms: object, lost: list[str]) -> str:
    """One of them has to be met; one that says nothing is met by no node, and one that cannot be told by any."""
    told = [t for t in terms if isinstance(t, Mapping) and _says(t)] if isinstance(terms, list) else []
    found = [_term(t, lost) for t in told]
    return _joined("|", found) if all(found) else ""


def _says(term: Json) -> bool:
    return bool(term.get("matchExpressions") or term.get("matchFields"))


def _term(term: Json, lost: list[str]) -> str:
    """All of its expressions have to be met."""
    expressions = [e for e in term.get("matchExpressions") or () if isinstance(e, Mapping)]
    fields = [e for e in term.get("matchFields") or () if isinstance(e, Mapping)]
    lost += [_words(e) for e in fields]
    return _joined("&", (p for e in expressions if (p := _expression(e, lost))))


def _expression(one: Json, lost: list[str]) -> str:
    key, operator = str(one.get("key") or ""), one.get("operator")
    if operator == "Exists" and _LABEL.fullmatch(f"{key}="):
        return f"{key}=?"
    if operator == "In" and isinstance(one.get("values"), list):
        found = [_label(key, v, lost) for v in one["values"]]
        return _joined("|", found) if all(found) else ""
    lost.append(_words(one))
    return ""


def _label(key: str, value: object, lost: list[str]) -> str:
    text = f"{key}={value}"
    if _LABEL.fullmatch(text):
        return text
    lost.append(text)
    return ""


def _words(one: Json) -> str:
    """As it is told: `disk NotIn hdd, tape`."""
    values = ", ".join(str(v) for v in one.get("values") or ())
    return f"{one.get('key')} {one.get('operator')} {values}".strip()


def _joined(operator: str, parts: Iterable[str]) -> str:
    """In parentheses where they are several: operators have no rank."""
    told = list(dict.fromkeys(parts))
    return told[0] if len(told) == 1 else f"({operator.join(told)})" if told else ""
