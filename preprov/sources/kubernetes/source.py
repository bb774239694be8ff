"""A Kubernetes cluster as a place where work lives."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from cronsim import CronSim, CronSimError

from preprov.contracts import Finding, Progress, Reject, SourceState, SyncBatch
from preprov.model.time import epoch
from preprov.model.work import Schedule
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.examining import examine
from preprov.sources.kubernetes.holding import Known, by_class, gates, not_pulled, noted_of, reserved_by_kueue
from preprov.sources.kubernetes.mirror import Mirror
from preprov.sources.kubernetes.objects import Found, of_job, of_pods, of_template
from preprov.sources.kubernetes.runs import lost_of, table
from preprov.sources.text import clean
from preprov.sources.zones import canonical_zone

Json = Mapping[str, Any]

_BATCH: Final = 500
_MACROS: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True)
class KubernetesSettings:
    """What a [[source]] of kind "kubernetes" says.

    Attributes:
        key: its name. zone: of CronJobs that name none. tenant: whose work it is; "" = each namespace its own.
        queue_key: key of the node selector whose value is the queue that routes match; "" = none.
    """

    key: str
    zone: str = "UTC"
    tenant: str = ""
    queue_key: str = ""


class KubernetesSource:
    """Implements `contracts.LiveSource`.

    A run is a Job with its pods, or the pods that another controller (Argo, Spark, Airflow's executor) runs to an end.
    An API server remembers nothing: what was deleted before anybody looked is not known, so passes should come more
    often than `ttlSecondsAfterFinished` is long. One pass in a quarter of an hour lists everything; those between read
    what changed, where that may be watched. So does the first of a process: the cursor has the version up to which each
    kind was read (and when it was listed), unless Kueue holds work, or the address or the priority classes are others.
    """

    def __init__(self, settings: KubernetesSettings, client: KubernetesClient) -> None:
        self._settings = settings
        self._client = client
        self._mirror = Mirror()
        self._before = Known()
        self._skew, self._heard = 0.0, False

    @property
    def key(self) -> str:
        """As configured."""
        return self._settings.key

    @property
    def zone(self) -> str:
        """As configured."""
        return self._settings.zone

    def examine(self) -> tuple[Finding, ...]:
        """As the contract says."""
        return examine(self._client)

    def changes(self, state: SourceState, now: datetime, progress: Progress | None = None) -> Iterator[SyncBatch]:
        """As the contract says: CronJobs first, then Jobs and pods as they are now."""
        if not state.cursor:
            self._mirror = Mirror()
        mirror = self._mirror
        known = Known(by_class(self._client.priority_classes()), self._settings.queue_key)
        if mirror.is_new:
            self._go_on(state.cursor, known)
        crons, first = self._crons(now, known)
        yield first
        mirror.look(self._client, epoch(now))
        known = self._held(known)
        jobs, pods = mirror.runs()
        every = [pod for group in pods.values() for pod in group]
        skew = self._clock(state)
        notebook = state.notebook
        if mirror.lost is not None:
            notebook = noted_of(notebook, mirror.lost | {str((p.get("metadata") or {}).get("uid")) for p in every})
        ungated, notes = gates(every, notebook, epoch(now) + self._skew)
        images, more = not_pulled(every, notebook)
        if skew or notes or more:
            yield SyncBatch(notebook={**skew, **notes, **more})
        found, rejects = _found(jobs, pods, replace(known, ungated=ungated, images=images))
        yield from self._told(found, rejects, crons, progress)
        there, ended = mirror.run_ids, mirror.ended
        gone = (r.run_id for r in state.open if (r.run_id in ended if mirror.partial else r.run_id not in there))
        yield SyncBatch(gone=tuple(gone), cursor=self._cursor(known, now))
        mirror.touched, mirror.lost, mirror.ended = set(), set(), set()

    # ---- inside

    def _cursor(self, known: Known, now: datetime) -> str:
        """Where the next pass goes on, of this process or another."""
        mirror, told = self._mirror, {"seen": epoch(now)}
        if mirror.kueue or not mirror.followed:
            return json.dumps(told)
        return json.dumps({**told, "stand": mirror.stand, "terms": self._terms(known)})

    def _go_on(self, cursor: str, known: Known) -> None:
        """Where another process stopped, if its cursor says enough."""
        told = _read(cursor)
        if told.get("terms") == self._terms(known) and isinstance(told.get("stand"), dict):
            self._mirror.resume(told["stand"], self._client.namespaces)
            self._before = known

    def _terms(self, known: Known) -> str:
        """Of what a version is one, and by what else runs were told: a digest."""
        return sha256(json.dumps([self._client.where, sorted(known.priorities.items())]).encode()).hexdigest()[:16]

    def _held(self, known: Known) -> Known:
        """With what Kueue has set aside; runs of which anything but their objects has changed are told again."""
        mirror, before = self._mirror, self._before
        if mirror.kueue:
            known = replace(known, reserved=reserved_by_kueue(self._client.workloads()))
        ours, theirs = known.reserved, before.reserved
        mirror.touch(u for u in ours.keys() | theirs.keys() if repr(ours.get(u)) != repr(theirs.get(u)))
        if known.priorities != before.priorities:
            mirror.touch_all()
        self._before = known
        return known

    def _clock(self, state: SourceState) -> Mapping[str, str]:
        """Learn how far ahead their clock is; returns what is to be kept of it.

        What was told stays as it was told: only what changes from now on is shifted otherwise.
        """
        if not self._heard:
            self._skew, self._heard = float(state.notebook.get("skew", 0.0)), True
        taken, self._skew = self._skew, self._client.clock.settled(self._skew)
        return {} if self._skew == taken else {"skew": str(self._skew)}

    def _told(
        self, found: Sequence[Found], rejects: Sequence[Reject], crons: dict[str, str], progress: Progress | None
    ) -> Iterator[SyncBatch]:
        """What is new or has changed, some hundreds at a time."""
        notes = lost_of(found)
        if rejects or notes:
            yield SyncBatch(rejects=tuple(rejects), notes=notes)
        for i in range(0, len(found), _BATCH):
            part = found[i : i + _BATCH]
            how = {"zone": self.zone, "tenant": self._settings.tenant}
            yield SyncBatch(runs=table(part, crons, source=self.key, ahead=self._skew, **how))
            if progress is not None:
                progress((i + len(part)) / len(found), "jobs and pods")

    def _crons(self, now: datetime, known: Known) -> tuple[dict[str, str], SyncBatch]:
        """Cron of each CronJob, and the batch that declares them."""
        crons: dict[str, str] = {}
        schedules: list[Schedule] = []
        shapes: list[Found] = []
        notes: list[str] = []
        for cron_job in _each(self._client.cron_jobs()):
            shape = of_template(cron_job, known)
            if shape is None:
                continue
            schedule = self._schedule(cron_job, shape.dag_id, now)
            if isinstance(schedule, str):
                notes.append(f"CronJob {shape.dag_id}: {schedule}")
                continue
            crons[shape.dag_id] = schedule.cron
            schedules.append(schedule)
            shape.submit = epoch(now.replace(microsecond=0, second=0))
            shapes.append(shape)
        return crons, SyncBatch(
            schedules=tuple(schedules),
            shapes=table(shapes, crons, source=self.key, zone=self.zone, tenant=self._settings.tenant),
            dag_queues={f.dag_id: tuple(sorted({s.queue or f.queue for s in f.steps})) for f in shapes},
            notes=(*notes, *lost_of(shapes)),
        )

    def _schedule(self, cron_job: Json, dag_id: str, now: datetime) -> Schedule | str:
        """What it declares; or why that cannot be read."""
        spec = _spec(cron_job)
        text = str(spec.get("schedule") or "").strip()
        cron = _MACROS.get(text, text)
        zone = canonical_zone(str(spec.get("timeZone"))) if spec.get("timeZone") else self.zone
        try:
            CronSim(cron, now)
        except CronSimError:
            return f"{text!r} is no cron that can be read"
        if zone is None:
            return f"there is no time zone {str(spec.get('timeZone'))!r} here: its turns are not foreseen"
        return Schedule(
            dag_id=clean(dag_id),
            pool="",
            cron=cron,
            zone=zone,
            tenant=self._settings.tenant or dag_id.split("/")[0],
            paused=bool(spec.get("suspend")),
            max_active_runs=1 if spec.get("concurrencyPolicy") in ("Forbid", "Replace") else None,
        )


def _found(
    jobs: Sequence[tuple[str, Json]], pods: Mapping[str, list[Json]], known: Known
) -> tuple[list[Found], list[Reject]]:
    found: list[Found] = []
    rejects: list[Reject] = []
    for n, (key, job) in enumerate(jobs):
        run = of_job(job, pods.get(key, ()), known)
        if run is None:
            rejects.append(Reject(n, "a Job without name, uid or creation time", json.dumps(job, default=str)[:200]))
        else:
            found.append(run)
    ours = {key for key, _ in jobs}
    for n, (key, group) in enumerate(pods.items()):
        if key in ours:
            continue
        run = of_pods(group, known)
        if run is None:
            rejects.append(Reject(n, "a pod without uid or creation time", json.dumps(group[0], default=str)[:200]))
        else:
            found.append(run)
    return found, rejects


def _each(items: Iterator[Any]) -> list[Json]:
    """A list that was begun anew tells of some twice: the last word counts."""
    out: dict[str, Json] = {}
    for i, item in enumerate(items):
        out[str((item.get("metadata") or {}).get("uid") or i)] = item
    return list(out.values())


def _spec(of: Json) -> Json:
    spec = of.get("spec")
    return spec if isinstance(spec, Mapping) else {}


def _read(cursor: str) -> Mapping[str, Any]:
    try:
        told = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
