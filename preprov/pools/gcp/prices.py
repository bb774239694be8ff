"""What Compute Engine's machines cost: cores and memory of a family at the prices of the Cloud Billing catalogue."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from preprov.contracts import Quote
from preprov.model.errors import PoolError
from preprov.model.offerings import CapacityType, Offering
from preprov.pools.gcp.errors import calling, typed
from preprov.pools.gcp.options import GcpGroup
from preprov.pools.gcp.permissions import read_only_session

_CATALOGUE: Final = "https://cloudbilling.googleapis.com"
_COMPUTE: Final = "/v1/services/6F81-5844-456A/skus"
_WAIT_S: Final = 60
_MOST_PAGES: Final = 50
_PAGE: Final = 5000
_SKU: Final = re.compile(
    r"^(?:Spot Preemptible )?(?P<family>[A-Z]\d[A-Z]?)(?: AMD| Arm)?(?: Predefined)? "
    r"Instance (?P<part>Core|Ram) running"
)


@dataclass(frozen=True, slots=True)
class _Sku:
    """USD per hour of a core, or of a GiB of memory, of a family."""

    family: str
    part: str
    spot: bool
    usd: float


def quotes(group: GcpGroup, since: datetime) -> tuple[Quote, ...]:
    """Quotes of the group's offerings, in force since `since`: the catalogue tells what holds now, and no history.

    A machine is the cores and the memory of its offering at the prices of its family in the zone's region. Types that
    are sold otherwise (shared cores, GPUs) are left out.

    Raises:
        PoolError: the catalogue could not be read.
    """
    skus = list(_skus(group))
    out: list[Quote] = []
    for o in group.group.offerings:
        usd = _per_hour(o, skus)
        if usd is not None:
            out.append(Quote(o, usd, since, "spot" if o.capacity_type is CapacityType.SPOT else "list"))
    return tuple(out)


def _per_hour(offering: Offering, skus: list[_Sku]) -> float | None:
    family, spot = offering.instance_type.partition("-")[0].upper(), offering.capacity_type is CapacityType.SPOT
    prices = {s.part: s.usd for s in skus if s.family == family and s.spot is spot}
    if set(prices) != {"Core", "Ram"} or offering.capacity.gpu or "micro" in offering.instance_type:
        return None
    return round(offering.capacity.cpu * prices["Core"] + offering.capacity.memory * prices["Ram"], 6)


def _skus(group: GcpGroup) -> Iterator[_Sku]:
    """Cores and memory of families in the region."""
    place = group.place
    url, session, token = f"{place.endpoint or _CATALOGUE}{_COMPUTE}", read_only_session(place.endpoint), ""
    for _ in range(_MOST_PAGES):
        query = {"currencyCode": "USD", "pageSize": _PAGE, "pageToken": token}
        with calling(group.where):
            answer = session.get(url, params=query, timeout=_WAIT_S)
        if answer.status_code != 200:
            raise typed("", f"skus.list: {answer.status_code}", group.where, answer.status_code)
        page = _page(answer, group.where)
        for raw in page.get("skus", ()):
            if place.region in raw.get("serviceRegions", ()):
                sku = _sku(raw)
                if sku is not None:
                    yield sku
        token = str(page.get("nextPageToken") or "")
        if not token:
            return


def _page(answer: Any, where: str) -> dict[str, Any]:
    try:
        page: dict[str, Any] = answer.json()
    except ValueError as e:
        raise PoolError(f"the catalogue of prices cannot be read: {e}", where=where, hint="try again") from e
    return page


def _sku(raw: dict[str, Any]) -> _Sku | None:
    usage = raw.get("category", {}).get("usageType")
    found = _SKU.match(str(raw.get("description", "")))
    if found is None or usage not in ("OnDemand", "Preemptible"):
        return None
    rate = raw["pricingInfo"][-1]["pricingExpression"]["tieredRates"][-1]["unitPrice"]
    usd = int(rate.get("units") or 0) + int(rate.get("nanos") or 0) / 1e9
    return _Sku(found["family"], found["part"], usage == "Preemptible", usd)
