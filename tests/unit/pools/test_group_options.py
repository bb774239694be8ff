"""Options of a group that are wrong are refused in the same words, whoever provides its nodes."""

from collections.abc import Callable, Mapping

import pytest

from preprov.model.errors import ConfigError
from preprov.model.offerings import Offering
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources
from preprov.pools.aws.options import aws_group
from preprov.pools.azure.options import azure_group
from preprov.pools.gcp.options import gcp_group
from preprov.pools.terraform_options import terraform_group

READERS = {"aws": aws_group, "azure": azure_group, "gcp": gcp_group, "terraform": terraform_group}
GOOD: Mapping[str, Mapping[str, object]] = {
    "aws": {"region": "eu-central-1", "asg": "nodes"},
    "azure": {"subscription": "s", "resource_group": "night", "scale_set": "nodes"},
    "gcp": {"project": "acme", "zone": "europe-west1-b", "mig": "nodes"},
    "terraform": {"dir": ".", "variable": "counts", "vendor": "local"},
}


def read(provider: str, options: Mapping[str, object]) -> object:
    offering = Offering("m", Resources(cpu=2.0, memory=8.0))
    pool = Pool("batch", (Group("g", provider, (offering,), options=options),))
    reader: Callable[[Pool, str], object] = READERS[provider]
    return reader(pool, "g")


@pytest.mark.parametrize("provider", GOOD)
def test_what_is_unknown_or_missing_is_named_with_its_place(provider: str) -> None:
    read(provider, GOOD[provider])
    with pytest.raises(ConfigError, match=r"options\.colour: Extra inputs") as e:
        read(provider, {**GOOD[provider], "colour": "red"})
    assert e.value.where == "pool batch, group g"
    assert e.value.hint
    needed = next(iter(GOOD[provider]))
    with pytest.raises(ConfigError, match=rf"options\.{needed}: Field required"):
        read(provider, {k: v for k, v in GOOD[provider].items() if k != needed})


@pytest.mark.parametrize("provider", ["azure", "gcp"])
def test_an_endpoint_that_is_asked_without_credentials_is_on_this_machine(provider: str) -> None:
    read(provider, {**GOOD[provider], "endpoint_url": "http://127.0.0.1:9/"})
    with pytest.raises(ConfigError, match="not on this machine"):
        read(provider, {**GOOD[provider], "endpoint_url": "https://clouds.example.org"})
