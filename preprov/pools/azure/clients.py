"""The SDK's clients, one per service and place, with the SDK's own retries and pollers and nothing on top."""

from collections.abc import Iterable
from threading import Lock
from typing import Any, Final, TypeAlias

from preprov.pools.azure.errors import calling
from preprov.pools.azure.options import Place

Json: TypeAlias = dict[str, Any]
_ARM: Final = "https://management.azure.com"


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

    def resource(self, place: Place, where: str, path: str, version: str) -> Json:
        """What Azure Resource Manager says of a resource that the SDKs above do not know.

        Args:
            path: below the endpoint, or a whole URL. version: of the API.

        Raises:
            PoolError: it could not be asked.
        """
        from azure.core.rest import HttpRequest

        with calling(where):
            url = path if "://" in path else f"{place.endpoint or _ARM}{path}"
            more = {} if "api-version=" in url else {"api-version": version}
            request = HttpRequest("GET", url, params=more)
            answer = self._get("manager", place).send_request(request)
            answer.raise_for_status()
            body: Json = answer.json()
        return body

    def resources(self, place: Place, where: str, path: str, version: str) -> list[Json]:
        """All items of a list, page by page. Raises as `resource`."""
        found: list[Json] = []
        while path:
            page = self.resource(place, where, path, version)
            found.extend(page.get("value", ()))
            path = str(page.get("nextLink") or "")
        return found

    def _get(self, service: str, place: Place) -> Any:
        with self._lock:
            if (service, place) not in self._kept:
                self._kept[service, place] = self._make(service, place)
            return self._kept[service, place]

    def _make(self, service: str, place: Place) -> Any:
        if service == "manager":
            return _manager(place)
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


def _manager(place: Place) -> Any:
    """A bare client of Azure Resource Manager."""
    from azure.core.pipeline.policies import HeadersPolicy, RetryPolicy, UserAgentPolicy
    from azure.mgmt.core import ARMPipelineClient
    from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

    if place.endpoint:
        who: Any = _nobody_policy()
    else:
        from azure.identity import DefaultAzureCredential

        who = ARMChallengeAuthenticationPolicy(DefaultAzureCredential(), f"{_ARM}/.default")
    policies = [HeadersPolicy(), UserAgentPolicy("preprov"), RetryPolicy(retry_total=place.attempts), who]
    make: Any = ARMPipelineClient
    return make(base_url=place.endpoint or _ARM, policies=policies)


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
