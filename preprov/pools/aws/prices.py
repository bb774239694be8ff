"""What EC2 costs: spot prices over time, and list prices."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from preprov.contracts import Quote
from preprov.model.errors import PoolError
from preprov.model.offerings import CapacityType, Offering
from preprov.pools.aws.clients import Json, pages
from preprov.pools.aws.errors import calling
from preprov.pools.aws.options import AwsGroup, Place
from preprov.pools.aws.writes import Tools

_HOME: Final = "us-east-1"
"""The Pricing service answers in few regions, for all of them."""
_HOURS: Final = "Hrs"


def quotes(tools: Tools, group: AwsGroup, since: datetime) -> tuple[Quote, ...]:
    """Quotes of the group's offerings from `since` on, oldest first.

    A spot price is per zone; an offering in any zone gets that of each. Without the right to ask the Pricing service
    the list prices are left out: the offerings' configured ones then hold.

    Raises:
        PoolError: spot prices could not be asked.
    """
    out: list[Quote] = []
    spot = [o for o in group.group.offerings if o.capacity_type is CapacityType.SPOT]
    if spot:
        out.extend(_spot(tools, group, spot, since))
    for offering in group.group.offerings:
        if offering.capacity_type is not CapacityType.SPOT:
            out.extend(_listed(tools, group, offering, since))
    return tuple(sorted(out, key=lambda q: q.since))


def _spot(tools: Tools, group: AwsGroup, offerings: list[Offering], since: datetime) -> Iterator[Quote]:
    found = pages(
        tools.clients.get("ec2", group.place),
        "describe_spot_price_history",
        "SpotPriceHistory",
        group.where,
        InstanceTypes=sorted({o.instance_type for o in offerings}),
        ProductDescriptions=["Linux/UNIX"],
        StartTime=since,
    )
    for raw in found:
        at: datetime = raw["Timestamp"]
        for o in offerings:
            if o.instance_type == raw["InstanceType"] and o.zone in ("", raw["AvailabilityZone"]):
                yield Quote(o, float(raw["SpotPrice"]), at.astimezone(UTC), "spot")


def _listed(tools: Tools, group: AwsGroup, offering: Offering, since: datetime) -> Iterator[Quote]:
    try:
        with calling(group.where):
            found = products(tools, group, offering)
    except PoolError:
        return
    for text in found[:1]:
        usd = _per_hour(json.loads(text))
        if usd is not None:
            yield Quote(offering, usd, since, "list")


def products(tools: Tools, group: AwsGroup, offering: Offering) -> list[str]:
    """What the Pricing service has of an offering, each as JSON. Raises as the SDK."""
    wanted = {
        "instanceType": offering.instance_type,
        "regionCode": group.place.region,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    place = Place(_HOME, group.place.endpoint, group.place.profile, group.place.attempts, group.place.adaptive)
    filters = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()]
    answer = tools.clients.get("pricing", place).get_products(ServiceCode="AmazonEC2", Filters=filters, MaxResults=10)
    return list(answer.get("PriceList", ()))


def _per_hour(product: Json) -> float | None:
    """The on-demand price in an entry of the price list."""
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            if dimension.get("unit") == _HOURS:
                return float(dimension["pricePerUnit"]["USD"])
    return None
