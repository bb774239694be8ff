"""Write what is generated under infra/terraform: the READMEs of the modules, and the rights of their roles.

With --check nothing is written; the exit code is 1 if anything would change.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
from hcl2.utils import SerializationOptions

from preprov.pools.rights import MODULES

ROOT = Path(__file__).resolve().parent.parent
TERRAFORM = ROOT / "infra" / "terraform"


def blocks(module: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All (name, content) of a kind of block with one label, sorted."""
    out = []
    for path in sorted(module.glob("*.tf")):
        with path.open() as f:
            for block in hcl2.load(f, serialization_options=SerializationOptions(strip_string_quotes=True)).get(
                kind, ()
            ):
                out.extend((name, body) for name, body in block.items() if not name.startswith("__"))
    return iter(sorted(out, key=lambda b: b[0]))


def cell(value: object) -> str:
    """Text that fits into a cell of a table."""
    return str(value).replace('\\"', '"').replace("|", "\\|").replace("\n", " ")


def default(body: dict[str, Any]) -> str:
    if "default" not in body:
        return "required"
    return f"`{json.dumps(body['default'])}`"


def short(type_: object) -> str:
    """A type without its inner parts."""
    text = str(type_).removeprefix("${").removesuffix("}")
    return (
        text
        if "object" not in text
        else text.split("object", 1)[0] + "object(…)" + ")" * text.split("object", 1)[0].count("(")
    )


def tables(module: Path) -> str:
    lines = ["## Variables", "", "| name | type | default | what it is |", "|---|---|---|---|"]
    for name, body in blocks(module, "variable"):
        lines.append(f"| `{name}` | `{short(body['type'])}` | {default(body)} | {cell(body['description'])} |")
    lines += ["", "## Outputs", "", "| name | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {cell(body['description'])} |" for name, body in blocks(module, "output")]
    return "\n".join(lines) + "\n"


def readme(module: Path) -> str:
    """What a person wrote about the module, its example, then its tables."""
    about = (module / "ABOUT.md").read_text(encoding="utf-8").rstrip()
    example = (TERRAFORM / "examples" / "complete" / module.name / "main.tf").read_text(encoding="utf-8").rstrip()
    usage = f"## Example\n\nThe whole of it is in `examples/complete/{module.name}`.\n\n```hcl\n{example}\n```"
    return "\n\n".join([about, usage, tables(module)])


def outputs() -> Iterator[tuple[Path, str]]:
    for module in sorted((TERRAFORM / "modules").iterdir()):
        yield module / "README.md", readme(module)
        if module.name in MODULES:
            yield module / "rights.json", json.dumps(MODULES[module.name].as_json(), indent=2) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [(p, text) for p, text in outputs() if not p.exists() or p.read_text(encoding="utf-8") != text]
    for path, text in stale:
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
