"""Arguments of Terraform's blocks against a provider's schema, read from its cdktf package: Python signatures."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

META = {"for_each", "count", "depends_on", "lifecycle", "provider", "dynamic", "connection", "provisioner"}


@dataclass(frozen=True)
class Argument:
    required: bool
    block: str


@cache
def classes(module: Path) -> Mapping[str, Mapping[str, Argument]]:
    """Class -> its arguments; the classes are those of a resource and of its blocks."""
    tree = ast.parse((module / "__init__.py").read_text(encoding="utf-8"))
    names = {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
    return {n.name: dict(arguments(n, names)) for n in tree.body if isinstance(n, ast.ClassDef)}


def arguments(class_: ast.ClassDef, names: set[str]) -> Iterator[tuple[str, Argument]]:
    init = next((n for n in class_.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is None:
        return
    for arg, given in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True):
        text = ast.unparse(arg.annotation) if arg.annotation else ""
        inner = [w for w in re.findall(r"['\"](\w+)['\"]", text) if w in names]
        yield arg.arg, Argument(given is None, inner[0] if inner else "")


def given(body: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """(argument, its blocks, none if it is no block) of a body; dynamic blocks as what they make."""
    for key, value in body.items():
        if key.startswith("__") or (key in META and key != "dynamic"):
            continue
        if key == "dynamic":
            for one in value:
                yield from ((n, list(d["content"])) for n, d in one.items() if not n.startswith("__"))
        else:
            is_block = (
                isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "__is_block__" in value[0]
            )
            yield key, value if is_block else []


def problems(
    body: Mapping[str, Any], class_: str, known: Mapping[str, Mapping[str, Argument]], where: str
) -> Iterator[str]:
    schema = known[class_]
    used = dict(given(body))
    for name, blocks in used.items():
        if name not in schema:
            yield f"{where}: no argument {name}"
        elif bool(blocks) != bool(schema[name].block):
            yield f"{where}: {name} is {'no ' if blocks else 'a '}block"
        else:
            for block in blocks:
                yield from problems(block, schema[name].block, known, f"{where}.{name}")
    yield from (f"{where}: {n} is required" for n, a in schema.items() if a.required and n not in used)
