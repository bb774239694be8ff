"""What Auto Scaling has recorded of launches: when each was asked for, and when its instance was in service."""

import json
import re
from collections import Counter
from datetime import datetime, timedelta
from typing import Any, Final

from preprov.contracts import Recollection, Warmed
from preprov.model.offerings import Standby
from preprov.model.time import aware
from preprov.pools.aws.clients import Json, pages
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.writes import Tools

MEANS: Final = (
    "from Auto Scaling's launch to the instance in service, its lifecycle hooks included; images and data that preprov "
    "puts on the disk come on top"
)
_INSTANCE: Final = re.compile(r"\bi-[0-9a-f]{8,17}\b")
_LAUNCH: Final = re.compile(r"Launching a new EC2 instance", re.IGNORECASE)
_FROM_WARM: Final = re.compile(r"from (?:the )?warm pool", re.IGNORECASE)
_INTO_WARM: Final = re.compile(r"into (?:the )?warm pool|to (?:the )?warm pool", re.IGNORECASE)
_KEPT: Final = {"Stopped": Standby.STOPPED, "Hibernated": Standby.HIBERNATED}
_LONGEST: Final = timedelta(hours=6)


def recall(tools: Tools, group: AwsGroup, since: datetime, warm_state: str) -> Recollection:
    """Launches of an Auto Scaling group since then; it keeps six weeks of them.

    Args:
        warm_state: of the group's warm pool, as Auto Scaling names it; "" = it has none.

    Raises:
        PoolError: it cannot be asked.
    """
    api: Any = tools.clients.get("autoscaling", group.place)
    found: list[Json] = []
    for activity in pages(
        api, "describe_scaling_activities", "Activities", group.where, AutoScalingGroupName=group.asg
    ):
        if aware(activity["StartTime"]) < since:  # the newest come first
            break
        found.append(activity)
    types = _types(tools, group, found)
    left: Counter[str] = Counter()
    warmed = []
    for activity in found:
        one = _warmed(activity, types, warm_state)
        if isinstance(one, str):
            left[one] += 1
        else:
            warmed.append(one)
    return Recollection(tuple(warmed), MEANS, tuple(sorted(left.items())))


def _warmed(activity: Json, types: dict[str, str], warm_state: str) -> Warmed | str:
    """The warming, or why it tells none."""
    said = str(activity.get("Description", ""))
    if not _LAUNCH.search(said):
        return "no launch"
    named = _INSTANCE.search(said)
    ended = activity.get("EndTime")
    if named is None:
        return "a launch that brought no instance: no capacity, a limit, or a wrong template"
    if ended is None or activity.get("StatusCode") not in ("Successful", "Failed"):
        return "not over, or cancelled"
    if _INTO_WARM.search(said) and not _FROM_WARM.search(said):
        return "a launch into the warm pool: it ends at rest, not in service"
    came_from = Standby.COLD
    if _FROM_WARM.search(said):
        if warm_state not in _KEPT:
            return "from a warm pool whose state is not known"
        came_from = _KEPT[warm_state]
    took = aware(ended) - aware(activity["StartTime"])
    if not timedelta(0) < took <= _LONGEST:
        return "a time that makes no sense"
    return Warmed(
        node_id=named[0],
        at=aware(ended),
        seconds=took.total_seconds(),
        zone=_zone(activity),
        instance_type=types.get(named[0], types.get("", "")),
        came_from=came_from,
        failed=activity["StatusCode"] == "Failed",
    )


def _zone(activity: Json) -> str:
    try:
        details = json.loads(activity.get("Details") or "{}")
    except ValueError:
        return ""
    return str(details.get("Availability Zone") or "") if isinstance(details, dict) else ""


def _types(tools: Tools, group: AwsGroup, activities: list[Json]) -> dict[str, str]:
    """Instance -> its type, of those that exist; "" -> that of all others, where the group can have but one."""
    ids = {m[0] for a in activities if (m := _INSTANCE.search(str(a.get("Description", ""))))}
    alive = tools.listing.of_ids(group.place, sorted(ids)) if ids else {}
    only = {o.instance_type for o in group.group.offerings}
    return {i: str(raw.get("InstanceType", "")) for i, raw in alive.items()} | (
        {"": next(iter(only))} if len(only) == 1 else {}
    )
