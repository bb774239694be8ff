"""The repository keeps its own promises: light imports, a whole wheel, no stray paths."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

HEAVY = {
    "azure",
    "boto3",
    "botocore",
    "distributed",
    "duckdb",
    "google",
    "grpc",
    "matplotlib",
    "pandas",
    "prefect",
    "pyarrow",
    "quantile_forest",
    "scipy",
    "river",
    "sklearn",
    "skops",
    "sqlalchemy",
    "sqlmodel",
}
# Names that would tell on the machine a file was written on; work_pools, /workflows and the like are none.
FOREIGN_PATH = re.compile(r"(?<![\w.-])/work(?![\w-])|\.\./shared\b")
PROMISE = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME)\b")


def tracked_texts() -> dict[str, str]:
    """Every tracked file that is text, by its path from the root."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    # A checkout may belong to another user than the one CI runs as; git wants to be told that this is meant.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    texts = {}
    for name in filter(None, listing.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            texts[name] = content.decode(errors="replace")
    return texts


def lines_with(pattern: re.Pattern[str], texts: dict[str, str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:120]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def modules_after(statement: str, *flags: str) -> set[str]:
    """Top-level names of what a fresh interpreter has loaded after a statement."""
    program = f"import json, sys\nsys.path.insert(0, {str(ROOT)!r})\n{statement}\nprint(json.dumps(list(sys.modules)))"
    run = subprocess.run([sys.executable, *flags, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return {module.partition(".")[0] for module in json.loads(run.stdout.splitlines()[-1])}


def agent_side() -> list[str]:
    """Modules that run on a node, where there may be nothing but Python."""
    shared = [ROOT / "preprov" / "model" / f"{name}.py" for name in ("agent", "errors", "resources")]
    files = [*sorted((ROOT / "preprov" / "agent").glob("*.py")), *shared]
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def test_the_command_imports_nothing_heavy() -> None:
    assert modules_after("import preprov.cli.main") & HEAVY == set()


@pytest.mark.parametrize("module", agent_side())
def test_what_runs_on_a_node_needs_only_the_standard_library(module: str) -> None:
    loaded = modules_after(f"import {module}", "-S")  # -S: no site-packages

    assert loaded - sys.stdlib_module_names <= {"preprov", "__main__"}


@pytest.mark.slow
def test_the_wheel_is_whole(tmp_path: Path) -> None:
    run = subprocess.run(
        [ROOT / "scripts" / "uv", "build", "--wheel", "--out-dir", tmp_path, "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        entry_points = next(archive.read(name).decode() for name in packed if name.endswith("entry_points.txt"))
    shipped = {
        str(path.relative_to(ROOT))
        for room in ("preprov", "flows")
        for path in (ROOT / room).rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert shipped <= packed
    assert {"preprov/py.typed", "flows/__init__.py"} <= packed
    assert not {name for name in packed if name.startswith(("tests/", "benchmarks/", "scripts/"))}
    assert "preprov = preprov.cli.main:main" in entry_points


def test_no_file_names_a_path_of_one_machine() -> None:
    texts = {n: t for n, t in tracked_texts().items() if not n.startswith(("tests/", "benchmarks/"))}

    assert lines_with(FOREIGN_PATH, texts) == []


def test_nothing_is_put_off_in_a_comment() -> None:
    assert lines_with(PROMISE, tracked_texts()) == []


@pytest.mark.parametrize("line", ["cd /work/main", 'open("/work")', "see ../shared/data", "PATH=/work:/usr"])
def test_a_path_of_one_machine_is_seen(line: str) -> None:
    assert FOREIGN_PATH.search(line)


@pytest.mark.parametrize("line", [".github/workflows/ci.yml", "GET /api/work_pools/", "home/work", "a/work-pool"])
def test_an_innocent_path_is_not_mistaken(line: str) -> None:
    assert not FOREIGN_PATH.search(line)
