"""What a cluster holds, as this process has read it: a whole list now and then, and what changed since then.

Objects are kept packed (about a kilobyte each); only those of runs that something happened to are unpacked.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from preprov.kube.labels import is_known
from preprov.model.errors import SourceError, SourceUnavailableError
from preprov.sources.kubernetes.client import ForgottenError, KubernetesClient
from preprov.sources.kubernetes.holding import asks_kueue
from preprov.sources.kubernetes.objects import group_of, job_of, run_id
from preprov.sources.kubernetes.reading import of

Json: TypeAlias = Mapping[str, Any]

WHOLE_S: Final = 900.0
"""So often everything is listed anew, whatever was told in between."""
KINDS: Final = ("job", "pod")
_LISTS: Final = 3
"""So often a list is begun in one look: a server that forgets it each time is asked again with the next."""


@dataclass
class _Part:
    """One kind in one namespace: the version up to which it is known ("" = it is not), listed when, which uids."""

    version: str = ""
    listed: float = 0.0
    uids: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Kept:
    """One object: its kind, the key of its run, as it was told, and whether Kueue may hold it."""

    kind: str
    key: str
    packed: bytes
    kueue: bool

    def thing(self) -> Json:
        return dict(json.loads(zlib.decompress(self.packed)))


@dataclass
class Mirror:
    """Jobs and pods that are work, and which runs something happened to since they were told last.

    Attributes:
        touched: keys of those runs. lost: uids of pods that are gone since then; None = all that are not there.
        followed: changes may be asked for; without that right everything is listed each time.
    """

    touched: set[str] = field(default_factory=set)
    lost: set[str] | None = None
    followed: bool = True
    _parts: dict[tuple[str, str], _Part] = field(default_factory=dict)
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _runs: dict[str, set[str]] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    @property
    def kueue(self) -> bool:
        """True if anything is there that Kueue may hold, or may have held."""
        return any(k.kueue for k in self._kept.values())

    @property
    def run_ids(self) -> set[str]:
        """Of all runs that are there."""
        return set(self._names.values())

    def look(self, cluster: KubernetesClient, now: float) -> None:
        """Bring it up to date. What came before an error is kept, and the next look goes on there.

        Raises:
            SourceError: the cluster could not be read to the end.
        """
        for kind in KINDS:
            for namespace in cluster.namespaces or ("",):
                part = self._parts.setdefault((kind, namespace), _Part())
                if now - part.listed >= WHOLE_S or not self._follow(cluster, kind, namespace, part):
                    self._list(cluster, kind, namespace, part)
                    part.listed = now

    def touch(self, uids: Iterable[str]) -> None:
        """Something else is known of these objects by now."""
        self.touched.update(self._kept[uid].key for uid in uids if uid in self._kept)

    def touch_all(self) -> None:
        """Something else is known of everything."""
        self.touched.update(self._names)

    def runs(self) -> tuple[list[tuple[str, Json]], dict[str, list[Json]]]:
        """(Jobs, run key -> pods) of the runs that something happened to; pods of Jobs that are gone are left out."""
        jobs: list[tuple[str, Json]] = []
        pods: dict[str, list[Json]] = {}
        for key in sorted(self.touched & self._names.keys()):
            for uid in sorted(self._runs[key]):
                kept = self._kept[uid]
                if kept.kind == "job":
                    jobs.append((key, kept.thing()))
                else:
                    pods.setdefault(key, []).append(kept.thing())
        return jobs, pods

    # ---- inside

    def _follow(self, cluster: KubernetesClient, kind: str, namespace: str, part: _Part) -> bool:
        """Take in what changed; False if that cannot be told."""
        if not part.version or not self.followed:
            return False
        try:
            for what, thing in cluster.since(kind, namespace, part.version):
                if what == "DELETED":
                    self._drop(part, _uid(thing))
                elif what != "BOOKMARK":
                    self._put(kind, part, thing)
                part.version = str(of(thing, "metadata").get("resourceVersion") or part.version)
        except ForgottenError:
            return False
        except SourceUnavailableError:
            raise
        except SourceError:
            self.followed = False
            return False
        return True

    def _list(self, cluster: KubernetesClient, kind: str, namespace: str, part: _Part) -> None:
        """A list that took so long that the server forgot it is begun anew, a few times."""
        part.version = ""
        for left in reversed(range(_LISTS)):
            there: set[str] = set()
            versions: list[str] = []
            try:
                for version, things in cluster.pages(kind, namespace):
                    versions.append(version)
                    there.update(self._put(kind, part, t) for t in things)
            except ForgottenError as e:
                if not left:
                    hint = "let the source have more requests per second"
                    raise SourceUnavailableError(f"its list of {kind}s expired {_LISTS} times", hint=hint) from e
                continue
            break
        for uid in part.uids - there:
            self._drop(part, uid)
        part.version = versions[0]

    def _put(self, kind: str, part: _Part, thing: Json) -> str:
        """Keep it, if it is work and neither ours nor a service; returns its uid."""
        uid = _uid(thing)
        key = "" if is_known(thing) else f"job:{uid}" if kind == "job" else _run_of(thing)
        before = self._kept.get(uid)
        if before is not None and before.key != key:
            self._drop(part, uid)
        if not key:
            return uid
        part.uids.add(uid)
        kept = _Kept(kind, key, _packed(thing), asks_kueue(thing))
        if kept == before:
            return uid
        self._kept[uid] = kept
        self._runs.setdefault(key, set()).add(uid)
        self.touched.add(key)
        if kind == "job" or not key.startswith("job:"):
            self._names[key] = run_id(of(thing, "metadata")) if kind == "job" else key
        return uid

    def _drop(self, part: _Part, uid: str) -> None:
        part.uids.discard(uid)
        kept = self._kept.pop(uid, None)
        if kept is None:
            return
        members = self._runs[kept.key]
        members.discard(uid)
        self.touched.add(kept.key)
        if self.lost is not None and kept.kind == "pod":
            self.lost.add(uid)
        if not members:
            del self._runs[kept.key]
        if kept.kind == "job" or not members:
            self._names.pop(kept.key, None)


def _uid(thing: Json) -> str:
    meta = of(thing, "metadata")
    return str(meta.get("uid") or f"{meta.get('namespace')}/{meta.get('name')}")


def _run_of(pod: Json) -> str:
    job = job_of(pod)
    return f"job:{job}" if job else group_of(pod)


def _packed(thing: Json) -> bytes:
    """Without what changes with each word about it."""
    meta = {k: v for k, v in of(thing, "metadata").items() if k not in ("managedFields", "resourceVersion")}
    return zlib.compress(json.dumps({**thing, "metadata": meta}).encode(), 1)
