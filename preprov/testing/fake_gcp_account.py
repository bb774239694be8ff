"""What is not of a group: quotas of the region, addresses of the subnet, rights of the caller."""

from typing import TYPE_CHECKING, Any

from preprov.testing.fake_cloud import Answer, Call, Route

if TYPE_CHECKING:
    from preprov.testing.fake_gcp import FakeGcp


class FakeGcpAccount:
    """Those of the project.

    Attributes:
        addresses: of the subnet, taken or not. prices: family -> USD per hour of a core and of a GiB; spot is a third.
    """

    def __init__(self, cloud: "FakeGcp") -> None:
        self._cloud = cloud
        self.addresses = 250
        self.prices: dict[str, tuple[float, float]] = {}

    def catalogue(self) -> Route:
        """The Cloud Billing catalogue of Compute Engine; nobody needs a right for that."""
        return Route("GET", "/v1/services/6F81-5844-456A/skus", self._skus, "")

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

    def _skus(self, call: Call) -> Answer:
        """One family a page; regions, commitments and families that nobody asked for are in it too."""
        names = sorted(self.prices)
        at = int(call.query.get("pageToken") or "0")
        rows = [r for family in names[at : at + 1] for r in _family(family, *self.prices[family])]
        following = str(at + 1) if at + 1 < len(names) else ""
        return Answer({"skus": rows, "nextPageToken": following})


def _family(family: str, core: float, gib: float) -> list[dict[str, Any]]:
    out = []
    for part, usd in (("Core", core), ("Ram", gib)):
        for usage, prefix, share in (("OnDemand", "", 1.0), ("Preemptible", "Spot Preemptible ", 1 / 3)):
            for region, factor in (("europe-west1", 1.0), ("us-east4", 1.3)):
                unit = {"currencyCode": "USD", "units": "0", "nanos": round(usd * share * factor * 1e9)}
                out.append(
                    {
                        "description": f"{prefix}{family} Instance {part} running in {region}",
                        "category": {"resourceFamily": "Compute", "usageType": usage},
                        "serviceRegions": [region],
                        "pricingInfo": [{"pricingExpression": {"tieredRates": [{"unitPrice": unit}]}}],
                    }
                )
    return [*out, {**out[0], "description": f"Commitment v1: {family} Cpu", "category": {"usageType": "Commit1Yr"}}]
