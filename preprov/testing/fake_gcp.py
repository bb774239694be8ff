"""Compute Engine as `google-cloud-compute` sees it: a zonal managed instance group whose machines take their time.

The server, its machines' agents and its errors; each part of the API is a module beside this one (`fake_gcp_groups`,
`fake_gcp_instances`, `fake_gcp_operations`, `fake_gcp_images`, `fake_gcp_account`).
"""

from collections.abc import Callable

from preprov.contracts import Clock
from preprov.testing.agents import Agents
from preprov.testing.fake_cloud import Answer, ApiError, Call, FakeCloud, Json, Route
from preprov.testing.fake_gcp_account import FakeGcpAccount
from preprov.testing.fake_gcp_groups import FakeGcpGroups
from preprov.testing.fake_gcp_images import FakeGcpImages
from preprov.testing.fake_gcp_instances import FakeGcpInstances
from preprov.testing.fake_gcp_operations import FakeGcpOperations
from preprov.testing.fake_gcp_parts import GONE, FakeMig
from preprov.testing.fake_machines import FakeMachine
from preprov.testing.fake_metadata import GcpMetadata, Vm


class FakeGcp(FakeCloud):
    """The server of one project's zone.

    Attributes:
        spoiled: checks of machines that are made from now on fail.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        project: str = "acme",
        zone: str = "europe-west1-b",
        agents: Agents | None = None,
    ) -> None:
        super().__init__(clock, agents)
        self.metadata: GcpMetadata = GcpMetadata(self._shown_to_itself)
        self.project, self.zone = project, zone
        self.migs: dict[str, FakeMig] = {}
        self.spoiled = False
        self.account = FakeGcpAccount(self)
        self.images = FakeGcpImages(self)
        self.operations = FakeGcpOperations(self)
        self._parts = (FakeGcpGroups(self), FakeGcpInstances(self), self.operations, self.images, self.account)

    # ---- what a test does

    def add(self, name: str, machine_type: str, *, spot: bool = False) -> FakeMig:
        """A group with no machines."""
        self.migs[name] = FakeMig(name, f"{name}-vm", machine_type, spot)
        return self.migs[name]

    def machine(self, name: str) -> FakeMachine:
        """A machine of any group.

        Raises:
            KeyError: there is none.
        """
        return next(m for g in self.migs.values() for n, m in g.members.items() if n == name)

    def preempt(self, name: str) -> None:
        """Take a machine away, as the zone does with spot machines."""
        now, m = self.clock.now(), self.machine(name)
        m.follow(now, "DELETING", ((0, "STOPPING"), (30, GONE)))
        m.sleeps(now)
        self.operations.begin("compute.instances.preempted", f"instances/{name}", over_s=0)

    # ---- agents

    kind, running = "gcp", "RUNNING"

    def residents(self) -> list[FakeMachine]:
        """As the base says."""
        now = self.clock.now()
        return [m for g in self.migs.values() for m in g.members.values() if m.status(now) not in ("", GONE)]

    def _shown_to_itself(self, name: str) -> Vm | None:
        with self.lock:
            m = self.awake(name)
            if m is None:
                return None
            allowed = all(g.guest_attributes for g in self.migs.values() if name in g.members)
            posted = m.posted if m.posted is not None else {}
            return Vm(name, m.machine_type, self.zone, m.address, dict(m.notes), posted, m.notice, allowed=allowed)

    # ---- routes

    def routes(self) -> tuple[Route, ...]:
        """The part of the API that is served."""
        root = f"/compute/v1/projects/{self.project}"
        below = (Route(m, f"{root}{p}", h, f"compute.{r}") for part in self._parts for m, p, h, r in part.routes())
        return (self.account.rights(), self.account.catalogue(), *below)

    def once(self, call: Call, kind: str, target: str, change: Callable[[], object]) -> Answer:
        """Do it and answer with its operation; sent again under the same request id, answer with that one."""
        return self.operations.once(call, kind, target, change)

    def link(self, resource: str) -> str:
        """URL of something in the zone; "" = of the zone itself."""
        zone = f"{self.url}/compute/v1/projects/{self.project}/zones/{self.zone}"
        return f"{zone}/{resource}" if resource else zone

    def error_body(self, error: ApiError) -> Json:
        """In Google's form."""
        reason = error.code
        return {
            "error": {
                "code": error.status,
                "message": str(error),
                "errors": [{"message": str(error), "domain": "global", "reason": reason}],
            }
        }
