"""Every resource, block and argument of the modules without a provider at hand, against the published schemas.

The cdktf provider packages on PyPI hold the providers' schemas as Python signatures. They are large, so they are not
installed with the tests: `pip install cdktf-cdktf-provider-google cdktf-cdktf-provider-azurerm`, or point
PREPROV_TEST_CDKTF to a folder that holds them.
"""

import ast
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.unit.terraform.modules import EXAMPLES, MODULES, resources

_META = {"for_each", "count", "depends_on", "lifecycle", "provider", "dynamic", "connection", "provisioner"}
_PACKAGES = {"google": "cdktf_cdktf_provider_google", "azurerm": "cdktf_cdktf_provider_azurerm"}


@dataclass(frozen=True)
class Argument:
    required: bool
    block: str


def package(provider: str) -> Path:
    name = _PACKAGES[provider]
    named = os.environ.get("PREPROV_TEST_CDKTF")
    if named:
        found = Path(named) / name
        if found.is_dir():
            return found
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{name.replace('_', '-')} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


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
        if key.startswith("__") or (key in _META and key != "dynamic"):
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


@pytest.mark.parametrize("provider", _PACKAGES)
def test_resources_are_as_the_provider_has_them(provider: str) -> None:
    root, found, seen = package(provider), [], 0
    for folder in (*MODULES, *EXAMPLES):
        for type_, name, body in resources(folder):
            if not type_.startswith(f"{provider}_"):
                continue
            seen += 1
            module = root / type_.removeprefix(f"{provider}_")
            where = f"{folder.name}: {type_}.{name}"
            if not module.is_dir():
                found.append(f"{where}: there is no such resource")
                continue
            known = classes(module)
            top = next(c for c in known if c.lower() == module.name.replace("_", ""))
            found.extend(problems(body, top, known, where))
    assert found == []
    assert seen > 5


def test_the_check_finds_what_is_wrong() -> None:
    known = {
        "Top": {"name": Argument(True, ""), "disk": Argument(False, "Disk")},
        "Disk": {"size": Argument(True, "")},
    }
    body = {"nmae": "x", "disk": [{"__is_block__": True, "sise": 1}], "lifecycle": [{}], "__is_block__": True}
    assert sorted(problems(body, "Top", known, "t")) == [
        "t.disk: no argument sise",
        "t.disk: size is required",
        "t: name is required",
        "t: no argument nmae",
    ]
