"""pool adopt, pool release, pool mode, halt: what they print, and with which code they end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.azureworld import AzureWorld, azure_world

POOL = """
[[pool]]
name = "night"
{more}

  [[pool.group]]
  name = "vms"
  provider = "azure"
  states = ["running", "stopped"]
  options = {{ subscription = "sub-1", resource_group = "night", scale_set = "nodes", endpoint_url = "{url}" }}

    [[pool.group.offering]]
    type = "Standard_D4s_v5"
    cpu = 4
    memory = 16
"""


@pytest.fixture
def world() -> Iterator[AzureWorld]:
    with azure_world() as made:
        yield made


def configure(folder: Path, world: AzureWorld, more: str = "") -> None:
    (folder / "preprov.toml").write_text(POOL.format(url=world.fake.url, more=more))


@pytest.mark.slow
def test_a_pool_is_adopted_and_given_back(preprov, world, tmp_path):
    configure(tmp_path, world)
    first = preprov("pool", "adopt", "night", "-o", "json")
    assert first.code == 0, first.err
    assert first.json["schema"] == "preprov/pool-adopt/1"
    (group,) = first.json["groups"]
    assert group["settings"]["capacity"] == 0
    assert group["settings"]["boots_from"]["imageReference"]["publisher"] == "Canonical", "what it makes machines from"
    world.vmss.capacity = 0
    world.provider._lender(world.pool, "vms").resize(1)
    assert preprov("pool", "adopt", "night", "-o", "json").json["groups"] == [group], "as it was found, not as it is"
    assert preprov("pool", "release", "night").code == 2, "it wants a yes"
    back = preprov("pool", "release", "night", "--yes", "-o", "json")
    assert back.code == 3, "a machine that no launch of ours made stays"
    assert back.json["groups"][0]["differs"] == [{"setting": "capacity", "found": 0, "now": 1}]
    world.vmss.members.clear()
    world.vmss.capacity = 0
    assert "as it was found" in preprov("pool", "release", "night", "--yes").out
    assert "nothing was adopted" in preprov("pool", "release", "night", "--yes").out


@pytest.mark.slow
def test_a_pool_in_a_cloud_has_a_gate_and_says_what_is_missing(preprov, world, tmp_path):
    configure(tmp_path, world)
    shown = preprov("pool", "mode", "night", "full", "--for", "12h", "-o", "json").json
    assert (shown["asked"], shown["in_force"]) == ("full", "recommend")
    assert shown["gate"]["missing_for_floor"][0] == "nights to observe: 0 of 3 so far"
    assert "missing for full: nights to observe" in preprov("pool", "mode", "night").out


@pytest.mark.slow
def test_the_gate_can_be_opened_and_another_writer_is_named(preprov, world, tmp_path):
    configure(tmp_path, world, "gate = { floor_nights = 0, full_nights = 0 }")
    world.vmss.autoscale = "cpu"
    shown = preprov("pool", "mode", "night", "full", "-o", "json").json
    assert shown["in_force"] == "floor"
    assert shown["why_less"] == ["group vms: autoscale setting cpu"]
    ignored = preprov("pool", "adopt", "night", "--ignore", "autoscale setting cpu", "-o", "json").json
    assert ignored["groups"][0]["ignored"] == ["autoscale setting cpu"]
    assert preprov("pool", "mode", "night", "-o", "json").json["in_force"] == "full"


def test_local_nodes_have_nothing_to_give_back(preprov):
    assert preprov("init").code == 0
    assert "nothing to record" in preprov("pool", "adopt", "laptop").out
    assert preprov("pool", "mode", "laptop", "-o", "json").json["gate"] is None
    assert preprov("pool", "adopt", "terraform", "nowhere.json").code == 2
    assert preprov("pool", "adopt", "nobody").code == 2


def test_caps_of_the_account_are_read_and_a_teardown_that_failed_is_the_doctors(preprov):
    from preprov.app import open_app
    from preprov.model.limits import Account
    from preprov.model.plans import Action, ActionKind, ActionRecord

    preprov("init")
    path = Path("preprov.toml")
    path.write_text(path.read_text() + "\n[account]\nmax_nodes = 3\nmax_usd_per_day = 9.5\n")
    with open_app() as app:
        assert app.ctx.account == Account(max_nodes=3, max_usd_per_day=9.5)
        now = app.ctx.clock.now()
        end = Action("a", ActionKind.TERMINATE, now, "nodes", 1, "not needed", node_ids=("n1",))
        failed = ActionRecord(end, "laptop", "", "test", now, "failed", "the vendor says no", ("n1",))
        app.ctx.ports.audit.record(failed)
    checks = {c["what"]: c for c in preprov("doctor", "-o", "json").json["checks"]}
    assert (checks["node n1"]["state"], checks["node n1"]["hint"]) == ("bad", "preprov why node n1")
    assert "the vendor says no" in checks["node n1"]["found"]
