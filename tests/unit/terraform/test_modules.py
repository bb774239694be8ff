"""The Terraform modules: well formed, described, generated parts current, rights as the code needs them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from preprov.pools import rights
from preprov.pools.azure import actions as azure_actions
from preprov.pools.gcp import actions as gcp_actions
from tests.unit.terraform.modules import EXAMPLES, MODULES, ROOT, TERRAFORM, blocks, parsed, resources

CLOUDS = [m for m in MODULES if m.name in rights.MODULES]


def name(path: Path) -> str:
    return path.name


def test_every_module_has_its_example_and_its_tests() -> None:
    assert [m.name for m in MODULES] == [e.name for e in EXAMPLES]
    assert {m.name for m in MODULES} == {*rights.MODULES, "local"}
    assert [m.name for m in MODULES if not list((m / "tests").glob("*.tftest.hcl"))] == []


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_modules_tests_look_at_both_owners_of_counts(module: Path) -> None:
    files = [parsed(p) for p in sorted((module / "tests").glob("*.tftest.hcl"))]
    runs = [body for f in files for run in f["run"] for n, body in run.items() if not n.startswith("__")]
    assert all(r.get("assert") or r.get("expect_failures") for r in runs), "each run can fail"
    owners = {v.get("counts_owner", "preprov") for r in runs for v in r.get("variables", [{}]) if r.get("assert")}
    owners |= {v.get("counts_owner", "preprov") for f in files for v in f.get("variables", ())}
    assert owners == {"preprov", "terraform"}


@pytest.mark.parametrize("module", CLOUDS, ids=name)
def test_a_clouds_tests_mock_it_and_look_at_roles_addresses_and_refusals(module: Path) -> None:
    text = (module / "tests" / "shape.tftest.hcl").read_text()
    file = parsed(module / "tests" / "shape.tftest.hcl")
    (provider,) = next(iter(parsed(module / "versions.tf")["terraform"]))["required_providers"][0].keys() - {
        "__is_block__"
    }
    assert [m for mock in file["mock_provider"] for m in mock if not m.startswith("__")] == [provider]
    owned = {t for t, n, _ in resources(module) if n == "terraform"}
    assert {f"{t}.{n}" for t in owned for n in ("preprov", "terraform") if f"{t}.{n}" not in text} == set()
    assert 'file("rights.json")).observe' in text
    assert 'file("rights.json")).act' in text
    assert re.search(r"length\(\S*(access_config|public_ip_address)\) == 0|associate_public_ip_address == .false", text)
    assert "spot" in text
    assert "expect_failures = [var.groups]" in text


@pytest.mark.parametrize(
    "path", sorted(TERRAFORM.rglob("*.hcl")) + sorted(TERRAFORM.rglob("*.tf")), ids=lambda p: p.name
)
def test_every_file_is_hcl(path: Path) -> None:
    if ".terraform" not in path.parts and not path.name.startswith("."):
        assert parsed(path)


@pytest.mark.parametrize("folder", [*MODULES, *EXAMPLES], ids=name)
def test_a_module_has_the_usual_files(folder: Path) -> None:
    for file in ("main.tf", "variables.tf", "outputs.tf", "versions.tf"):
        assert (folder / file).is_file()
    required = next(b for b in parsed(folder / "versions.tf")["terraform"])
    assert "required_version" in required


@pytest.mark.parametrize("folder", [*MODULES, *EXAMPLES], ids=name)
def test_variables_have_a_type_and_words_and_outputs_have_words(folder: Path) -> None:
    variables = dict(blocks(folder, "variable"))
    assert all(v.get("type") and v.get("description") for v in variables.values())
    assert all(o.get("description") for o in dict(blocks(folder, "output")).values())
    assert "preprov_pool" in dict(blocks(folder, "output"))


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_counts_have_an_owner(module: Path) -> None:
    """Of the two resources of one shape one ignores the counts, and nothing else tells them apart."""
    counted = [(t, n, b) for t, n, b in resources(module) if n in ("preprov", "terraform")]
    assert counted
    for type_ in {t for t, _, _ in counted}:
        ours, theirs = ({**b} for n in ("preprov", "terraform") for t, m, b in counted if (t, m) == (type_, n))
        assert ours.pop("lifecycle")[0]["ignore_changes"]
        assert "lifecycle" not in theirs
        for body in (ours, theirs):
            body.pop("for_each")
            body.pop("__comments__", None)
        text = json.dumps(ours, sort_keys=True).replace(".preprov[", ".terraform[")
        assert text == json.dumps(theirs, sort_keys=True)


def test_what_is_generated_is_current() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/generate_terraform.py", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"run scripts/generate_terraform.py\n{done.stdout}{done.stderr}"


# ---- rights


@pytest.mark.parametrize("module", rights.MODULES)
def test_observe_writes_nothing(module: str) -> None:
    reads = re.compile(r"(Describe|Get|List)\w*$|\.(get|list|getGuestAttributes)$|/read$")
    table = rights.MODULES[module]
    assert [r for r in table.observe if not reads.search(r)] == []
    assert not set(table.observe) & table.writes()


@pytest.mark.parametrize("module", CLOUDS, ids=name)
def test_roles_take_their_rights_from_the_list_alone(module: Path) -> None:
    granted = json.loads((module / "rights.json").read_text())
    text = (module / "roles.tf").read_text() + (module / "locals.tf").read_text()
    for scope in ("observe", *(f"act.{s}" for s in granted["act"])):
        assert f"local.rights.{scope}" in text
    assert not re.search(r'"(compute\.[a-z]|Microsoft\.|autoscaling:|sqs:(?!SendMessage))', text)


_CALLS = {
    "gcp": (
        gcp_actions.CALLS,
        # Names of methods are words in its code.
        r'"((?:cancel|get|list|patch|wait|set|create|delete|suspend|resume|start|stop|insert|update)_?\w*)"',
        {"stopped", "resume"},  # a state, and a kind of operation
    ),
    "azure": (
        azure_actions.CALLS,
        # Clients of a kind are attributes, and what is begun is called on them.
        r"\.(begin_\w+|list_by_\w+)",
        set(),
    ),
}


@pytest.mark.parametrize("cloud", _CALLS)
def test_the_list_of_rights_is_what_the_code_calls(cloud: str) -> None:
    table, pattern, words = _CALLS[cloud]
    here = (ROOT / "preprov" / "pools" / cloud).glob("*.py")
    source = "\n".join(p.read_text() for p in sorted(here) if p.name != "actions.py")
    listed = {c.partition(".")[2] for c in table}
    called = {m.removesuffix("_unary") for m in re.findall(pattern, source)}
    common = {"get", "list", "wait", "stop", "start", "delete", "update"}  # of the contract too
    assert called - words - common - listed == set()
    assert {c for c in listed if not re.search(rf'(["._]){c}(_unary)?\b', source)} == set()
    assert {k for c in table if (k := c.partition(".")[0]) not in source} == set()
