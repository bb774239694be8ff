"""Compute Engine from within: metadata for reading, guest attributes for writing, which need no right at all.

Guest attributes have to be allowed by the instance's metadata (`enable-guest-attributes = TRUE`).
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from preprov.agent.clouds import Machine
from preprov.agent.clouds.http import CloudError, Http
from preprov.model.notes import PREFIX

_METADATA: Final = "http://metadata.google.internal"
_HEADERS: Final = {"Metadata-Flavor": "Google"}
_INSTANCE: Final = "/computeMetadata/v1/instance/"
_NOTES: Final = "preprov-notes"
"""The metadata entry that holds the controller's notes, as JSON."""
_SOON_S: Final = 30.0


class Gcp:
    """See `preprov.agent.clouds.Letterbox`."""

    name = "gcp"

    def __init__(self, metadata: str = "", wall: Callable[[], float] = time.time) -> None:
        self._http = Http(metadata or _METADATA)
        self._wall = wall
        self._seen: dict[str, Any] = {}
        self._posted: dict[str, str] = {}

    def machine(self) -> Machine:
        """As the contract says."""
        raw = self._look()
        interfaces = raw.get("networkInterfaces") or [{}]
        return Machine(
            str(raw["name"]),
            str(raw.get("machineType", "")).rsplit("/", 1)[-1],
            str(raw.get("zone", "")).rsplit("/", 1)[-1],
            str(interfaces[0].get("ip", "")),
        )

    def orders(self) -> Mapping[str, str]:
        """As the contract says: one entry of its metadata."""
        text = (self._look().get("attributes") or {}).get(_NOTES, "")
        try:
            raw = json.loads(text) if text else {}
        except ValueError:
            raise CloudError(f"metadata {_NOTES} is no JSON") from None
        return {str(k): str(v) for k, v in raw.items()} if isinstance(raw, dict) else {}

    def post(self, notes: Mapping[str, str]) -> None:
        """As the contract says; what is there already is not written again, for writes are limited per second."""
        space = PREFIX.rstrip(":")
        for key, value in notes.items():
            if self._posted.get(key) != value:
                path = f"{_INSTANCE}guest-attributes/{space}/{key.removeprefix(PREFIX)}"
                self._http.ask("PUT", path, _HEADERS, value)
                self._posted[key] = value

    def notice(self) -> tuple[str, float] | None:
        """As the contract says, as the last reading of its orders showed it."""
        preempted = str(self._seen.get("preempted", "")).upper() == "TRUE"
        leaves = str(self._seen.get("maintenanceEvent", "")) == "TERMINATE_ON_HOST_MAINTENANCE"
        return ("interruption", self._wall() + _SOON_S) if preempted or leaves else None

    def in_service(self) -> bool:
        """As the contract says: a group puts its machines into standby by stopping them."""
        return True

    def _look(self) -> dict[str, Any]:
        text = self._http.ask("GET", f"{_INSTANCE}?recursive=true&alt=json", _HEADERS)
        try:
            self._seen = json.loads(text)
        except ValueError:
            raise CloudError("the metadata service gave no JSON") from None
        return self._seen
