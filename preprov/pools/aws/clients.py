"""The SDK's clients, one per service and place, with the SDK's own retries and nothing on top."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from threading import Lock
from typing import Any, TypeAlias, TypeVar

from preprov.pools.aws.errors import calling
from preprov.pools.aws.options import Place

T = TypeVar("T")
Json: TypeAlias = dict[str, Any]


class Clients:
    """Makes clients when they are first needed and keeps them: making one is slow, using one from threads is safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[tuple[str, Place], Any] = {}
        self._sessions: dict[str, Any] = {}

    def get(self, service: str, place: Place) -> Any:
        """The client of a service ("ec2", "autoscaling", "sqs", "pricing") at a place.

        Raises:
            PoolError: there is no such profile, or no region.
        """
        with self._lock:
            if (service, place) not in self._kept:
                self._kept[service, place] = self._make(service, place)
            return self._kept[service, place]

    def _make(self, service: str, place: Place) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            region_name=place.region,
            retries={"mode": "adaptive" if place.adaptive else "standard", "total_max_attempts": place.attempts},
            connect_timeout=5,
            read_timeout=30,
            max_pool_connections=16,
            user_agent_extra="preprov",
        )
        with calling(place.region):
            if place.profile not in self._sessions:  # each reads the services' descriptions anew
                self._sessions[place.profile] = boto3.session.Session(profile_name=place.profile or None)
            return self._sessions[place.profile].client(service, endpoint_url=place.endpoint or None, config=config)


def pages(client: Any, operation: str, result: str, where: str, **arguments: Any) -> Iterator[Json]:
    """All items of a paginated call.

    Raises:
        PoolError: a call failed.
    """
    with calling(where):
        for page in client.get_paginator(operation).paginate(**arguments):
            yield from page.get(result, ())


def batches(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """The items in lists of at most that size."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def as_tags(notes: dict[str, str]) -> list[dict[str, str]]:
    """Tags as the API wants them."""
    return [{"Key": k, "Value": v} for k, v in notes.items()]


def tags_of(raw: Json) -> dict[str, str]:
    """Tags of an instance or a group as a mapping."""
    return {str(t["Key"]): str(t.get("Value", "")) for t in raw.get("Tags") or ()}
