"""What Azure's machines cost: the public list of retail prices, which needs no rights."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from preprov.contracts import Quote
from preprov.model.errors import PoolError
from preprov.model.offerings import CapacityType, Offering
from preprov.model.time import aware
from preprov.pools.azure.clients import Json
from preprov.pools.azure.group import ScaleSet

_LIST: Final = "https://prices.azure.com"
_PATH: Final = "/api/retail/prices"
_VERSION: Final = "2023-01-01-preview"
_WAIT_S: Final = 30.0
_MOST_PAGES: Final = 50
_HOUR: Final = "1 Hour"


def quotes(group: ScaleSet, since: datetime) -> tuple[Quote, ...]:
    """Quotes of the group's offerings, each in force since the later of `since` and when Azure says, oldest first.

    Prices are those of Linux in the scale set's region. Azure keeps no history of spot prices.

    Raises:
        PoolError: the list could not be read.
    """
    region = str(group.settings()["location"])
    out: list[Quote] = []
    by_type: dict[str, list[Offering]] = {}
    for offering in group.group.offerings:
        by_type.setdefault(offering.instance_type, []).append(offering)
    for size, offerings in by_type.items():
        for item in _items(group, region, size):
            found = _priced(item)
            for o in offerings:
                if found is not None and (o.capacity_type is CapacityType.SPOT) is found[0]:
                    at = max(aware(datetime.fromisoformat(str(item["effectiveStartDate"]))), since)
                    out.append(Quote(o, found[1], at, "spot" if found[0] else "list"))
    return tuple(sorted(out, key=lambda q: q.since))


def _priced(item: Json) -> tuple[bool, float] | None:
    """(True if it is spot, USD per hour) of a row; None if it is no plain Linux machine by the hour."""
    name, product = str(item.get("skuName", "")), str(item.get("productName", ""))
    if item.get("type") != "Consumption" or item.get("unitOfMeasure") != _HOUR or item.get("currencyCode") != "USD":
        return None
    if "Windows" in product or "Cloud Services" in product or "Low Priority" in name:
        return None
    return "Spot" in name, float(item["retailPrice"])


def _items(group: ScaleSet, region: str, size: str) -> Iterator[Json]:
    import httpx

    place = group.options.place
    base = place.endpoint or _LIST
    filters = f"serviceName eq 'Virtual Machines' and armRegionName eq '{region}' and armSkuName eq '{size}'"
    url = f"{base}{_PATH}"
    query: dict[str, str] | None = {"api-version": _VERSION, "$filter": filters}
    for _ in range(_MOST_PAGES):
        try:
            answer = httpx.get(url, params=query, timeout=_WAIT_S)
            answer.raise_for_status()
            page: Json = answer.json()
            found = list(page["Items"])
        except (httpx.HTTPError, ValueError, KeyError) as e:
            hint = "no rights are needed: is the network there?"
            raise PoolError(f"Azure's list of prices cannot be read: {e}", where=group.options.where, hint=hint) from e
        yield from found
        following = str(page.get("NextPageLink") or "")
        if not following.startswith(f"{base}{_PATH}"):  # the end, or a way to somebody else
            return
        url, query = following, None
