"""A group's own options as its provider wants them: unknown ones refused, the first that is wrong named."""

from typing import Final, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from preprov.model.errors import ConfigError
from preprov.model.pools import Group, Pool

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Options(BaseModel):
    """What stands under `options` of a group."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Kind = TypeVar("Kind", bound=Options)


def read_options(kind: type[Kind], pool: Pool, group: Group, example: str) -> Kind:
    """The options of a group.

    Args:
        example: shown with the error.

    Raises:
        ConfigError: one is missing, unknown or wrong.
    """
    try:
        return kind.model_validate(dict(group.options))
    except ValidationError as e:
        first = e.errors()[0]
        what = ".".join(str(p) for p in first["loc"])
        raise ConfigError(f"options.{what}: {first['msg']}", where=where_of(pool, group), hint=example) from None


def where_of(pool: Pool, group: Group) -> str:
    """For messages about the configuration."""
    return f"pool {pool.name}, group {group.name}"


def own_endpoint(url: str, pool: Pool, group: Group) -> str:
    """A URL instead of the vendor's own, which is asked without credentials; "" = the vendor's.

    Raises:
        ConfigError: it is not on this machine.
    """
    if url and urlsplit(url).hostname not in _LOOPBACK:
        what = f"options.endpoint_url: {url} is not on this machine"
        raise ConfigError(what, where=where_of(pool, group), hint="leave it out")
    return url.rstrip("/")
