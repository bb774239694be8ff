"""What a cluster holds, as this process has read it: a whole list now and then, and what changed since then.

Objects are kept packed (about a kilobyte each); only those of runs that something happened to are unpacked. A process
that goes on where another one stopped has no list: of runs that something happened to it asks for what it lacks of them
(`completing`), and until everything is listed again it holds these runs alone.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from preprov.kube.labels import is_known
from preprov.model.errors import SourceError, SourceUnavailableError
from preprov.sources.kubernetes.client import ForgottenError, KubernetesClient
from preprov.sources.kubernetes.completing import Lacking, lacking, rest
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
        partial: it goes on where another process stopped, and holds the runs that something happened to since.
        ended: ids of runs that are gone since they were told last; kept while it is partial only.
    """

    touched: set[str] = field(default_factory=set)
    lost: set[str] | None = None
    followed: bool = True
    partial: bool = False
    ended: set[str] = field(default_factory=set)
    _lacking: dict[str, Lacking] = field(default_factory=dict)
    _complete: set[str] = field(default_factory=set)
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

    @property
    def is_new(self) -> bool:
        """True until it has looked."""
        return not self._parts

    @property
    def stand(self) -> dict[str, list[Any]]:
        """Up to which version each kind of each namespace is known, and when it was listed: for `resume`."""
        return {f"{kind}/{space}": [p.version, p.listed] for (kind, space), p in self._parts.items() if p.version}

    def resume(self, stand: Mapping[str, Any], namespaces: tuple[str, ...]) -> bool:
        """Go on where another process stopped, from its `stand`; False if that is none of these namespaces."""
        wanted = {f"{kind}/{space}": (kind, space) for kind in KINDS for space in namespaces or ("",)}
        if stand.keys() != wanted.keys():
            return False
        for key, (version, listed) in stand.items():
            self._parts[wanted[key]] = _Part(str(version), float(listed))
        self.partial, self.lost = True, set()
        return True

    def look(self, cluster: KubernetesClient, now: float) -> None:
        """Bring it up to date. What came before an error is kept, and the next look goes on there.

        Raises:
            SourceError: the cluster could not be read to the end.
        """
        if self.partial:
            if self._go_on(cluster, now):
                return
            self._start_over()
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

    def _go_on(self, cluster: KubernetesClient, now: float) -> bool:
        """Take in what changed, and the rest of the runs that it changed; False if that cannot be told."""
        for (kind, namespace), part in self._parts.items():
            if now - part.listed >= WHOLE_S or not self._follow(cluster, kind, namespace, part):
                return False
        for kind, thing in rest(cluster, self._lacking):
            space = str(of(thing, "metadata").get("namespace") or "") if cluster.namespaces else ""
            self._put(kind, self._parts[kind, space], thing)
        self.ended.update(key for key in self.touched if not key.startswith("job:") and key not in self._names)
        self._complete.update(self._lacking)
        self._lacking.clear()
        return True

    def _start_over(self) -> None:
        """Everything is to be listed."""
        fresh = Mirror(followed=self.followed)
        vars(self).update(vars(fresh))

    def _follow(self, cluster: KubernetesClient, kind: str, namespace: str, part: _Part) -> bool:
        """Take in what changed; False if that cannot be told."""
        if not part.version or not self.followed:
            return False
        try:
            for what, thing in cluster.since(kind, namespace, part.version):
                if what == "DELETED":
                    self._heard_last(kind, thing)
                    self._drop(part, _uid(thing))
                elif what != "BOOKMARK":
                    self._put(kind, part, thing)
                    self._heard(kind, thing)
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
        key = _key_of(kind, thing)
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

    def _heard(self, kind: str, thing: Json) -> None:
        """Something happened to it: while it is partial, the rest of its run has to be asked for."""
        key = _key_of(kind, thing)
        if self.partial and key and key not in self._complete:
            self._lacking.setdefault(key, lacking(kind, key, thing))

    def _heard_last(self, kind: str, thing: Json) -> None:
        """It is gone."""
        key = _key_of(kind, thing)
        if not self.partial or not key:
            return
        if kind == "job":
            self.ended.add(run_id(of(thing, "metadata")))
            self._lacking.pop(key, None)
            self._complete.add(key)  # of its pods nothing is left to be asked for
            return
        if self.lost is not None:
            self.lost.add(_uid(thing))
        self.touched.add(key)
        self._heard(kind, thing)

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


def _key_of(kind: str, thing: Json) -> str:
    """Of its run; "" if it is ours or a service's, and so no work."""
    if is_known(thing):
        return ""
    return f"job:{_uid(thing)}" if kind == "job" else _run_of(thing)


def _run_of(pod: Json) -> str:
    job = job_of(pod)
    return f"job:{job}" if job else group_of(pod)


def _packed(thing: Json) -> bytes:
    """Without what changes with each word about it."""
    meta = {k: v for k, v in of(thing, "metadata").items() if k not in ("managedFields", "resourceVersion")}
    return zlib.compress(json.dumps({**thing, "metadata": meta}).encode(), 1)
