"""An Auto Scaling group as it is now: its settings, its members, the size its warm pool is set to."""

from typing import Final

from preprov.model.errors import NotFoundError
from preprov.pools.aws.clients import Json
from preprov.pools.aws.errors import calling
from preprov.pools.aws.options import AwsGroup
from preprov.pools.aws.view import Member
from preprov.pools.aws.warm import WarmSize
from preprov.pools.aws.writes import Tools

_COUNTED: Final = ("Pending", "InService", "Quarantined", "ReplacingRootVolume")


def described(tools: Tools, group: AwsGroup) -> Json:
    """The group as Auto Scaling describes it.

    Raises:
        NotFoundError: there is none of that name.
        PoolError: it could not be asked.
    """
    api = tools.clients.get("autoscaling", group.place)
    with calling(group.where):
        found = api.describe_auto_scaling_groups(AutoScalingGroupNames=[group.asg])["AutoScalingGroups"]
    if not found:
        hint = "check options.asg and the region"
        raise NotFoundError(f"no Auto Scaling group {group.asg}", where=group.where, hint=hint)
    return dict(found[0])


def members(tools: Tools, group: AwsGroup, found: Json) -> dict[str, Member]:
    """Instances in service, on their way to or from it, and in the warm pool, by id.

    Raises:
        PoolError: the warm pool could not be asked.
    """
    warm = str((found.get("WarmPoolConfiguration") or {}).get("PoolState", "Stopped"))
    rows = [*found.get("Instances", ()), *_warm_rows(tools, group, found)]
    return {
        str(r["InstanceId"]): Member(
            str(r["InstanceId"]), str(r["LifecycleState"]), bool(r.get("ProtectedFromScaleIn")), warm
        )
        for r in rows
    }


def _warm_rows(tools: Tools, group: AwsGroup, found: Json) -> list[Json]:
    """Instances of the warm pool, page by page: the SDK has no paginator for them."""
    if not found.get("WarmPoolConfiguration"):
        return []
    rows: list[Json] = []
    more: dict[str, str] = {}
    while True:
        with calling(group.where):
            api = tools.clients.get("autoscaling", group.place)
            page = api.describe_warm_pool(AutoScalingGroupName=group.asg, **more)
        rows.extend(page.get("Instances", ()))
        if not page.get("NextToken"):
            return rows
        more = {"NextToken": page["NextToken"]}


def counted(found: Json) -> int:
    """Members that count towards desired."""
    return sum(1 for r in found["Instances"] if str(r["LifecycleState"]).startswith(_COUNTED))


def size(found: Json) -> WarmSize | None:
    """The size settings of its warm pool; None if it has none."""
    warm = found.get("WarmPoolConfiguration")
    if not warm:
        return None
    prepared = warm.get("MaxGroupPreparedCapacity")
    return WarmSize(int(found["MaxSize"] if prepared in (None, -1) else prepared), int(warm.get("MinSize") or 0))
