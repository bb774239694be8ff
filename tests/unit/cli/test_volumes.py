"""A storage volume from the command line: claimed, bound to a real node, grown, given back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.app import open_app
from preprov.testing.local_nodes import cleared
from tests.unit.cli.test_commands import valid
from tests.volumeworld import node_of


@pytest.fixture
def node(preprov, tmp_path: Path, preprov_home: Path) -> Iterator[str]:
    """Of a pool whose nodes are ready at once."""
    group = 'name = "g"\nprovider = "local"\nmax_nodes = 2\noffering = [{ type = "m", cpu = 1, memory = 1 }]'
    (tmp_path / "preprov.toml").write_text(f'[[pool]]\nname = "laptop"\nmode = "full"\n[[pool.group]]\n{group}\n')
    with cleared(preprov_home), open_app() as app:
        pool = app.ctx.pool("laptop")
        yield node_of(app.ctx.provider("local"), pool).node_id


def test_a_volume_from_claim_to_release(preprov, preprov_home: Path, node: str):
    def told(*words: object) -> dict:
        result = preprov("reservation", *words, "-o", "json")
        assert result.code == 0, result.err
        return valid(result.json)

    def unit() -> tuple:
        (u,) = told("units", "--pool", "laptop", "--kind", "volume")["units"]
        return u["name"], u["node_id"], u["holding"], u["amount"], u["holders"]

    words = ("--pool", "laptop", "--claimant", "loader", "--volume", "landing", "--disk", 0.25, "--delete-after")
    made = told("create", *words)["reservation"]
    assert (made["purpose"], made["volume"]) == ("volume", {"name": "landing", "gib": 0.25, "keep": False})
    assert unit() == ("landing", "", "reserved", {"disk": 0.25}, ["loader"])
    assert told("commit", made["reservation_id"], node)["reservation"]["node_id"] == node
    disk = preprov_home / "nodes" / "laptop" / node / "volumes" / "landing"
    assert disk.stat().st_size == 2**28
    assert told("resize", made["reservation_id"], "--disk", 0.5)["reservation"]["volume"]["gib"] == 0.5
    assert unit() == ("landing", node, "allocated", {"disk": 0.5}, ["loader"])
    assert disk.stat().st_size == 2**29
    refused = preprov("reservation", "resize", made["reservation_id"], "--disk", 0.1)
    assert (refused.code, "only grows" in refused.err) == (1, True)
    assert told("release", made["reservation_id"])["reservation"]["state"] == "released"
    assert told("units", "--pool", "laptop", "--kind", "volume")["units"] == []
    assert not disk.is_symlink()


@pytest.mark.parametrize(
    "words",
    [("--volume", "v", "--disk", 1, "--cpu", 1), ("--disk", 1), ("--cpu", 1, "--delete-after"), ("--volume", "v")],
)
def test_a_claim_is_on_room_or_on_a_volume(preprov, words: tuple):
    preprov("init")
    told = preprov("reservation", "create", "--pool", "laptop", "--claimant", "me", *words)
    assert told.code != 0
    assert "volume" in told.err
