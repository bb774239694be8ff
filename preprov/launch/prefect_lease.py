"""A lease that Prefect itself enforces: an automation of its server puts limits back when nothing is heard of preprov.

Prefect has no limit that expires. It has automations that act when an event does *not* come: so each round of serving
sends one, and if none follows within the time of the lease, the server calls its own API (a webhook block for each
limit) and sets what was found before. That happens once for each silence, with nobody of ours alive.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final, TypeAlias
from urllib.parse import quote
from uuid import uuid4

from preprov.model.errors import ConflictError, NotFoundError, PoolError

EVENT: Final = "preprov.lease.renewed"
LEAST_S: Final = 10.0
"""Prefect looks for silences no finer."""
APART_S: Final = 15.0
"""Limits are put back so long after each other."""
_PAGE: Final = 200
Ask: TypeAlias = Callable[..., Any]


class PrefectLease:
    """The lease of one work pool's limits.

    Args:
        name: of what is served; automation and blocks are called after it.
        url: of Prefect's API as its server reaches it. headers: that it wants.
        lasts_s: seconds without a word of us after which limits are put back; it is looked after as often.
        now: seconds that only grow.
    """

    def __init__(
        self,
        name: str,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        lasts_s: float,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._name, self._url, self._headers, self._clock = name, url.rstrip("/"), headers, now
        self._lasts_s = max(lasts_s, LEAST_S)
        self._placed: Mapping[str, object] | None = None
        self._seen_at = 0.0

    @property
    def _named(self) -> str:
        return f"preprov lease of {self._name}: "

    @property
    def _resource(self) -> str:
        return f"preprov.serve.{self._name}"

    def hold(self, ask: Ask, limits: Mapping[str, int | None]) -> None:
        """Have these put back when it runs out, and let it begin anew.

        Args:
            ask: makes one request of the API: (method, path, JSON or nothing) -> JSON.
            limits: path of a work pool or queue -> its limit as it was found.

        Raises:
            PoolError: Prefect has no automations, or refuses them.
        """
        late = self._clock() - self._seen_at >= self._lasts_s
        if self._placed != limits or (late and not self._is_there(ask, len(limits))):
            self._place(ask, limits)
            self._placed = dict(limits)
            late = True
        if late:
            self._seen_at = self._clock()
        said = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": EVENT,
            "resource": {"prefect.resource.id": self._resource},
        }
        ask("POST", "/events", [said])

    def end(self, ask: Ask) -> None:
        """Take it away; success where there is none."""
        found = self._found(ask)
        for automation in found:
            ask("DELETE", f"/automations/{automation['id']}", None)
        for block in {b["id"] for b in self._blocks(ask)} | _called(found):
            _drop(ask, block)
        self._placed = None

    # ---- inside

    def _is_there(self, ask: Ask, limits: int) -> bool:
        """False if somebody has taken some of it away, or has switched it off."""
        found = [a for a in self._found(ask) if a.get("enabled", True)]
        return len(found) == limits and _called(found) == {str(b["id"]) for b in self._blocks(ask)}

    def _place(self, ask: Ask, limits: Mapping[str, int | None]) -> None:
        """One automation for each limit: calls that a server makes at the same time end each other."""
        blocks = {b["name"]: b["id"] for b in self._blocks(ask)}
        found = self._found(ask)
        automations = {str(a["name"]): str(a["id"]) for a in found}
        kind = self._kind(ask)
        wanted: set[str] = set()
        called: set[str] = set()
        for i, (path, limit) in enumerate(sorted(limits.items())):
            block = self._block(ask, kind, blocks, f"{self._prefix}{i}", path)
            payload = json.dumps({"concurrency_limit": limit})
            action = {"type": "call-webhook", "block_document_id": block, "payload": payload}
            body = self._automation(i, action)
            wanted.add(body["name"])
            called.add(block)
            if body["name"] in automations:
                ask("PUT", f"/automations/{automations[body['name']]}", body)
            else:
                ask("POST", "/automations/", body)
        for name in automations.keys() - wanted:
            ask("DELETE", f"/automations/{automations[name]}", None)
        for unused in (_called(found) | {str(i) for i in blocks.values()}) - called:
            _drop(ask, unused)

    def _automation(self, number: int, action: Mapping[str, object]) -> dict[str, Any]:
        """It counts from each word of us (`after`), so that a silence is answered once.

        It does so for each resource: one that does not would count without a word, and answer again and again.
        """
        silence = {
            "type": "event",
            "posture": "Proactive",
            "match": {"prefect.resource.id": self._resource},
            "for_each": ["prefect.resource.id"],
            "after": [EVENT],
            "expect": [EVENT],
            "threshold": 1,
            "within": self._lasts_s + APART_S * number,
        }
        return {
            "name": f"{self._named}{number}",
            "description": "Puts a limit back that preprov has changed, if nothing is heard of it. Kept by preprov.",
            "enabled": True,
            "trigger": silence,
            "actions": [action],
        }

    def _found(self, ask: Ask) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        whole = False
        while not whole:
            page = ask("POST", "/automations/filter", {"limit": _PAGE, "offset": len(found), "sort": "NAME_ASC"}) or []
            found, whole = [*found, *page], len(page) < _PAGE
        return [a for a in found if _is_numbered(a, self._named)]

    @property
    def _prefix(self) -> str:
        """Blocks are named in lower case, with dashes: what that makes alike a digest tells apart."""
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in self._name.lower())
        return f"preprov-lease-{plain}-{hashlib.sha256(self._name.encode()).hexdigest()[:8]}-"

    def _blocks(self, ask: Ask) -> list[dict[str, Any]]:
        try:
            found = ask("GET", "/block_types/slug/webhook/block_documents", None)
        except NotFoundError:
            return []
        return [b for b in found or () if _is_numbered(b, self._prefix)]

    def _kind(self, ask: Ask) -> tuple[str, str]:
        """(block type, block schema) of webhooks."""
        try:
            kind = ask("GET", "/block_types/slug/webhook", None)
        except NotFoundError:
            ask("POST", "/block_types/install_system_block_types", None)
            kind = ask("GET", "/block_types/slug/webhook", None)
        wanted = {"block_schemas": {"block_type_id": {"any_": [kind["id"]]}}}
        schemas = ask("POST", "/block_schemas/filter", wanted)
        if not schemas:
            raise PoolError("this Prefect has no webhook blocks", where=self._url, hint="`lease = 0` serves without")
        return str(kind["id"]), str(schemas[0]["id"])

    def _block(self, ask: Ask, kind: tuple[str, str], there: Mapping[str, str], name: str, path: str) -> str:
        data = {
            "method": "PATCH",
            "url": f"{self._url}{path}",
            "headers": {"Content-Type": "application/json", **self._headers()},
            "allow_private_urls": True,
        }
        if name in there:
            ask("PATCH", f"/block_documents/{there[name]}", {"data": data, "merge_existing_data": False})
            return there[name]
        body = {"name": name, "data": data, "block_type_id": kind[0], "block_schema_id": kind[1]}
        made = ask("POST", "/block_documents/", body)
        if not isinstance(made, dict) or "id" not in made:
            raise ConflictError("Prefect did not say what it made", where=self._url, hint="it is asked again")
        return str(made["id"])


def _is_numbered(thing: Mapping[str, Any], prefix: str) -> bool:
    """True if it is called the prefix and a number."""
    name = str(thing.get("name", ""))
    return name.startswith(prefix) and name.removeprefix(prefix).isdecimal()


def _called(automations: Iterable[Mapping[str, Any]]) -> set[str]:
    """Ids of the blocks that they call."""
    actions = (action for a in automations for action in a.get("actions") or ())
    return {str(action["block_document_id"]) for action in actions if action.get("block_document_id")}


def _drop(ask: Ask, block: str) -> None:
    with suppress(NotFoundError):
        ask("DELETE", f"/block_documents/{block}", None)


def path_of_pool(work_pool: str) -> str:
    """Of a work pool, below the API."""
    return f"/work_pools/{quote(work_pool, safe='')}"


def path_of_queue(work_pool: str, queue: str) -> str:
    """Of a work queue, below the API."""
    return f"{path_of_pool(work_pool)}/queues/{quote(queue, safe='')}"
