"""Auto Scaling groups that behave: warm pools fill and are drawn on, lifecycle hooks wait, protection is respected.

Moto keeps the groups' settings; what the groups do about them is here. A member is moto's own record of it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from preprov.model.time import aware, epoch, from_epoch
from preprov.testing.fake_aws_wire import Answer, Call, Refusal, answered, element, form, members

if TYPE_CHECKING:
    from preprov.testing.fake_aws import FakeAws

_REST = {"Stopped": "Warmed:Stopped", "Hibernated": "Warmed:Hibernated", "Running": "Warmed:Running"}
_RESTING = frozenset(_REST.values())
_ACTIVE = ("Pending", "Pending:Wait", "Pending:Proceed", "InService")


@dataclass
class Activity:
    """A launch as the group records it; times in epoch seconds."""

    description: str
    instance: str
    zone: str
    began: float
    ended: float | None = None
    status: str = "InProgress"


@dataclass
class _State:
    """What a group has beside moto's record: members of its warm pool, and since when members wait at a hook."""

    activities: list[Activity] = field(default_factory=list)
    warm: list[Any] = field(default_factory=list)
    waits: dict[str, float] = field(default_factory=dict)
    applied: set[tuple[str, str]] = field(default_factory=set)


class Groups:
    """All groups of the account."""

    def __init__(self, cloud: "FakeAws") -> None:
        self._cloud = cloud
        self._states: dict[str, _State] = {}
        self.handlers: dict[str, Callable[[Call], Answer]] = {
            "autoscaling:SetDesiredCapacity": self._set_desired,
            "autoscaling:LaunchInstances": self._launch,
            "autoscaling:TerminateInstanceInAutoScalingGroup": self._terminate,
            "autoscaling:DetachInstances": self._detach,
            "autoscaling:SetInstanceProtection": self._protect,
            "autoscaling:CompleteLifecycleAction": self._complete,
            "autoscaling:RecordLifecycleActionHeartbeat": self._heartbeat,
            "autoscaling:DescribeScalingActivities": self._describe_activities,
            "autoscaling:DescribeWarmPool": self._describe_warm,
            "autoscaling:PutWarmPool": self._put_warm,
        }

    @property
    def _backend(self) -> Any:
        from moto.autoscaling.models import autoscaling_backends

        return autoscaling_backends[self._cloud.account][self._cloud.region]

    def group(self, name: str) -> Any:
        """Moto's record of a group.

        Raises:
            Refusal: there is none.
        """
        found = self._backend.autoscaling_groups.get(name)
        if found is None:
            raise Refusal("ValidationError", f"AutoScalingGroup name not found - {name}")
        return found

    def lifecycle(self, node_id: str) -> str:
        """The lifecycle state of an instance; "" if it is in no group."""
        for group in self._backend.autoscaling_groups.values():
            for m in (*group.instance_states, *self._state(group).warm):
                if m.instance.id == node_id:
                    return str(m.lifecycle_state)
        return ""

    def target(self, node_id: str) -> str:
        """What its group means an instance to be, as its metadata say; "" if it is in no group."""
        for group in self._backend.autoscaling_groups.values():
            if any(m.instance.id == node_id for m in group.instance_states):
                return "InService"
            if any(m.instance.id == node_id for m in self._state(group).warm):
                return _REST[_pool_state(group)]
        return ""

    def warm(self, name: str) -> list[str]:
        """Lifecycle states of the members of a group's warm pool."""
        return [str(m.lifecycle_state) for m in self._state(self.group(name)).warm]

    def _state(self, group: Any) -> _State:
        return self._states.setdefault(group.name, _State())

    # ---- what groups do by themselves

    def advance(self, now: float) -> None:
        """Bring all groups up to now."""
        for group in list(self._backend.autoscaling_groups.values()):
            if group.name not in self._states:
                self._take_over(group)
            self._schedule(group, now)
            for _ in range(3):  # one step may make another possible
                self._step(group, now)

    def _take_over(self, group: Any) -> None:
        """From now on its counts move when this class says so."""
        self._state(group)
        group.set_desired_capacity = lambda n: setattr(group, "desired_capacity", group.min_size if n is None else n)
        group.replace_autoscaling_group_instances = lambda *_: None
        for m in group.instance_states:
            m.lifecycle_state = "Pending"

    def _schedule(self, group: Any, now: float) -> None:
        for action in self._backend.scheduled_actions.values():
            key = (str(action.scheduled_action_name), str(action.start_time))
            due = _instant(action.start_time)
            mine = action.auto_scaling_group_name == group.name and key not in self._state(group).applied
            if mine and due is not None and epoch(due) <= now:
                self._state(group).applied.add(key)
                for name in ("min_size", "max_size", "desired_capacity"):
                    if getattr(action, name) is not None:
                        setattr(group, name, getattr(action, name))

    def _step(self, group: Any, now: float) -> None:
        state = self._state(group)
        nodes = self._cloud.nodes
        gone = ("shutting-down", "terminated")
        group.instance_states = [m for m in group.instance_states if nodes[m.instance.id].state not in gone]
        state.warm = [m for m in state.warm if nodes[m.instance.id].state not in gone]
        for m in [*group.instance_states, *state.warm]:
            self._move_on(group, m, now)
        self._to_desired(group, now)
        self._to_warm_size(group, now)

    def _move_on(self, group: Any, m: Any, now: float) -> None:
        """The next lifecycle state of a member, if it is time."""
        state, node = self._state(group), self._cloud.nodes[m.instance.id]
        running = node.state == "running"
        prefix = "Warmed:" if m in state.warm else ""
        if m.lifecycle_state == f"{prefix}Pending" and running:
            if self._hooks(group):
                m.lifecycle_state = f"{prefix}Pending:Wait"
                state.waits[m.instance.id] = now
            else:
                self._arrive(group, m, now)
        elif m.lifecycle_state == f"{prefix}Pending:Wait":
            hook = self._hooks(group)[0]
            if now - state.waits[m.instance.id] >= float(hook.heartbeat_timeout):
                self._decide(group, m, str(hook.default_result), now)
        elif m.lifecycle_state == "Warmed:Pending:Proceed" and node.state == "stopped":
            m.lifecycle_state = _REST[_pool_state(group)]

    def _arrive(self, group: Any, m: Any, now: float) -> None:
        """It has booted, and no hook holds it any more."""
        self._done(group, m, now, "Successful")
        if m not in self._state(group).warm:
            m.lifecycle_state = "InService"
            m.protected_from_scale_in = m.protected_from_scale_in or group.new_instances_protected_from_scale_in
        else:
            self._rest(group, m, now)

    def _rest(self, group: Any, m: Any, now: float) -> None:
        kept, node = _pool_state(group), self._cloud.nodes[m.instance.id]
        if kept == "Running":
            m.lifecycle_state = "Warmed:Running"
        else:
            m.lifecycle_state = "Warmed:Pending:Proceed"
            node.halt(now, hibernate=kept == "Hibernated")

    def _decide(self, group: Any, m: Any, word: str, now: float) -> None:
        """A hook was answered, or nobody did in time."""
        self._state(group).waits.pop(m.instance.id, None)
        if word == "CONTINUE":
            self._arrive(group, m, now)
        else:
            self._end(group, m, now)

    def _to_desired(self, group: Any, now: float) -> None:
        state = self._state(group)
        active = [m for m in group.instance_states if m.lifecycle_state in _ACTIVE]
        for _ in range(int(group.desired_capacity) - len(active)):
            rested = next((m for m in state.warm if m.lifecycle_state in _RESTING), None)
            if rested is not None:
                self._hand_over(group, rested, now)
            elif not self._cold(group, now, "Pending"):
                break
        surplus = len(active) - int(group.desired_capacity)
        idle = [m for m in active if m.lifecycle_state == "InService" and not m.protected_from_scale_in]
        for m in idle[: max(surplus, 0)]:
            if group.warm_pool is not None and _reuses(group):
                group.instance_states = [x for x in group.instance_states if x is not m]
                state.warm.append(m)
                self._rest(group, m, now)
            else:
                self._end(group, m, now)

    def _hand_over(self, group: Any, m: Any, now: float) -> None:
        """From the warm pool towards service."""
        node = self._cloud.nodes[m.instance.id]
        self._state(group).warm.remove(m)
        group.instance_states.append(m)
        m.lifecycle_state = "Pending"
        self._begin(group, m, now, " from warm pool")
        if node.state == "stopped":
            node.begin(now, node.rests_as)

    def _to_warm_size(self, group: Any, now: float) -> None:
        state = self._state(group)
        wanted = self._warm_size(group)
        for _ in range(wanted - len(state.warm)):
            if not self._cold(group, now, "Warmed:Pending"):
                break
        for m in [m for m in state.warm if m.lifecycle_state in _RESTING][: max(len(state.warm) - wanted, 0)]:
            self._end(group, m, now)

    def _warm_size(self, group: Any) -> int:
        warm = group.warm_pool
        if warm is None:
            return 0
        prepared = warm.max_group_prepared_capacity
        most = int(group.max_size) if prepared in (None, -1, "-1") else int(prepared)
        return max(most - int(group.desired_capacity), int(warm.min_size or 0), 0)

    def _cold(self, group: Any, now: float, lifecycle: str, zone: str = "") -> Any:
        """Launch one machine; None if there is none to be had."""
        zone = zone or str(group.availability_zones[0])
        if self._cloud.room(str(group.instance_type), zone) < 1:
            return None
        known = len(group.instance_states)
        type(group).replace_autoscaling_group_instances(group, 1, _propagated(group))
        m = group.instance_states[known]
        m.instance._placement.zone, m.availability_zone = zone, zone
        m.lifecycle_state = lifecycle
        self._begin(group, m, now, " into warm pool" if lifecycle.startswith("Warmed") else "")
        self._cloud.adopt(now)
        if lifecycle.startswith("Warmed"):
            group.instance_states = group.instance_states[:known]
            self._state(group).warm.append(m)
        return m

    def _begin(self, group: Any, m: Any, now: float, where: str) -> None:
        text = f"Launching a new EC2 instance{where}: {m.instance.id}"
        made = Activity(text, str(m.instance.id), str(m.availability_zone), now)
        self._state(group).activities.insert(0, made)

    def _done(self, group: Any, m: Any, now: float, status: str) -> None:
        for a in self._state(group).activities:
            if a.instance == m.instance.id and a.ended is None:
                a.ended, a.status = now, status

    def activities(self, name: str) -> list[Activity]:
        """Launches of a group as it has recorded them, the newest first; a test may add to them."""
        return self._state(self.group(name)).activities

    def _describe_activities(self, call: Call) -> Answer:
        """A page of them."""
        size, first = int(call.params.get("MaxRecords", 100)), int(call.params.get("NextToken") or 0)
        name = call.params["AutoScalingGroupName"]
        known = self.activities(name)
        rows = [
            element("ActivityId", f"{name}-{len(known) - first - i}")
            + element("AutoScalingGroupName", name)
            + element("Description", a.description)
            + element("Cause", "asked")
            + element("StartTime", _iso(a.began))
            + element("EndTime", None if a.ended is None else _iso(a.ended))
            + element("StatusCode", a.status)
            + element("Progress", 100 if a.ended is not None else 50)
            + element("Details", json.dumps({"Availability Zone": a.zone}))
            for i, a in enumerate(known[first : first + size])
        ]
        more = element("NextToken", first + size) if first + size < len(known) else ""
        return answered(call, members("Activities", rows) + more)

    def _end(self, group: Any, m: Any, now: float) -> None:
        state = self._state(group)
        self._done(group, m, now, "Failed")
        group.instance_states = [x for x in group.instance_states if x is not m]
        state.warm = [x for x in state.warm if x is not m]
        self._cloud.ec2.terminate_instances([m.instance.id])
        self._cloud.nodes[m.instance.id].enter("terminated", now)

    def _hooks(self, group: Any) -> list[Any]:
        launching = "autoscaling:EC2_INSTANCE_LAUNCHING"
        found = self._backend.lifecycle_hooks.values()
        return [h for h in found if h.auto_scaling_group_name == group.name and h.lifecycle_transition == launching]

    # ---- what they are asked to

    def _set_desired(self, call: Call) -> Answer:
        group, wanted = self.group(call.params["AutoScalingGroupName"]), int(call.params["DesiredCapacity"])
        if not int(group.min_size) <= wanted <= int(group.max_size):
            raise Refusal("ValidationError", f"New SetDesiredCapacity value {wanted} is not between min and max.")
        group.desired_capacity = wanted
        return answered(call, "")

    def _launch(self, call: Call) -> Answer:
        group = self.group(call.params["AutoScalingGroupName"])
        zone = (call.items("AvailabilityZones") or [str(group.availability_zones[0])])[0]
        made, wanted = [], int(call.params["RequestedCapacity"])
        if int(group.desired_capacity) + wanted > int(group.max_size):
            raise Refusal("ValidationError", "The requested capacity exceeds the maximum size of the group.")
        for _ in range(wanted):
            m = self._cold(group, self._cloud.now, "Pending", zone)
            if m is None:
                break
            made.append(str(m.instance.id))
        group.desired_capacity = int(group.desired_capacity) + len(made)
        about = element("InstanceType", group.instance_type) + element("AvailabilityZone", zone)
        got = [about + members("InstanceIds", made)] if made else []
        short = element("ErrorCode", "InsufficientInstanceCapacity") + element("ErrorMessage", f"None in {zone}.")
        errors = [about + short] if len(made) < wanted else []
        name = element("AutoScalingGroupName", group.name)
        return answered(call, name + members("Instances", got) + members("Errors", errors))

    def _member(self, call: Call, node_id: str, *, warm: bool = False) -> tuple[Any, Any]:
        for group in self._backend.autoscaling_groups.values():
            for m in (*group.instance_states, *(self._state(group).warm if warm else ())):
                if m.instance.id == node_id:
                    return group, m
        raise Refusal("ValidationError", f"Instance Id not found - No managed instance found for instance ID {node_id}")

    def _lower(self, group: Any, call: Call, by: int) -> None:
        if call.params.get("ShouldDecrementDesiredCapacity", "").lower() != "true":
            return
        if int(group.desired_capacity) - by < int(group.min_size):
            raise Refusal("ValidationError", "Currently, desiredSize equals minSize. Terminating would violate it.")
        group.desired_capacity = int(group.desired_capacity) - by

    def _terminate(self, call: Call) -> Answer:
        group, m = self._member(call, call.params["InstanceId"])
        self._lower(group, call, 1)
        self._end(group, m, self._cloud.now)
        return answered(call, f"<Activity>{_activity(group.name)}</Activity>")

    def _detach(self, call: Call) -> Answer:
        found = [self._member(call, i) for i in call.items("InstanceIds")]
        group = self.group(call.params["AutoScalingGroupName"])
        self._lower(group, call, len(found))
        gone = [m for _, m in found]
        group.instance_states = [x for x in group.instance_states if x not in gone]
        return answered(call, members("Activities", [_activity(group.name) for _ in gone]))

    def _protect(self, call: Call) -> Answer:
        ids = call.items("InstanceIds")
        for node_id in ids:
            _, m = self._member(call, node_id)
            m.protected_from_scale_in = call.params["ProtectedFromScaleIn"].lower() == "true"
        return answered(call, "")

    def _waiting(self, call: Call) -> tuple[Any, Any]:
        node_id = call.params.get("InstanceId", "")
        group = self.group(call.params["AutoScalingGroupName"])
        if node_id not in self._state(group).waits:
            raise Refusal("ValidationError", f"No active Lifecycle Action found with instance ID {node_id}")
        return self._member(call, node_id, warm=True)

    def _complete(self, call: Call) -> Answer:
        group, m = self._waiting(call)
        self._decide(group, m, call.params["LifecycleActionResult"], self._cloud.now)
        return answered(call, "")

    def _heartbeat(self, call: Call) -> Answer:
        group, m = self._waiting(call)
        self._state(group).waits[m.instance.id] = self._cloud.now
        return answered(call, "")

    def _put_warm(self, call: Call) -> Answer:
        group = self.group(call.params["AutoScalingGroupName"])
        body = {k: v for k, v in call.params.items()}
        if body.get("MaxGroupPreparedCapacity") == "-1":
            del body["MaxGroupPreparedCapacity"]

        answer = self._cloud.moto(call, form(call, body))
        assert group.warm_pool is not None
        return answer

    def _describe_warm(self, call: Call) -> Answer:
        group = self.group(call.params["AutoScalingGroupName"])
        rows = [
            element("InstanceId", m.instance.id)
            + element("InstanceType", m.instance.instance_type)
            + element("AvailabilityZone", m.availability_zone)
            + element("LifecycleState", m.lifecycle_state)
            + element("HealthStatus", "Healthy")
            for m in self._state(group).warm
        ]
        warm, about = group.warm_pool, ""
        if warm is not None:
            about = element("PoolState", _pool_state(group)) + element("MinSize", warm.min_size)
        return answered(call, f"<WarmPoolConfiguration>{about}</WarmPoolConfiguration>" + members("Instances", rows))


def _iso(at: float) -> str:
    return from_epoch(at).isoformat().replace("+00:00", "Z")


def _pool_state(group: Any) -> str:
    return str(group.warm_pool.pool_state or "Stopped")


def _reuses(group: Any) -> bool:
    policy: Mapping[str, Any] = group.warm_pool.instance_reuse_policy or {}
    return str(policy.get("ReuseOnScaleIn", "")).lower() == "true"


def _propagated(group: Any) -> dict[str, str]:
    return dict(group.get_propagated_tags())


def _activity(group: str) -> str:
    text = element("ActivityId", "fake") + element("AutoScalingGroupName", group) + element("Cause", "asked")
    return text + element("StartTime", "2025-01-01T00:00:00Z") + element("StatusCode", "InProgress")


def _instant(text: object) -> datetime | None:
    if not text:
        return None
    at = text if isinstance(text, datetime) else datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    return aware(at if at.tzinfo else at.replace(tzinfo=UTC))
