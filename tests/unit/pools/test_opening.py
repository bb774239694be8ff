"""A pool whose groups name a cloud is opened with that cloud's provider, as the configuration says."""

from pathlib import Path

import pytest

from preprov.app import open_app
from preprov.model.errors import ConfigError
from preprov.pools.registry import providers
from preprov.settings import Settings
from preprov.sim.clock import VirtualClock
from tests.azureworld import AzureWorld, azure_world
from tests.gcpworld import T0, GcpWorld, gcp_world

pytestmark = pytest.mark.slow


def opened(home: Path, world: GcpWorld | AzureWorld) -> None:
    settings = Settings.load().model_copy(update={"home": home})
    group = world.pool.groups[0]
    with open_app(settings, clock=world.clock, pools={world.pool.name: world.pool}) as app:
        provider = app.ctx.providers[group.provider]
        assert provider.name == group.provider
        assert provider.observe(world.pool).complete


def test_google_cloud(tmp_path: Path) -> None:
    with gcp_world() as world:
        opened(tmp_path, world)


def test_azure(tmp_path: Path) -> None:
    with azure_world() as world:
        opened(tmp_path, world)


def test_a_provider_that_nobody_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no provider 'shelf'") as e:
        providers(["shelf"], tmp_path, VirtualClock(T0))
    assert "azure" in e.value.hint
