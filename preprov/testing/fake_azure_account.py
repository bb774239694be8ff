"""What is not of a scale set: quotas, addresses of the subnet, rights of the caller, autoscale settings."""

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from preprov.testing.fake_cloud import Answer, Call

if TYPE_CHECKING:
    from preprov.testing.fake_azure import FakeAzure


class FakeAzureAccount:
    """Those of the subscription.

    Attributes:
        addresses: of the subnet, taken or not. prices: size -> USD per hour; spot costs a fifth of it.
    """

    def __init__(self, cloud: "FakeAzure") -> None:
        self._cloud = cloud
        self.addresses = 250
        self.prices: dict[str, float] = {}

    def subnet(self, root: str) -> str:
        """The one that machines are in."""
        return f"{root}/Microsoft.Network/virtualNetworks/net/subnets/nodes"

    def routes(self, root: str, here: str) -> tuple[tuple[str, str, Callable[[Call], Answer], str], ...]:
        """Method, path, handler, right; below a resource group and a subscription."""
        locations, vnet = f"{here}/Microsoft.Compute/locations", self.subnet(root).partition("/subnets/")[0]
        insights, mine = "Microsoft.Insights/autoscaleSettings", "Microsoft.Authorization/permissions"
        return (
            ("GET", f"{locations}/{{at}}/usages", self._usages, "Microsoft.Compute/locations/usages/read"),
            ("GET", f"{vnet}/usages", self._addresses, "Microsoft.Network/virtualNetworks/usages/read"),
            ("GET", f"{root}/{insights}", self._autoscale, f"{insights}/read"),
            ("GET", f"{root}/{mine}", self._rights, f"{mine}/read"),
            ("GET", "/api/retail/prices", self._prices, ""),
        )

    @property
    def _used(self) -> int:
        return sum(g.capacity for g in self._cloud.sets.values())

    def _usages(self, call: Call) -> Answer:
        quota = self._cloud.faults.quota
        name = {"value": "virtualMachines", "localizedValue": "Virtual Machines"}
        limit = quota if quota is not None else 1000
        return Answer({"value": [{"unit": "Count", "currentValue": self._used, "limit": limit, "name": name}]})

    def _addresses(self, call: Call) -> Answer:
        subnet = self.subnet(call.path.partition("/Microsoft.Network/")[0])
        return Answer({"value": [{"id": subnet, "currentValue": self._used, "limit": self.addresses}]})

    def _rights(self, call: Call) -> Answer:
        return Answer({"value": [{"actions": ["*"], "notActions": sorted(self._cloud.faults.denied)}]})

    def _autoscale(self, call: Call) -> Answer:
        found = [g for g in self._cloud.sets.values() if g.autoscale]
        about = [{"targetResourceUri": self._cloud.set_id(g), "enabled": True} for g in found]
        return Answer({"value": [{"name": g.autoscale, "properties": p} for g, p in zip(found, about, strict=True)]})

    def _prices(self, call: Call) -> Answer:
        """The list, two rows a page; it names Windows, spot and low priority too."""
        rows = [_row(size, usd, kind) for size, usd in self.prices.items() for kind in ("", "Windows", "Spot", "Low")]
        wanted = [r for r in rows if f"armSkuName eq '{r['armSkuName']}'" in call.query.get("$filter", "")]
        first = int(call.query.get("$skip", "0"))
        page: dict[str, object] = {"Items": wanted[first : first + 2], "NextPageLink": None}
        if first + 2 < len(wanted):
            query = urlencode({"$filter": call.query["$filter"], "$skip": first + 2})
            page["NextPageLink"] = f"{self._cloud.url}/api/retail/prices?{query}"
        return Answer(page)


def _row(size: str, usd: float, kind: str) -> dict[str, object]:
    names = {"": size, "Windows": size, "Spot": f"{size} Spot", "Low": f"{size} Low Priority"}
    return {
        "currencyCode": "USD",
        "retailPrice": usd / 5 if kind in ("Spot", "Low") else usd * (1.8 if kind == "Windows" else 1.0),
        "armRegionName": "westeurope",
        "armSkuName": size,
        "skuName": names[kind],
        "productName": f"Virtual Machines Series{' Windows' if kind == 'Windows' else ''}",
        "unitOfMeasure": "1 Hour",
        "type": "Consumption",
        "effectiveStartDate": "2026-07-01T00:00:00Z",
    }
