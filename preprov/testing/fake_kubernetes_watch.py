"""Versions of what a small Kubernetes API server holds, and what changed since one of them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class Journal:
    """Changes of all objects, found by looking at them: whoever changes one need not say so.

    Attributes:
        version: the newest. oldest: what came before it is forgotten.
    """

    version: int = 1
    oldest: int = 0
    _seen: dict[str, dict[str, str]] = field(default_factory=dict)
    _changes: dict[str, list[tuple[int, str, Json]]] = field(default_factory=dict)

    def look(self, resource: str, objects: Mapping[str, Json]) -> int:
        """Note what changed; returns the version that this is."""
        seen = self._seen.setdefault(resource, {})
        for uid, thing in list(objects.items()):
            text = json.dumps(thing)
            before = seen.get(uid)
            if before != text:
                self._note(resource, "ADDED" if before is None else "MODIFIED", json.loads(text))
                seen[uid] = text
        for uid in seen.keys() - objects.keys():
            self._note(resource, "DELETED", json.loads(seen.pop(uid)))
        return self.version

    def forget(self) -> None:
        """As when it is compacted: who has seen less than the newest has to list everything."""
        self.oldest = self.version
        self._changes.clear()

    def since(self, resource: str, version: int, namespace: str) -> Iterator[Json]:
        """What a watch that begins at a version is told."""
        if version < self.oldest:
            gone = {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired"}
            yield {"type": "ERROR", "object": gone}
            return
        for at, what, thing in self._changes.get(resource, ()):
            if at > version and namespace in ("", thing["metadata"]["namespace"]):
                yield {"type": what, "object": thing}
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}}

    def _note(self, resource: str, what: str, thing: Json) -> None:
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        self._changes.setdefault(resource, []).append((self.version, what, thing))
