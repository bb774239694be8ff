"""Operations of the fake Compute Engine: over some seconds after the call, the same one for the same request id."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from preprov.testing.fake_cloud import Answer, ApiError, Call, Json

if TYPE_CHECKING:
    from preprov.testing.fake_gcp import FakeGcp

_OPERATION_S: Final = 2.0
_REMEMBERED: Final = timedelta(hours=1)


@dataclass
class _Operation:
    body: Json
    over_at: datetime


class FakeGcpOperations:
    """Those of the zone and of the project."""

    def __init__(self, cloud: "FakeGcp") -> None:
        self._cloud = cloud
        self._kept: dict[str, _Operation] = {}
        self._requests: dict[str, tuple[datetime, Json]] = {}

    def routes(self) -> tuple[tuple[str, str, Any, str], ...]:
        """Method, path below the project, handler, right."""
        zone = f"/zones/{self._cloud.zone}/operations"
        return (
            ("GET", zone, self._list, "zoneOperations.list"),
            ("GET", f"{zone}/{{name}}", self._get, "zoneOperations.get"),
            ("POST", f"{zone}/{{name}}/wait", self._wait, "zoneOperations.get"),
            ("GET", "/global/operations/{name}", self._get, "globalOperations.get"),
            ("POST", "/global/operations/{name}/wait", self._wait, "globalOperations.get"),
        )

    def once(self, call: Call, kind: str, target: str, change: Callable[[], object]) -> Answer:
        """Do it and answer with its operation; sent again under the same request id, answer with that one."""
        key, now = call.query.get("requestId", ""), self._cloud.clock.now()
        known = self._requests.get(key)
        if key and known is not None and now - known[0] < _REMEMBERED:
            return Answer(known[1])
        change()
        body = self.begin(kind, target)
        if key:
            self._requests[key] = (now, body)
        return Answer(body)

    def begin(self, kind: str, target: str, over_s: float = _OPERATION_S) -> Json:
        """A new one, that is over so many seconds from now."""
        cloud, name = self._cloud, f"operation-{len(self._kept):06d}"
        now = cloud.clock.now()
        body = {
            "name": name,
            "operationType": kind,
            "status": "RUNNING",
            "progress": 0,
            "insertTime": now.isoformat(),
            "zone": cloud.link(""),
            "targetLink": cloud.link(target),
            "selfLink": cloud.link(f"operations/{name}"),
        }
        self._kept[name] = _Operation(body, now + timedelta(seconds=over_s))
        return body

    def _shown(self, name: str) -> Json:
        found = self._kept.get(name)
        if found is None:
            raise ApiError(404, "notFound", f"The resource 'operations/{name}' was not found")
        over = found.over_at <= self._cloud.clock.now()
        return {**found.body, "status": "DONE" if over else "RUNNING", "progress": 100 if over else 0}

    def _get(self, call: Call) -> Answer:
        return Answer(self._shown(call.parts["name"]))

    def _wait(self, call: Call) -> Answer:
        found, clock = self._kept.get(call.parts["name"]), self._cloud.clock
        if found is not None and found.over_at > clock.now():
            self._cloud.let_pass((found.over_at - clock.now()).total_seconds())
        return Answer(self._shown(call.parts["name"]))

    def _list(self, call: Call) -> Answer:
        wanted = call.query.get("filter", "")
        found = [self._shown(n) for n, o in self._kept.items() if f'"{o.body["operationType"]}"' in wanted]
        return Answer({"items": found})
