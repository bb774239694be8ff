"""The SDK's clients, one per service and place, with the SDK's own retries and pollers and nothing on top."""

from collections.abc import Iterable
from threading import Lock
from typing import Any, TypeAlias

from preprov.pools.azure.errors import calling
from preprov.pools.azure.options import Place

Json: TypeAlias = dict[str, Any]


class Clients:
    """Makes clients when they are first needed and keeps them; using one from threads is safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[tuple[str, Place], Any] = {}

    def compute(self, place: Place) -> Any:
        """The client of Microsoft.Compute."""
        return self._get("compute", place)

    def standby(self, place: Place) -> Any:
        """The client of Microsoft.StandbyPool."""
        return self._get("standby", place)

    def _get(self, service: str, place: Place) -> Any:
        with self._lock:
            if (service, place) not in self._kept:
                self._kept[service, place] = self._make(service, place)
            return self._kept[service, place]

    def _make(self, service: str, place: Place) -> Any:
        make = _client(service)
        more: Json = {"polling_interval": place.poll_s, "retry_total": place.attempts, "user_agent": "preprov"}
        with calling(place.resource_group):
            if place.endpoint:
                more |= {"base_url": place.endpoint, "authentication_policy": _nobody_policy()}
                return make(_Nobody(), place.subscription, **more)
            from azure.identity import DefaultAzureCredential

            return make(DefaultAzureCredential(), place.subscription, **more)


def _client(service: str) -> Any:
    if service == "compute":
        from azure.mgmt.compute import ComputeManagementClient

        return ComputeManagementClient
    from azure.mgmt.standbypool import StandbyPoolMgmtClient

    return StandbyPoolMgmtClient


class _Nobody:
    """For a server on this machine, which asks nobody who they are."""

    def get_token(self, *scopes: str, **_: Any) -> Any:
        """A token that opens nothing."""
        from azure.core.credentials import AccessToken

        return AccessToken("nobody", 2**31)


def _nobody_policy() -> Any:
    """Sends no token: the SDK's own policy refuses to send one over http, and rightly."""
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    policy: Any = SansIOHTTPPolicy
    return policy()


def as_json(model: Any) -> Json:
    """What the API sent, in its own names."""
    out: Json = model.as_dict()
    return out


def pages(where: str, found: Iterable[Any]) -> list[Json]:
    """All items of a paginated call.

    Raises:
        PoolError: a call failed.
    """
    with calling(where):
        return [as_json(i) for i in found]
