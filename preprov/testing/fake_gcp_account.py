"""What is not of a group: quotas of the region, addresses of the subnet, rights of the caller."""

from typing import TYPE_CHECKING, Any

from preprov.testing.fake_cloud import Answer, Call, Route

if TYPE_CHECKING:
    from preprov.testing.fake_gcp import FakeGcp


class FakeGcpAccount:
    """Those of the project. `addresses`: of the subnet, taken or not."""

    def __init__(self, cloud: "FakeGcp") -> None:
        self._cloud = cloud
        self.addresses = 250

    def rights(self) -> Route:
        """Which of some rights the caller holds, asked of another service; nobody needs a right for that."""
        return Route("POST", f"/v1/projects/{self._cloud.project}:testIamPermissions", self._rights, "")

    def routes(self) -> tuple[tuple[str, str, Any, str], ...]:
        """Method, path below the project, handler, right."""
        return (
            ("GET", "/regions/{name}", self._region, "regions.get"),
            ("GET", "/regions/{region}/subnetworks/{name}", self._subnet, "subnetworks.get"),
        )

    @property
    def _used(self) -> int:
        return sum(len(g.members) for g in self._cloud.migs.values())

    def _region(self, call: Call) -> Answer:
        quota = self._cloud.faults.quota
        limit = quota if quota is not None else 1000
        rows = [{"metric": "INSTANCES", "limit": limit, "usage": self._used}]
        return Answer({"name": call.parts["name"], "quotas": rows})

    def _subnet(self, call: Call) -> Answer:
        free = {"rangeName": "", "totalFreeIp": str(self.addresses - self._used)}
        return Answer({"name": call.parts["name"], "utilizationDetails": {"ipv4Utilizations": [free]}})

    def _rights(self, call: Call) -> Answer:
        denied = self._cloud.faults.denied
        return Answer({"permissions": [r for r in call.body["permissions"] if r not in denied]})
