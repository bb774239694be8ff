"""What `preprov serve` answers to the provider, in memory: its rules are those of the real one.

preprov's own tests hold the two against each other (`tests/unit/integrations/test_airflow_reserving.py`); this module
needs nothing but the standard library.
"""

import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "preprov_secret"
LONGEST = 250
_LABEL = re.compile(r"[^\x00-\x1f\x7f]{1,250}")
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_LIVE = ("soft", "committed")
_CORES = 1000.0


def problem(status: int, detail: str, **more: Any) -> tuple[int, Any]:
    return status, {"status": status, "detail": detail, **more}


class FakePreprov:
    """A reservation is ready after it was asked for `patience` times."""

    def __init__(self) -> None:
        self.patience = 0
        self.reservations: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.down: bool | int | str = False
        """True or a status: it fails so; a text: a proxy answers with this page in its place."""
        self.refuse_events = False
        self.page = 1000
        """Reservations at once, of those that are listed."""
        self.pool: dict[str, Any] = {"pool": "batch", "seen_at": "2025-03-01T02:00:00+00:00", **self.room()}
        self._looks: dict[str, int] = {}

    @staticmethod
    def room(allocatable: float = 6.0, held: float = 0.0, yours: float = 0.0, foreign: float = 0.0) -> dict[str, Any]:
        """Cores, and as many GiB: as `/v1/capacity` tells them of a pool."""

        def amounts(cpu: float) -> dict[str, float]:
            return {"cpu": cpu, "memory": cpu, "gpu": 0.0}

        free = max(allocatable - held - foreign, 0.0)
        return {
            "allocatable": amounts(allocatable), "held": amounts(held),
            "free": amounts(free), "held_by_you": amounts(yours),
        }  # fmt: skip

    def answer(self, method: str, path: str, body: Any, key: str, authorization: str | None) -> tuple[int, Any]:
        """Status and document; a text is no document."""
        split = urlsplit(path)
        path = split.path
        self.asked.append((method, path))
        if isinstance(self.down, str):
            return 200, self.down
        if self.down:
            status = 503 if self.down is True else self.down
            return problem(status, "the store does not answer")
        if path == "/v1/ready":
            return 200, {"status": "ready", "store": "sqlite", "pools": 1}
        if authorization != f"Bearer {TOKEN}":
            return problem(401, "a token is needed", hint="Authorization: Bearer …")
        if path == "/v1/capacity":
            return 200, {"pools": [self.pool]}
        if path == "/v1/events":
            return self._told(body)
        if path == "/v1/reservations" and method == "POST":
            return self._made(body, key)
        if path == "/v1/reservations":
            return 200, self._listed(**{k: v[0] for k, v in parse_qs(split.query).items()})
        return self._of_one(method, unquote(path.split("/")[3]))

    def _listed(self, pool: str = "", after: str = "") -> dict[str, Any]:
        """A page of what is live."""
        live = [r for r in self.reservations.values() if r["state"] in _LIVE and pool in ("", r["pool"])]
        page = [r for r in live if not after or int(r["reservation_id"][1:]) > int(after[1:])][: self.page]
        more = bool(page) and page[-1] is not live[-1]
        return {
            "reservations": [self._looked(r) for r in page],
            "next": page[-1]["reservation_id"] if more else None,
        }

    def _told(self, body: Any) -> tuple[int, Any]:
        """All or none of them."""
        for i, event in enumerate(body["events"]):
            for name in ("event_id", "dag_id", "run_id"):
                if not is_label(event.get(name)):
                    return problem(422, f"body/events/{i}/{name}: Input should be a valid string")
            if len(event.get("task_id", "")) > LONGEST:
                return problem(422, f"body/events/{i}/task_id: String should have at most 250 characters")
        if self.refuse_events:
            return problem(422, "malformed")
        known = {e["event_id"] for e in self.events}
        new = {e["event_id"]: e for e in reversed(body["events"]) if e["event_id"] not in known}
        self.events += reversed(new.values())
        return 200, {"accepted": len(new), "duplicates": len(body["events"]) - len(new)}

    def _of_one(self, method: str, reservation_id: str) -> tuple[int, Any]:
        found = self.reservations.get(reservation_id)
        if found is None:
            return problem(404, f"there is no reservation {reservation_id}")
        if method == "DELETE" and found["state"] in _LIVE:
            found.update(state="released", ready=False)
        return 200, self._looked(found)

    def _made(self, body: Any, key: str) -> tuple[int, Any]:
        if not is_label(body["claimant"]) or len(body.get("reason", "")) > LONGEST or not _KEY.fullmatch(key):
            return problem(422, "body/claimant: String should have at most 250 characters")
        if body.get("start") is not None and not re.search(r"(Z|[+-]\d\d:?\d\d)$", body["start"]):
            return problem(422, "body/start: Input should have timezone info")
        if body["pool"] == "nowhere":
            return problem(404, "there is no pool nowhere")
        if body["request"].get("cpu", 0) > _CORES:
            return problem(409, "it fits on no node of pool batch", where="batch", hint="ask for less")
        name, fingerprint = self.keys.get(key, ""), json.dumps(body, sort_keys=True)
        found = self.reservations.get(name)
        if found is not None and found["fingerprint"] != fingerprint:
            hint = "use a new key for a new request"
            return problem(409, "this key was used for another request", where=name, hint=hint)
        if found is not None:
            return 200, self._looked(found)
        for other in self.reservations.values():
            same = (other["pool"], other["claimant"]) == (body["pool"], body["claimant"])
            if same and other["state"] in _LIVE:
                detail, where = f"{body['claimant']} has a live reservation already", other["reservation_id"]
                return problem(409, detail, where=where, hint="release it first, or give each its own claimant")
        count, name = body.get("count", 1), f"r{len(self.reservations) + 1}"
        self.keys[key] = name
        self.reservations[name] = {
            "reservation_id": name, "pool": body["pool"], "claimant": body["claimant"],
            "state": "soft", "ready": False, "count": count, "nodes": [None] * count, "reason": body.get("reason", ""),
            "asked": body, "fingerprint": fingerprint,
        }  # fmt: skip
        return 201, self._looked(self.reservations[name])

    def _looked(self, found: dict[str, Any]) -> dict[str, Any]:
        number = self._looks[found["reservation_id"]] = self._looks.get(found["reservation_id"], 0) + 1
        if found["state"] == "soft" and number > self.patience:
            found.update(state="committed", ready=True, nodes=[f"node-{i}" for i in range(found["count"])])
        return self._shown(found)

    @staticmethod
    def _shown(found: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in found.items() if k not in ("asked", "fingerprint")}

    def expire(self, reservation_id: str) -> None:
        self.reservations[reservation_id].update(state="expired", ready=False, reason="nobody took it up")

    @property
    def made(self) -> list[dict[str, Any]]:
        """All reservations, as they were made."""
        return list(self.reservations.values())

    @property
    def states(self) -> list[str]:
        return [r["state"] for r in self.made]


def is_label(value: Any) -> bool:
    return isinstance(value, str) and _LABEL.fullmatch(value) is not None
