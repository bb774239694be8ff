"""What Terraform itself says of the modules, where it is on the machine."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.unit.terraform.modules import EXAMPLES, MODULES, TERRAFORM
from tests.unit.terraform.terraform import environment, needed, terraform

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(600)]
OFFERING = {"type": "t", "cpu": 2, "memory": 8}
GCP: dict[str, Any] = {
    "name": "nightly",
    "project": "acme-prod",
    "region": "europe-west1",
    "subnetwork": "s",
    "source_image": "i",
    "groups": {"quick": {"zone": "europe-west1-b", "standby": "hibernated", "max_nodes": 5, "offering": OFFERING}},
}
AZURE: dict[str, Any] = {
    "name": "nightly",
    "resource_group_name": "nightly",
    "resource_group_id": "/subscriptions/1/resourceGroups/nightly",
    "location": "westeurope",
    "subnet_id": "s",
    "network_security_group_id": "n",
    "source_image_id": "i",
    "admin_public_key": "ssh-ed25519 AAAA",
    "groups": {"quick": {"standby": "running", "max_nodes": 5, "offering": OFFERING}},
}


def copied(module: Path, to: Path) -> Path:
    """A copy that may be written into."""
    shutil.copytree(TERRAFORM, to / "terraform", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    return to / "terraform" / module.relative_to(TERRAFORM)


def test_it_is_formatted(tmp_path: Path) -> None:
    needed()
    terraform(TERRAFORM, environment(tmp_path), "fmt", "-check", "-recursive", "-diff")


def test_the_tests_of_the_local_module_pass(tmp_path: Path) -> None:
    needed()
    env, folder = environment(tmp_path), copied(MODULES[-1], tmp_path)
    terraform(folder, env, "init", "-backend=false", "-no-color")
    assert "0 failed" in terraform(folder, env, "test", "-no-color")


def test_the_tests_of_the_aws_module_pass(tmp_path: Path) -> None:
    needed(aws=True)
    env, folder = environment(tmp_path), copied(MODULES[0], tmp_path)
    terraform(folder, env, "init", "-backend=false", "-no-color")
    assert "0 failed" in terraform(folder, env, "test", "-no-color")


def test_the_aws_example_is_valid(tmp_path: Path) -> None:
    needed(aws=True)
    env, folder = environment(tmp_path), copied(EXAMPLES[0], tmp_path)
    terraform(folder, env, "init", "-backend=false", "-no-color")
    assert "valid" in terraform(folder, env, "validate", "-no-color")


# ---- modules whose provider is not at hand: their variables and locals alone


def evaluated(module: str, values: dict[str, Any], to: Path) -> str:
    """Plan of a folder that has the module's variables and locals and prints what it makes of them."""
    folder = to / module
    folder.mkdir()
    source = TERRAFORM / "modules" / module
    for name in ("variables.tf", "locals.tf", "rights.json"):
        shutil.copy(source / name, folder / name)
    (folder / "main.tf").write_text('output "described" {\n  value = local.described\n}\n')
    (folder / "t.auto.tfvars.json").write_text(json.dumps(values))
    env = environment(to)
    terraform(folder, env, "init", "-no-color")
    return terraform(folder, env, "plan", "-no-color", "-input=false", codes=(0, 1))


@pytest.mark.parametrize(("module", "values"), [("gcp-warm-pool", GCP), ("azure-warm-pool", AZURE)])
def test_a_group_is_described(module: str, values: dict[str, Any], tmp_path: Path) -> None:
    needed()
    said = evaluated(module, values | {"counts": {"quick": {"standby": 2}}}, tmp_path)
    assert "Error" not in said
    assert '+ "hibernated"' in said or '"hibernated",' in said
    assert "standby = 2" in " ".join(said.split())


@pytest.mark.parametrize(
    ("module", "values", "says"),
    [
        ("gcp-warm-pool", GCP | {"counts": {"other": {"running": 1}}}, "not in groups"),
        ("gcp-warm-pool", GCP | {"groups": {"q": GCP["groups"]["quick"] | {"spot": True}}}, "cannot be woken"),
        (
            "gcp-warm-pool",
            GCP | {"groups": {"q": GCP["groups"]["quick"] | {"zone": "us-east1-b"}}},
            "lies in the region",
        ),
        ("gcp-warm-pool", GCP | {"act_members": ["allUsers"]}, "allUsers is refused"),
        ("azure-warm-pool", AZURE | {"groups": {"q": AZURE["groups"]["quick"] | {"standby": "hibernated"}}}, "azurerm"),
        ("azure-warm-pool", AZURE | {"counts": {"quick": {"running": 3, "standby": 3}}}, "max_nodes"),
        ("azure-warm-pool", AZURE | {"tags": {"preprov:pool": "x"}}, "preprov's own"),
    ],
)
def test_what_makes_no_sense_is_refused(module: str, values: dict[str, Any], says: str, tmp_path: Path) -> None:
    needed()
    assert says in " ".join(evaluated(module, values, tmp_path).replace("│", " ").split())
