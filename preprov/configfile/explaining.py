"""What is wrong with a file, in plain words: where, and the nearest right name."""

import difflib
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from preprov.model.errors import ConfigError


def explained(error: ValidationError, root: type[BaseModel], path: str) -> ConfigError:
    """The first problem of a validation error.

    Args:
        root: the section that was validated. path: of the file.
    """
    problems = error.errors()
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    loc = first["loc"]
    where = f"{path}: {_dotted(loc)}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        known = _fields_at(root, loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, 1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
        return ConfigError(f"unknown key {loc[-1]!r}{more}", where=where, hint=hint)
    if first["type"] == "union_tag_invalid":
        kind, kinds = str(first["ctx"]["tag"]), [k.strip("' ") for k in str(first["ctx"]["expected_tags"]).split(",")]
        near = difflib.get_close_matches(kind, kinds, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(kinds)}"
        return ConfigError(f"unknown kind {kind!r}{more}", where=where, hint=hint)
    said = str(first["msg"]).removeprefix("Value error, ")
    return ConfigError(f"{_dotted(loc)}: {said}{more}", where=where, hint="`preprov init` shows an example")


def _dotted(loc: Sequence[int | str]) -> str:
    return "".join(f"[{p + 1}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".")


def _fields_at(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Names of the fields of the section at `loc`."""
    found = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        inner = [s for m in found if part in m.model_fields for s in _sections(m.model_fields[part].annotation)]
        named = [m for m in found if part in get_args(getattr(m.model_fields.get("kind"), "annotation", None))]
        found = inner or named or found
    return list(dict.fromkeys(name for m in found for name in m.model_fields))


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """Sections that a field can hold: itself, in a list, one of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for inner in get_args(annotation) for s in _sections(inner)]
