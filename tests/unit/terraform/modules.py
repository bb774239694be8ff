"""The Terraform modules as data: what tests look at without Terraform."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

hcl2 = pytest.importorskip("hcl2", reason="python-hcl2 is not installed")

ROOT = Path(__file__).resolve().parents[3]
TERRAFORM = ROOT / "infra" / "terraform"
MODULES = sorted(p for p in (TERRAFORM / "modules").iterdir() if p.is_dir())
EXAMPLES = sorted(p for p in (TERRAFORM / "examples" / "complete").iterdir() if p.is_dir())


def parsed(path: Path) -> dict[str, Any]:
    """A file, its strings without their quotes."""
    from hcl2.utils import SerializationOptions

    with path.open(encoding="utf-8") as f:
        return dict(hcl2.load(f, serialization_options=SerializationOptions(strip_string_quotes=True)))


def blocks(folder: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, content) of blocks with one label."""
    for path in sorted(folder.glob("*.tf")):
        for block in parsed(path).get(kind, ()):
            yield from ((k, v) for k, v in block.items() if not k.startswith("__"))


def resources(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(type, name, content)."""
    for type_, named in blocks(folder, "resource"):
        for name, body in named.items():
            if not name.startswith("__"):
                yield type_, name, body
