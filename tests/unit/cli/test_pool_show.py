"""`pool show`: what machines use as a whole stands beside the nodes that are on them."""

from datetime import timedelta

import pytest

from preprov.cli.commands import pool as commands
from preprov.model.agent import Usage
from preprov.model.errors import StoreError
from preprov.model.nodes import Node, Phase, PoolObservation
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.model.time import epoch
from tests.unit.cli.test_commands import valid


@pytest.fixture
def shown(preprov, monkeypatch):
    """Two nodes are there, of which one is sampled by machine; `pool show` with these words."""
    samples = [Usage(-60.0, cpu=1.25, memory=3.5), Usage(-5.0, cpu=1.5, memory=4.0, disk_io=2.0)]

    def observed(ctx, pool):
        now = ctx.clock.now()
        offering = Offering("m", Resources(cpu=4, memory=16))
        made = now - timedelta(hours=1)
        nodes = tuple(Node(name, pool.name, "local", offering, Phase.READY, made, made) for name in ("cn1", "cn2"))
        ctx.ports.samples.append(
            pool.name, [("node/cn1", Usage(epoch(now) + u.at, u.cpu, u.memory, disk_io=u.disk_io)) for u in samples]
        )
        return PoolObservation(pool.name, now, nodes)

    monkeypatch.setattr(commands, "_observe", observed)
    preprov("init")

    def show(*words):
        return preprov("pool", "show", "laptop", *words)

    show.samples = samples
    return show


def test_where_machines_are_sampled_their_nodes_say_what_they_use(shown):
    document = valid(shown("-o", "json").json)
    assert {n["node_id"]: n["used"] for n in document["nodes"]} == {
        "cn1": {"cpu": 1.5, "memory": 4.0, "disk_io": 2.0},
        "cn2": None,
    }
    assert document["problems"] == []
    out = " ".join(shown().out.split())
    assert "in use" in out
    assert "1.5 of 4 cores" in out


def test_where_nobody_samples_them_there_is_no_column_for_it(shown):
    shown.samples.clear()
    assert {n["used"] for n in valid(shown("-o", "json").json)["nodes"]} == {None}
    assert "in use" not in " ".join(shown().out.split())


def test_samples_that_cannot_be_read_are_a_problem_and_no_reason_to_show_nothing(shown, monkeypatch):
    def broken(*_args, **_more):
        raise StoreError("usage samples cannot be read")

    monkeypatch.setattr("preprov.control.node_use.in_use", broken)
    document = valid(shown("-o", "json").json)
    assert [n["node_id"] for n in document["nodes"]] == ["cn1", "cn2"]
    assert document["problems"] == ["usage samples cannot be read"]
