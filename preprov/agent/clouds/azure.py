"""Azure from within: the instance metadata service for reading, tags through Resource Manager for writing.

Tags are merged by `Microsoft.Resources/tags`, with the machine's own identity: the right to write tags is all it needs,
none on the machine itself.
"""

import json
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

from preprov.agent.clouds import Machine
from preprov.agent.clouds.http import CloudError, Http
from preprov.model.notes import NOTICE, PREFIX, REPORT, SLURM_NODE

_METADATA: Final = "http://169.254.169.254"
_API: Final = "https://management.azure.com"
_HEADERS: Final = {"Metadata": "true"}
_OWN: Final = (f"{REPORT}.", NOTICE)
_ENDS: Final = frozenset({"Preempt", "Terminate"})
_EARLY_S: Final = 300.0
"""A token this near to its end is asked for anew."""
_SOON_S: Final = 30.0


class Azure:
    """See `preprov.agent.clouds.Letterbox`."""

    name = "azure"

    def __init__(self, metadata: str = "", api: str = "", wall: Callable[[], float] = time.time) -> None:
        self._http = Http(metadata or _METADATA)
        self._arm = Http(api or _API, timeout_s=10.0)
        self._audience = _API
        self._wall = wall
        self._seen: dict[str, Any] = {}
        self._network: dict[str, Any] = {}
        self._bearer: tuple[float, str] = (0.0, "")

    def machine(self) -> Machine:
        """As the contract says."""
        compute = self._look()
        try:
            address = str(self._network["interface"][0]["ipv4"]["ipAddress"][0]["privateIpAddress"])
        except (KeyError, IndexError, TypeError):
            address = ""
        return Machine(str(compute["name"]), str(compute.get("vmSize", "")), str(compute.get("zone", "")), address)

    def orders(self) -> Mapping[str, str]:
        """As the contract says: its tags, but for what it wrote itself."""
        tags = {str(t["name"]): str(t["value"]) for t in self._look().get("tagsList") or ()}
        return {k: v for k, v in tags.items() if k.startswith((PREFIX, SLURM_NODE)) and not k.startswith(_OWN)}

    def post(self, notes: Mapping[str, str]) -> None:
        """As the contract says; other tags stay, whoever writes them meanwhile."""
        resource = str((self._seen or self._look())["resourceId"])
        path = f"{quote(resource)}/providers/Microsoft.Resources/tags/default?api-version=2021-04-01"
        body = json.dumps({"operation": "Merge", "properties": {"tags": dict(notes)}})
        for attempt in range(2):
            headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": "application/json"}
            try:
                self._arm.ask("PATCH", path, headers, body)
            except CloudError as e:
                if e.status != 401 or attempt:
                    raise
                self._bearer = (0.0, "")
            else:
                return

    def notice(self) -> tuple[str, float] | None:
        """As the contract says: scheduled events that end this machine."""
        text = self._http.ask("GET", "/metadata/scheduledevents?api-version=2020-07-01", _HEADERS)
        me = str(self._seen.get("name", ""))
        for event in json.loads(text).get("Events") or ():
            if event.get("EventType") in _ENDS and me in (event.get("Resources") or ()):
                return "interruption", _instant(str(event.get("NotBefore", "")), self._wall() + _SOON_S)
        return None

    def in_service(self) -> bool:
        """As the contract says: it is in no standby pool (any more)."""
        return str(self._seen.get("isVmInStandbyPool", "")).lower() != "true"

    # ---- inside

    def _look(self) -> dict[str, Any]:
        text = self._http.ask("GET", "/metadata/instance?api-version=2023-11-15", _HEADERS)
        try:
            raw = json.loads(text)
        except ValueError:
            raise CloudError("the metadata service gave no JSON") from None
        self._seen, self._network = raw.get("compute") or {}, raw.get("network") or {}
        return self._seen

    def _token(self) -> str:
        if self._wall() > self._bearer[0] - _EARLY_S:
            query = f"api-version=2018-02-01&resource={quote(self._audience, safe='')}"
            raw = json.loads(self._http.ask("GET", f"/metadata/identity/oauth2/token?{query}", _HEADERS))
            self._bearer = (float(raw["expires_on"]), str(raw["access_token"]))
        return self._bearer[1]


def _instant(text: str, otherwise: float) -> float:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return otherwise
