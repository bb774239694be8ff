"""Machine images that behave: they take their time, their names are unique, and their snapshots go with them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from preprov.testing.fake_aws_wire import Answer, Call, Refusal, form

if TYPE_CHECKING:
    from preprov.testing.fake_aws import FakeAws


@dataclass
class FakeImages:
    """All images of the account.

    Attributes:
        takes_s: from the call until one can be launched from. fails: those that are made from now on.
        due: image -> when it is ready.
    """

    cloud: "FakeAws"
    takes_s: float = 240.0
    fails: bool = False
    due: dict[str, float] = field(default_factory=dict)

    @property
    def handlers(self) -> dict[str, Callable[[Call], Answer]]:
        """Actions that moto does not get right."""
        return {
            "ec2:CreateImage": self._create,
            "ec2:DeregisterImage": self._deregister,
            "ec2:CreateLaunchTemplateVersion": self._version,
        }

    def _version(self, call: Call) -> Answer:
        """A version has what its source has, less what it names itself."""
        answer = self.cloud.moto(call)
        source, ec2 = call.params.get("SourceVersion"), self.cloud.ec2
        if answer.status == 200 and source:
            name, id_ = call.params.get("LaunchTemplateName"), call.params.get("LaunchTemplateId")
            template = ec2.get_launch_template_by_name(name) if name else ec2.get_launch_template(id_)
            made = template.versions[-1]
            made.data = {**template.get_version(source).data, **made.data}
        return answer

    def advance(self, now: float) -> None:
        """Bring all images up to now."""
        for image_id in [i for i, at in self.due.items() if at <= now]:
            del self.due[image_id]
            if image_id in self.cloud.ec2.amis:
                self.cloud.ec2.amis[image_id].state = "failed" if self.fails else "available"

    def _create(self, call: Call) -> Answer:
        """Restarts the instance, as EC2 does unless told not to; it speaks again when it is up."""
        now, name = self.cloud.now, call.params["Name"]
        if any(a.name == name and a.owner_id == self.cloud.account for a in self.cloud.ec2.amis.values()):
            raise Refusal("InvalidAMIName.Duplicate", f"AMI name {name} is already in use")
        snapshot = {k[: k.index("ResourceType")] for k, v in call.params.items() if v == "snapshot"}
        kept = {k: v for k, v in call.params.items() if not k.startswith(tuple(snapshot) or ("\x00",))}
        answer = self.cloud.moto(call, form(call, kept))
        found = re.search(rb"<imageId>(ami-\w+)</imageId>", answer.body)
        if answer.status != 200 or found is None:
            return answer
        image: Any = self.cloud.ec2.amis[found[1].decode()]
        image.state, image.creation_date = "pending", datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
        self.due[image.id] = now + self.takes_s
        return answer

    def _deregister(self, call: Call) -> Answer:
        image = self.cloud.ec2.amis.get(call.params["ImageId"])
        answer = self.cloud.moto(call)
        if image is not None and call.params.get("DeleteAssociatedSnapshots") == "true":
            self.cloud.ec2.snapshots.pop(getattr(image.ebs_snapshot, "id", ""), None)
        return answer
