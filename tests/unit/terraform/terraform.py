"""Where Terraform is on this machine, and whether it may be run in a test."""

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest


def environment(home: Path, provider: str = "aws") -> dict[str, str]:
    """Of a Terraform that asks nobody: providers from a folder of this machine only."""
    rc = home / "terraformrc"
    plugins = mirror(provider)
    source = (
        f'filesystem_mirror {{\n    path = "{plugins}"\n  }}' if plugins else 'direct {\n    exclude = ["*/*/*"]\n  }'
    )
    rc.write_text(f"provider_installation {{\n  {source}\n}}\n", encoding="utf-8")
    return {
        **os.environ,
        "TF_CLI_CONFIG_FILE": str(rc),
        "TF_DATA_DIR": str(home / "data"),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
    }


@functools.cache
def mirror(provider: str = "aws") -> Path | None:
    """A folder that holds registry.terraform.io with the provider; $PREPROV_TEST_TERRAFORM_PLUGINS names one."""
    places = [os.environ.get("PREPROV_TEST_TERRAFORM_PLUGINS", ""), "/opt/tf-plugins"]
    for place in places:
        if place and any(
            Path(place).glob(f"registry.terraform.io/hashicorp/{provider}/*/*/terraform-provider-{provider}*")
        ):
            return Path(place)
    return None


def needed(*, aws: bool = False) -> None:
    """Skip where it, or the AWS provider, is absent."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    if aws and mirror() is None:
        pytest.skip("no mirror with terraform-provider-aws (PREPROV_TEST_TERRAFORM_PLUGINS)")


def terraform(folder: Path, env: dict[str, str], *words: str, codes: tuple[int, ...] = (0,)) -> str:
    """Run it in a folder; what it said."""
    done = subprocess.run(
        ["terraform", f"-chdir={folder}", *words], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode in codes, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr
