"""Operations of the fake Compute Engine: over some seconds after the call, the same one for the same request id.

They are listed as https://cloud.google.com/compute/docs/reference/rest/v1/zoneOperations/list says: those that the
filter takes, in the order of their names or, by "creationTimestamp desc", the newest first; `maxResults` of 0 to 500 a
page; those that are over for two weeks no more, as the notes on `gcloud compute operations list` have it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from preprov.testing.fake_cloud import Answer, ApiError, Call, Json

if TYPE_CHECKING:
    from preprov.testing.fake_gcp import FakeGcp

_OPERATION_S: Final = 2.0
_REMEMBERED: Final = timedelta(hours=1)
_KEPT: Final = timedelta(days=14)
_PAGE: Final = 500


@dataclass
class _Operation:
    body: Json
    at: datetime
    over_at: datetime
    error: str = ""


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

    def begin(
        self, kind: str, target: str, over_s: float = _OPERATION_S, *, error: str = "", at: datetime | None = None
    ) -> Json:
        """A new one, that is over so many seconds from now (or from then), with an error or without."""
        cloud, name = self._cloud, f"operation-{len(self._kept):06d}"
        at = at or cloud.clock.now()
        body = {
            "name": name,
            "operationType": kind,
            "status": "RUNNING",
            "progress": 0,
            "insertTime": at.isoformat(),
            "startTime": at.isoformat(),
            "zone": cloud.link(""),
            "targetLink": cloud.link(target),
            "selfLink": cloud.link(f"operations/{name}"),
        }
        self._kept[name] = _Operation(body, at, at + timedelta(seconds=over_s), error)
        return body

    def _shown(self, name: str) -> Json:
        found = self._kept.get(name)
        if found is None:
            raise ApiError(404, "notFound", f"The resource 'operations/{name}' was not found")
        if found.over_at > self._cloud.clock.now():
            return found.body
        over: Json = {"status": "DONE", "progress": 100, "endTime": found.over_at.isoformat()}
        if found.error:
            over["error"] = {"errors": [{"code": found.error, "message": f"{name}: {found.error}"}]}
            over |= {"httpErrorStatusCode": 503, "httpErrorMessage": "SERVICE UNAVAILABLE"}
        return found.body | over

    def _get(self, call: Call) -> Answer:
        return Answer(self._shown(call.parts["name"]))

    def _wait(self, call: Call) -> Answer:
        found, clock = self._kept.get(call.parts["name"]), self._cloud.clock
        if found is not None and found.over_at > clock.now():
            self._cloud.let_pass((found.over_at - clock.now()).total_seconds())
        return Answer(self._shown(call.parts["name"]))

    def _list(self, call: Call) -> Answer:
        wanted, since = call.query.get("filter", ""), self._cloud.clock.now() - _KEPT
        there = [
            (o.at, n)
            for n, o in self._kept.items()
            if o.over_at >= since and (not wanted or f'"{o.body["operationType"]}"' in wanted)
        ]
        newest_first = call.query.get("orderBy") == "creationTimestamp desc"
        names = [n for _, n in sorted(there, reverse=True)] if newest_first else sorted(n for _, n in there)
        size = int(call.query.get("maxResults") or _PAGE)
        if not 0 <= size <= _PAGE:
            raise ApiError(400, "invalid", f"Invalid value for field 'maxResults': '{size}'")
        start = int(call.query.get("pageToken") or "0")
        more = {"nextPageToken": str(start + size)} if start + size < len(names) else {}
        return Answer({"items": [self._shown(n) for n in names[start : start + size]], **more})
