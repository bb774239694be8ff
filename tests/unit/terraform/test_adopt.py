"""`preprov pool adopt terraform`: registers, reports, and leaves alone what is there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from preprov.cli.documents import DOCUMENTS
from tests.unit.cli.conftest import Result, preprov  # noqa: F401
from tests.unit.terraform.conftest import MODULE, Root

Command = Callable[..., Result]


def adopt(command: Command, *words: object) -> Any:
    result = command("pool", "adopt", "terraform", *words, "-o", "json")
    jsonschema.validate(result.json, DOCUMENTS["pool adopt terraform"].model_json_schema())
    return result.code, result.json


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "terraform.tfstate"
    path.write_text(json.dumps({"version": 4, "outputs": {"p": {"value": MODULE | {"counts_owner": "preprov"}}}}))
    return path


def test_a_state_is_registered_once(preprov: Command, state: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "preprov.toml").write_text(
        '# mine\n[[pool]]\nname = "other"\n[[pool.group]]\nname = "g"\n'
        '[[pool.group.offering]]\ntype = "t"\ncpu = 1\nmemory = 1\n'
    )
    code, said = adopt(preprov, state)
    assert (code, said["written"], said["pools"][0]["state"]) == (0, "preprov.toml", "new")
    text = (tmp_path / "preprov.toml").read_text()
    assert text.startswith("# mine\n")
    code, said = adopt(preprov, state)
    assert (code, said["written"], said["pools"][0]["state"]) == (0, None, "registered")
    assert said["pools"][0]["differences"] == []
    assert (tmp_path / "preprov.toml").read_text() == text
    listed = {p["pool"]: p["mode"] for p in preprov("pool", "list", "-o", "json").json["pools"]}
    assert listed == {"other": "observe", "nightly": "observe"}


def test_check_writes_nothing_and_says_so_by_its_code(preprov: Command, state: Path, tmp_path: Path) -> None:  # noqa: F811
    assert adopt(preprov, state, "--check")[0] == 3
    assert not (tmp_path / "preprov.toml").exists()
    adopt(preprov, state)
    assert adopt(preprov, state, "--check")[0] == 0


def test_a_shape_that_moved_on_is_reported_and_left_alone(preprov: Command, state: Path, tmp_path: Path) -> None:  # noqa: F811
    adopt(preprov, state)
    before = (tmp_path / "preprov.toml").read_text()
    state.write_text(state.read_text().replace('"max_nodes": 8', '"max_nodes": 12'))
    code, said = adopt(preprov, state, "--check")
    assert (code, said["pools"][0]["differences"]) == (3, ["group cheap: max_nodes is 8, declared 12"])
    assert (tmp_path / "preprov.toml").read_text() == before
    shown = preprov("pool", "adopt", "terraform", state)
    assert "max_nodes is 8, declared 12" in shown.out


def test_counts_of_terraform_want_a_folder(preprov: Command, state: Path) -> None:  # noqa: F811
    state.write_text(state.read_text().replace('"counts_owner": "preprov"', '"counts_owner": "terraform"'))
    result = preprov("pool", "adopt", "terraform", state)
    assert result.code == 2
    assert "give the folder" in result.err


def test_only_the_pool_that_is_named(preprov: Command, state: Path) -> None:  # noqa: F811
    result = preprov("pool", "adopt", "terraform", state, "--pool", "other")
    assert result.code == 2
    assert "it declares nightly" in result.err


def test_a_folder_is_registered_with_what_has_drifted(preprov: Command, root: Root, tmp_path: Path) -> None:  # noqa: F811
    root.faults(drifted=["cheap"])
    code, said = adopt(preprov, root.folder, "--program", root.folder / "terraform")
    assert code == 0
    found = said["pools"][0]
    assert (found["counts_owner"], found["state"]) == ("terraform", "new")
    assert found["drift"] == ['update module.p.terraform_data.terraform["cheap"] (output, tags)']
    text = (tmp_path / "preprov.toml").read_text()
    assert f'"dir" = "{root.folder}"' in text
    assert preprov("pool", "list").code == 0
