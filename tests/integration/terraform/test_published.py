"""The modules against what others publish: the providers' schemas, and the rules of checkov.

Where Terraform is on the machine it runs the modules' own tests too: they mock their provider, of which Terraform then
needs the schema alone.

Both come from PyPI, and are kept for the next time: the cdktf provider packages, which hold the providers' schemas as
Python signatures (280 MB), and checkov in an environment of its own (290 MB).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.terraform.modules import EXAMPLES, MODULES, ROOT, TERRAFORM, resources
from tests.unit.terraform.published import served
from tests.unit.terraform.schemas import classes, problems
from tests.unit.terraform.terraform import environment, mirror, needed, terraform

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
SCHEMAS = {"google": "16.12.1", "azurerm": "14.23.1"}
"""Provider -> version of its cdktf package: one whose provider the modules allow."""
CHECKOV = "3.3.30"


def kept(name: str) -> Path:
    """A folder for what is fetched once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "preprov-tests" / name


def uv(*words: str) -> None:
    """Run it; the test is skipped where it fails, for it asks a package index."""
    done = subprocess.run(
        [str(ROOT / "scripts" / "uv"), *words],
        env={**os.environ, "UV_COMPILE_BYTECODE": "0"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"cannot be fetched: {done.stderr.strip()[-300:]}")


def schema(provider: str) -> Path:
    home = kept(f"cdktf-{provider}-{SCHEMAS[provider]}")
    package = f"cdktf_cdktf_provider_{provider}"
    if not (home / "whole").exists():
        uv(
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            str(home),
            f"{package}=={SCHEMAS[provider]}",
        )
        (home / "whole").touch()
    return home / package


@pytest.mark.parametrize("provider", SCHEMAS)
def test_resources_are_as_the_provider_has_them(provider: str) -> None:
    root, found, seen = schema(provider), [], 0
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


# ---- their own tests


@contextmanager
def at_hand(provider: str, module: Path, home: Path) -> Iterator[dict[str, str]]:
    """The environment of a Terraform that has the provider: itself, where there is a mirror, or else its schema."""
    env = environment(home, provider)
    if mirror(provider):
        yield env
        return
    types = {t for t, _, _ in resources(module)}
    with served(schema(provider), provider, types, home) as where:
        yield env | where


MODULE_OF = {"google": "gcp-warm-pool", "azurerm": "azure-warm-pool"}


def verdict(provider: str, module: Path, home: Path, *codes: int) -> str:
    with at_hand(provider, module, home) as env:
        terraform(module, env, "init", "-backend=false", "-no-color")
        terraform(module, env, "validate", "-no-color")
        return terraform(module, env, "test", "-no-color", codes=codes)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The modules, where they may be written into."""
    needed()
    return shutil.copytree(
        TERRAFORM / "modules", tmp_path / "modules", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*")
    )


@pytest.mark.parametrize("provider", SCHEMAS)
def test_the_tests_of_a_module_pass(provider: str, copied: Path, tmp_path: Path) -> None:
    assert " 0 failed" in verdict(provider, copied / MODULE_OF[provider], tmp_path, 0)


@pytest.mark.parametrize(
    ("provider", "file", "words", "instead", "run"),
    [
        ("google", "main.tf", "var.public_addresses ? [true] : []", "[true]", "nodes_are_private_and_shielded"),
        ("google", "groups.tf", '== "terraform" ? var.groups : {}', '== "-" ? var.groups : {}', "terraform_owns"),
        ("azurerm", "locals.tf", '"Deallocated"', '"Running"', "one_vendor_group_per_standby_state"),
        ("azurerm", "roles.tf", "= local.acts", "= local.rights.observe", "roles_grant"),
    ],
)
def test_the_tests_of_a_module_fail_where_it_is_wrong(
    provider: str, file: str, words: str, instead: str, run: str, copied: Path, tmp_path: Path
) -> None:
    module = copied / MODULE_OF[provider]
    right = (module / file).read_text(encoding="utf-8")
    assert words in right
    (module / file).write_text(right.replace(words, instead), encoding="utf-8")
    said = verdict(provider, module, tmp_path, 1)
    assert any(run in line and line.endswith("fail") for line in said.splitlines())


# ---- checkov


def test_checkov_finds_nothing_and_each_exception_is_explained() -> None:
    home = kept(f"checkov-{CHECKOV}")
    program = home / "bin" / "checkov"
    if not program.exists():
        uv("venv", "-q", "--allow-existing", "--python", sys.executable, str(home))
        uv(
            "pip",
            "install",
            "-q",
            "--python",
            str(home / "bin" / "python"),
            f"checkov=={CHECKOV}",
        )
    words = ["--framework", "terraform", "--skip-download", "--download-external-modules", "false", "-o", "json"]
    done = subprocess.run([program, "-d", TERRAFORM, *words], capture_output=True, text=True, timeout=600, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 100
    assert [f"{c['check_id']} {c['resource']}" for c in report["results"]["failed_checks"]] == []
    for check in report["results"]["skipped_checks"]:
        reason = check["check_result"]["suppress_comment"]
        assert len(reason.split()) > 3, f"{check['check_id']} of {check['resource']} is skipped without a reason"
