"""Volumes that behave: they take their time to be made and to be let go of, are in one zone, and never shrink."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from preprov.testing.fake_aws_wire import Answer, Call, Refusal, answered, element

if TYPE_CHECKING:
    from preprov.testing.fake_aws import FakeAws

MOST_GIB = 65536
"""Of one volume of gp3."""


@dataclass
class FakeVolumes:
    """All volumes of the account.

    Attributes:
        takes: how often somebody has to look before one is made, or let go of. stuck: no instance lets go of any.
        per_day: how often one may be changed before EBS wants hours of rest.
        due: volume -> looks that are left. made: volume -> when it was made, by the clock.
    """

    cloud: "FakeAws"
    takes: int = 0
    stuck: bool = False
    per_day: int = 4
    due: dict[str, int] = field(default_factory=dict)
    made: dict[str, float] = field(default_factory=dict)

    @property
    def handlers(self) -> dict[str, Callable[[Call], Answer]]:
        """Actions that moto does not get right."""
        return {
            "ec2:CreateVolume": self._create,
            "ec2:AttachVolume": self._attach,
            "ec2:DetachVolume": self._detach,
            "ec2:ModifyVolume": self._modify,
            "ec2:DescribeVolumes": self._describe,
        }

    def _create(self, call: Call) -> Answer:
        size = int(call.params["Size"])
        if not 1 <= size <= MOST_GIB:
            raise Refusal("InvalidParameterValue", f"Volume of {size}GiB is out of range for volume type gp3.")
        answer = self.cloud.moto(call)
        found = re.search(rb"<volumeId>(vol-\w+)</volumeId>", answer.body)
        if answer.status == 200 and found is not None:
            name = found[1].decode()
            self.due[name], self.made[name] = self.takes, self.cloud.now
        return self._as_it_is(answer)

    def _describe(self, call: Call) -> Answer:
        """A look. What is too new is listed to nobody who does not name it."""
        for name in list(self.due):
            self.due[name] -= 1
            if self.due[name] < 0:
                self._done(name)
        oldest = self.cloud.now - self.cloud.faults.listing_lag_s
        volumes = self.cloud.ec2.volumes
        hidden = {} if call.items("VolumeId") else {n: volumes[n] for n, at in self.made.items() if at > oldest}
        try:
            self.cloud.ec2.volumes = {k: v for k, v in volumes.items() if k not in hidden}
            return self._as_it_is(self.cloud.moto(call))
        finally:
            self.cloud.ec2.volumes = volumes

    def _done(self, name: str) -> None:
        volume: Any = self.cloud.ec2.volumes.get(name)
        if volume is not None and volume.attachment is not None and self.stuck:
            return
        del self.due[name]
        if volume is not None and volume.attachment is not None:
            self.cloud.ec2.detach_volume(name, volume.attachment.instance.id, volume.attachment.device)

    def _as_it_is(self, answer: Answer) -> Answer:
        """Moto makes a volume at once."""
        body = answer.body
        for name in self.due:
            whole = rb"(<volumeId>" + name.encode() + rb"</volumeId><size>.*?<status>)available"
            body = re.sub(whole, rb"\1creating", body, flags=re.DOTALL)
        return Answer(answer.status, body, answer.kind)

    def _attach(self, call: Call) -> Answer:
        volume, node = self._named(call), self.cloud.nodes.get(call.params["InstanceId"])
        if node is None or node.state in ("shutting-down", "terminated"):
            raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{call.params['InstanceId']}' does not exist")
        if node.state not in ("running", "stopped"):
            raise Refusal("IncorrectState", f"Instance '{node.node_id}' is not 'running'.")
        if volume.attachment is not None:
            raise Refusal("VolumeInUse", f"{volume.id} is already attached to an instance")
        if volume.id in self.due:
            raise Refusal("IncorrectState", f"{volume.id} is not 'available'.")
        zone = str(node.instance.placement.zone)
        if volume.zone.name != zone:
            why = f"The volume '{volume.id}' is not in the same availability zone as instance '{node.node_id}'"
            raise Refusal("InvalidVolume.ZoneMismatch", why)
        if call.params["Device"] in node.instance.block_device_mapping:
            raise Refusal("InvalidParameterValue", f"Attachment point {call.params['Device']} is already in use")
        return self.cloud.moto(call)

    def _detach(self, call: Call) -> Answer:
        """It stays attached until the instance has let go of it."""
        volume = self._named(call)
        there = volume.attachment
        if there is None or there.instance.id != call.params.get("InstanceId", there.instance.id):
            raise Refusal("IncorrectState", f"Volume '{volume.id}' is in the 'available' state.")
        if not self.takes and not self.stuck:
            return self.cloud.moto(call)
        there.status = "detaching"
        self.due[volume.id] = self.takes
        told = {"volumeId": volume.id, "instanceId": there.instance.id, "device": there.device, "status": "detaching"}
        return answered(call, "".join(element(k, v) for k, v in told.items()))

    def _modify(self, call: Call) -> Answer:
        volume, size = self._named(call), int(call.params["Size"])
        if size < volume.size:
            raise Refusal("InvalidParameterValue", "New size cannot be smaller than existing size")
        if size > MOST_GIB:
            raise Refusal("InvalidParameterValue", f"Volume of {size}GiB is out of range for volume type gp3.")
        if len(volume.modifications) >= self.per_day:
            why = "You've reached the maximum modification rate per volume limit. Wait at least 6 hours."
            raise Refusal("VolumeModificationRateExceeded", why)
        return self.cloud.moto(call)

    def _named(self, call: Call) -> Any:
        volume = self.cloud.ec2.volumes.get(call.params["VolumeId"])
        if volume is None:
            raise Refusal("InvalidVolume.NotFound", f"The volume '{call.params['VolumeId']}' does not exist.")
        return volume
