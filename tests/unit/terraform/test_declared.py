"""Pools as Terraform declares them, from whatever it prints or keeps."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.configfile import ConfigFile
from preprov.model.errors import ConfigError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.pools.terraform_command import Change, _changes
from preprov.pools.terraform_declared import DeclaredPool, declared_in, read_state
from preprov.pools.terraform_sections import as_toml, differences, is_count, section, shape_drift, strays
from tests.unit.terraform.conftest import MODULE

OURS: dict[str, Any] = MODULE | {"counts_owner": "preprov"}


def pool(**changes: object) -> DeclaredPool:
    return declared_in({"outputs": {"p": {"value": OURS | changes}}}, "x")[0]


@pytest.mark.parametrize(
    "document",
    [
        {"version": 4, "outputs": {"preprov_pool": {"value": OURS}}, "resources": []},
        {"format_version": "1.0", "values": {"outputs": {"preprov_pool": {"value": OURS}}}},
        {"preprov_pool": {"sensitive": False, "type": "x", "value": OURS}, "other": {"value": 3}},
        {"pools": {"value": {"a": OURS}}},
        {"pools": {"value": [OURS]}},
    ],
    ids=["state", "show", "output", "map", "list"],
)
def test_a_pool_is_found_in_everything_terraform_writes(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps(document))
    found = read_state(tmp_path / "s.json")
    assert [p.name for p in found] == ["nightly"]
    assert [g.name for g in found[0].groups] == ["cheap", "plain"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "no state"),
        ("{}", "declares no pool"),
        ('{"outputs": {"x": {"value": 3}}}', "declares no pool"),
        (json.dumps({"outputs": {"x": {"value": OURS | {"schema": "preprov/terraform/2"}}}}), "schema"),
        (json.dumps({"outputs": {"x": {"value": OURS | {"counts_owner": "me"}}}}), "counts_owner"),
        (json.dumps({"outputs": {"x": {"value": OURS}, "y": {"value": OURS}}}), "same name"),
    ],
)
def test_what_is_no_declaration_is_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_state(tmp_path / "s.json")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_state(tmp_path / "none.json")


def test_the_section_is_a_configuration_and_agrees_with_itself() -> None:
    wanted = section(pool(), None)
    text = as_toml(wanted)
    built = ConfigFile.model_validate(tomllib.loads(text)).pools()["nightly"]
    assert [g.provider for g in built.groups] == ["local", "local"]
    assert differences(wanted, built) == ()


def test_counts_that_go_through_terraform_need_its_folder(tmp_path: Path) -> None:
    declared = pool(counts_owner="terraform")
    with pytest.raises(ConfigError, match="where that is run"):
        section(declared, None)
    group = section(declared, tmp_path)["group"][0]
    assert group["provider"] == "terraform"
    assert group["options"] == {"dir": str(tmp_path), "variable": "preprov_counts", "vendor": "local"}
    with pytest.raises(ConfigError, match="which variable"):
        section(pool(counts_owner="terraform", counts_variable=""), tmp_path)


_plain = st.text(st.characters(codec="utf-8"), max_size=20)
_options = st.dictionaries(
    _plain,
    st.one_of(_plain, st.integers(-(10**9), 10**9), st.booleans(), st.lists(_plain), st.dictionaries(_plain, _plain)),
)


@given(_options)
def test_whatever_the_options_are_the_text_holds_them(options: dict[str, Any]) -> None:
    wanted = section(pool(groups=[OURS["groups"][0] | {"options": options}]), None)
    read = tomllib.loads(as_toml(wanted))["pool"][0]["group"][0]
    assert read.get("options", {}) == options


def test_differences_are_named() -> None:
    wanted = section(pool(), None)
    built = ConfigFile.model_validate({"pool": [wanted]}).pools()["nightly"]
    bigger = [
        OURS["groups"][0] | {"max_nodes": 9, "states": ["running", "hibernated"]},
        {**OURS["groups"][1], "name": "new"},
    ]
    said = differences(section(pool(groups=bigger), None), built)
    assert said == (
        "group plain is configured, Terraform declares none",
        "group cheap: states is ['running', 'stopped'], declared ['hibernated', 'running']",
        "group cheap: max_nodes is 8, declared 9",
        "group new is declared, and not configured",
    )
    other = [OURS["groups"][0] | {"offerings": [{"type": "small", "cpu": 4, "memory": 4}]}, OURS["groups"][1]]
    assert differences(section(pool(groups=other), None), built) == (
        "group cheap: offering small holds (2.0, 4.0, 0.0), declared (4.0, 4.0, 0.0)",
    )


def test_what_exists_is_compared_with_what_is_declared() -> None:
    at = datetime(2025, 11, 3, tzinfo=UTC)
    small, odd = Offering("small", Resources(cpu=2)), Offering("odd", Resources(cpu=2))
    nodes = (
        Node("a", "nightly", "cheap", small, Phase.READY, at, at),
        Node("b", "nightly", "cheap", odd, Phase.STOPPED, at, at),
    )
    seen = PoolObservation("nightly", at, nodes, complete=False, problems=("plain: no answer",))
    assert strays(pool(), seen) == ("plain: no answer", "b is a odd")
    said = strays(pool(counts_owner="terraform"), seen)
    assert said[-1] == "group cheap: 1 in service and 1 in standby exist, declared 0 and 0"


def test_counts_are_told_from_shape() -> None:
    def change(*fields: str, actions: tuple[str, ...] = ("update",), type_: str = "aws_autoscaling_group") -> Change:
        return Change("a", type_, actions, frozenset(fields))

    assert is_count(change("desired_capacity", "warm_pool"))
    assert not is_count(change("desired_capacity", "max_size"))
    assert not is_count(change("desired_capacity", actions=("delete", "create")))
    assert not is_count(change("tags", type_="aws_launch_template"))
    assert not is_count(change("tag"))
    ours, theirs = change("tag", "desired_capacity"), change("max_size")
    network = change("cidr_block", type_="aws_vpc")
    assert shape_drift([ours, theirs, network], "preprov") == (theirs,)
    assert shape_drift([ours, theirs, network], "terraform") == (ours, theirs)


def test_what_is_empty_is_not_told_from_what_is_not_there() -> None:
    def fields(before: object, after: object) -> frozenset[str]:
        shown = {"address": "a", "type": "t", "change": {"actions": ["update"], "before": before, "after": after}}
        return next(_changes({"resource_drift": [shown]}, "resource_drift")).fields

    block = {"subnet": "s", "addresses": None, "inner": []}
    assert (
        fields({"policies": None, "nets": [block]}, {"policies": [], "nets": [block | {"addresses": [], "n": 0}]})
        == set()
    )
    assert fields({"nets": [block], "size": 0}, {"nets": [block | {"subnet": "t"}], "size": 3}) == {"nets", "size"}
