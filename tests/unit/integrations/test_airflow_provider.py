"""The provider for Airflow: its docs say what it tells Airflow of itself, and Python 3.10 can read it."""

import ast
import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).resolve().parents[3] / "integrations" / "airflow"
PACKAGE, DOCS = HOME / "preprov_provider", HOME / "docs"
SOURCES = sorted(HOME.rglob("*.py"))


@pytest.fixture(scope="module")
def info() -> dict[str, Any]:
    found: dict[str, Any] = runpy.run_path(str(PACKAGE / "__init__.py"))["get_provider_info"]()
    return found


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    return found


def doc(name: str) -> str:
    return (DOCS / f"{name}.rst").read_text()


def sections(text: str, under: str) -> dict[str, str]:
    """Title -> body, of sections whose title is underlined so."""
    parts = re.split(rf"^(.+)\n{re.escape(under)}{{3,}}\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def classes(module: str) -> list[str]:
    """Public classes of a module of the provider, which is not imported."""
    tree = ast.parse((HOME / f"{module.replace('.', '/')}.py").read_text())
    return [n.name for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]


def test_every_page_is_reached_from_the_index_and_there() -> None:
    named = re.findall(r"^    .+ <([^>:]+)>$", doc("index"), flags=re.MULTILINE)
    there = {str(p.relative_to(DOCS).with_suffix("")) for p in DOCS.rglob("*.rst")} - {"index"}
    assert sorted(named) == sorted({*there, "self"})


def test_the_changelog_and_the_package_have_the_versions_that_airflow_is_told(
    info: dict[str, Any], project: dict[str, Any]
) -> None:
    told = list(sections(doc("changelog"), "."))
    assert told == info["versions"]
    assert told[0] == project["version"] == runpy.run_path(str(PACKAGE / "__init__.py"))["__version__"]
    assert project["name"] == info["package-name"]
    assert doc("changelog").startswith(f"``{info['package-name']}``")
    assert doc("index").startswith(f"``{info['package-name']}``")


def test_each_option_is_told_as_airflow_is_told_it(info: dict[str, Any]) -> None:
    text = doc("configurations-ref")
    assert re.findall(r"^\[(.+)\]$", text, flags=re.MULTILINE) == list(info["config"])
    for section, config in info["config"].items():
        assert config["description"] in text
        told = sections(text.partition(f"[{section}]\n")[2], "~")
        assert list(told) == list(config["options"])
        for name, option in config["options"].items():
            fields = dict(re.findall(r"^:(.+?): (.+)$", told[name], flags=re.MULTILINE))
            assert fields == {
                "Type": option["type"],
                "Default": f"``{option['default']}``" if option["default"] else "``''``",
                "Environment Variable": f"``AIRFLOW__{section.upper()}__{name.upper()}``",
                "Since": option["version_added"],
            }
            assert told[name].strip().startswith(option["description"])
            assert ("secret" in told[name]) == option.get("sensitive", False)


@pytest.mark.parametrize("kind", ["operators", "sensors"])
def test_each_operator_and_sensor_has_a_guide(info: dict[str, Any], kind: str) -> None:
    for part in info[kind]:
        text = doc(f"{kind}/{part['integration-name']}")
        named = [c for module in part["python-modules"] for c in classes(module)]
        assert named
        assert list(sections(text, "=")) == named
        assert [f".. _howto/operator:{c}:" in text for c in named] == [True] * len(named)
        for file, mark in re.findall(r"exampleinclude:: /\.\./(\S+)[\s\S]*?start-after: (\[START \S+\])", text):
            assert mark in (HOME / file).read_text(), f"{file} has no {mark}"


def test_each_connection_type_has_a_guide_and_its_hook_is_there(info: dict[str, Any]) -> None:
    for kind in info["connection-types"]:
        assert f".. _howto/connection:{kind['connection-type']}:" in doc(f"connections/{kind['connection-type']}")
        module, _, name = kind["hook-class-name"].rpartition(".")
        assert name in classes(module)
        assert module in [m for part in info["hooks"] for m in part["python-modules"]]


def test_the_index_says_what_is_required(project: dict[str, Any]) -> None:
    table = re.findall(r"^``(\S+)``\s+``(\S+)``$", doc("index"), flags=re.MULTILINE)
    assert ["".join(row) for row in table] == project["dependencies"]
    least = project["requires-python"].removeprefix(">=")
    assert f"Python {least} or newer" in doc("index")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(HOME)))
def test_python_3_10_can_read_it(path: Path) -> None:
    tree = ast.parse(path.read_text(), str(path), feature_version=(3, 10))
    later = {"tomllib", "typing_extensions"} | {f"typing.{n}" for n in ("Self", "override", "assert_never", "Required")}
    later |= {"datetime.UTC", "enum.StrEnum", "itertools.batched", "asyncio.timeout", "asyncio.TaskGroup"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            named = {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            named = {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            named = {f"{node.value.id}.{node.attr}"}
        else:
            named = {node.id} if isinstance(node, ast.Name) else set()
        assert not named & {*later, "ExceptionGroup", "BaseExceptionGroup"}, ast.unparse(node)
        assert not isinstance(node, ast.TryStar), "except* came with 3.11"


def test_the_check_for_python_3_10_can_fail() -> None:
    for text in ("type X = int", "def f[T](x: T) -> T: ..."):
        with pytest.raises(SyntaxError):
            ast.parse(text, feature_version=(3, 10))


def test_linting_is_for_python_3_10(project: dict[str, Any]) -> None:
    lint = tomllib.loads((HOME / "pyproject.toml").read_text())["tool"]["ruff"]
    assert f">={lint['target-version'].replace('py3', '3.')}" == project["requires-python"]
