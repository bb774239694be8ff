"""A storage volume over the API: shown, and detached when it is given back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from preprov.control.allocating.by_hand import bind
from preprov.control.allocating.types import type_of
from preprov.model.errors import ConflictError
from preprov.model.reservations import WantedVolume
from preprov.testing.local_nodes import cleared
from tests.unit.web.conftest import Client, Site
from tests.volumeworld import node_of, wants


@pytest.fixture
def config(preprov_home: Path) -> Iterator[str]:
    group = 'name = "g"\nprovider = "local"\nmax_nodes = 2\noffering = [{ type = "m", cpu = 1, memory = 1 }]'
    with cleared(preprov_home):
        yield f'[[pool]]\nname = "batch"\nmode = "full"\n[[pool.group]]\n{group}\n[[tenant]]\nname = "red"\n'


def test_a_volume_is_shown_and_given_back(site: Site, red: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = site.app.ctx
    pool, provider = ctx.pool("batch"), ctx.provider("local")
    node = node_of(provider, pool)
    claim = wants(ctx, pool, "a", WantedVolume("data", 0.25), tenant="red")
    type_of(ctx, pool, claim).reserve(pool, claim)
    bind(ctx, "a", node.node_id)
    (told,) = red("GET", "/v1/reservations").json()["reservations"]
    assert (told["purpose"], told["nodes"]) == ("volume", [node.node_id])
    assert told["volume"] == {"name": "data", "gib": 0.25, "keep": True}

    def fails(*_: object) -> None:
        raise ConflictError("not now")

    with monkeypatch.context() as m:
        m.setattr(provider, "detach_volume", fails)
        assert red("DELETE", "/v1/reservations/a").status_code >= 400
    assert red("GET", "/v1/reservations/a").json()["state"] == "committed", "it stays on the books"
    gone = red("DELETE", "/v1/reservations/a", params={"reason": "done"}).json()
    assert (gone["state"], gone["reason"]) == ("released", "done")
    assert red("DELETE", "/v1/reservations/a").json() == gone
    assert [v.node_id for v in provider.volumes(pool)] == [""]  # type: ignore[attr-defined]
