"""Usage over time, read chunk by chunk from where the last pass ended."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from preprov.contracts import Clock, Finding, Progress, SourceState, SyncBatch
from preprov.model.agent import Usage
from preprov.model.errors import SourceError
from preprov.model.time import epoch
from preprov.sources.budget import RequestBudget
from preprov.sources.prometheus.client import PrometheusClient, TooMuchError, TooSlowError
from preprov.sources.prometheus.queries import RESOURCES, UsageQuery, reader_of

_SKEW_S: Final = 30.0
_TRIED_S: Final = 600.0
_HINT: Final = "url is that of Prometheus itself, such as http://127.0.0.1:9090"


@dataclass(frozen=True)
class PrometheusSettings:
    """How one Prometheus is read.

    Attributes:
        name: of the source. url: without /api. queries: one per resource, or several.
        headers: gives what proves who asks. verify: certificates.
        step_s: between samples. chunk_s: of time a request asks for. lag_s: the newest so many seconds are left for the
            next pass, for what is written late. history_days: how far back the first pass goes.
        patience_s: seconds of a pass, after which the next one goes on.
    """

    name: str
    url: str
    queries: tuple[UsageQuery, ...]
    headers: Callable[[], Mapping[str, str]] = dict
    verify: Any = True
    requests_per_second: float = 2.0
    step_s: float = 30.0
    chunk_s: float = 3600.0
    lag_s: float = 60.0
    history_days: float = 7.0
    patience_s: float = 30.0
    zone: str = "UTC"


_PROVED: Final = 8
"""So many chunks came whole, and the next pass tries twice as much at once again."""


@dataclass
class _Chunk:
    """Samples of one stretch of time, all queries together."""

    at: dict[tuple[str, float], dict[str, float]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def add(self, query: UsageQuery, series: Sequence[tuple[Mapping[str, str], Sequence[tuple[float, float]]]]) -> None:
        """Take the series of a query. Two of one task are not added up: a replica would count twice."""
        mine: dict[str, list[Sequence[tuple[float, float]]]] = {}
        nobody = 0
        for labels, points in series:
            whose = query.whose(labels)
            if whose is None:
                nobody += 1
            else:
                mine.setdefault(whose, []).append(points)
        if nobody:
            self.notes[f"{query.resource}: {nobody} series whose labels do not make {query.claimant}"] = None
        doubled = sorted(c for c, found in mine.items() if len(found) > 1)
        if doubled:
            text = f"{query.resource}: several series are of {', '.join(doubled[:3])}: aggregate them, `sum by (…)`"
            self.notes[text] = None
        for whose, found in mine.items():
            for t, v in found[0] if len(found) == 1 else ():
                self.at.setdefault((whose, t), {})[query.resource] = v * query.scale

    def usage(self) -> tuple[tuple[str, Usage], ...]:
        """(claimant, usage) in time order; what was not seen is None."""
        return tuple((c, Usage(t, **found)) for (c, t), found in sorted(self.at.items()))


class PrometheusSource:
    """Implements `contracts.LiveSource`: there are no runs in it, only what runs used."""

    def __init__(self, settings: PrometheusSettings, clock: Clock, *, transport: Any = None) -> None:
        """Ask nothing yet.

        Args:
            transport: of httpx, instead of the network.
        """
        self._settings, self._clock = settings, clock
        self._length_s, self._whole_chunks = settings.chunk_s, 0
        budget = RequestBudget(settings.requests_per_second, clock)
        self._client = PrometheusClient(
            settings.url, settings.headers, budget, verify=settings.verify, transport=transport
        )

    @property
    def key(self) -> str:
        """Its name in the configuration."""
        return self._settings.name

    @property
    def zone(self) -> str:
        """As configured: its times are epoch seconds."""
        return self._settings.zone

    def changes(self, state: SourceState, now: datetime, progress: Progress | None = None) -> Iterator[SyncBatch]:
        """What was used since the cursor, a batch for each chunk; the cursor is the instant up to which it is whole.

        Times are Prometheus' own: a clock that is behind ours must not make us step over what it has yet to tell.
        """
        s = self._settings
        if self._whole_chunks >= _PROVED:
            self._length_s, self._whole_chunks = min(2 * self._length_s, s.chunk_s), 0
        last = self._aligned(min(self._client.now(), epoch(now) + _SKEW_S) - s.lag_s)
        first = self._after(state.cursor, last)
        begun, whole = time.monotonic(), max(last - first, 1e-9)
        start = first
        while start <= last:
            end = min(start + max(self._aligned(self._length_s) - s.step_s, 0.0), last)
            try:
                chunk = self._read(start, end)
            except (TooMuchError, TooSlowError):
                if end <= start:
                    raise
                self._shorter(end - start + s.step_s)
                if time.monotonic() - begun >= s.patience_s:
                    yield SyncBatch(more=True)
                    return
                continue
            self._whole_chunks += 1
            after = end + s.step_s
            more = after <= last and time.monotonic() - begun >= s.patience_s
            yield SyncBatch(usage=chunk.usage(), cursor=f"{end:.3f}", notes=tuple(chunk.notes), more=more)
            if progress is not None:
                progress(min((after - first) / whole, 1.0), f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d %H:%M}Z")
            if more:
                return
            start = after

    def _shorter(self, length_s: float) -> None:
        """So much was too much."""
        self._length_s, self._whole_chunks = max(length_s / 2, self._settings.step_s), 0

    def _aligned(self, at: float) -> float:
        return math.floor(at / self._settings.step_s) * self._settings.step_s

    def _after(self, cursor: str, last: float) -> float:
        """Where to go on; a cursor that is none, or of the future, begins anew: nothing is kept twice."""
        s = self._settings
        oldest = self._aligned(last - s.history_days * 86_400.0)
        try:
            at = float(cursor)
        except ValueError:
            return oldest
        if not math.isfinite(at) or at > last + 86_400.0:
            return oldest
        return self._aligned(at) + s.step_s

    def _read(self, start: float, end: float) -> _Chunk:
        chunk = _Chunk()
        for query in self._settings.queries:
            found = self._client.range(query.resource, query.promql, start, end, self._settings.step_s)
            chunk.add(query, found.series)
            chunk.notes.update(dict.fromkeys(found.notes))
        return chunk

    def examine(self) -> tuple[Finding, ...]:
        """Address and version, its clock, and what each query brings for the last minutes."""
        s = self._settings
        try:
            there = self._client.now()
            version = self._client.version()
        except SourceError as e:
            return (Finding("address", "bad", f"{e.what} ({e.where})" if e.where else e.what, e.hint or _HINT),)
        out = [
            Finding("address", "ok", f"{s.url}: {f'Prometheus {version}' if version else 'answers like Prometheus'}")
        ]
        skew = there - epoch(self._clock.now())
        if abs(skew) > _SKEW_S:
            text = f"is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} ours: its own times are taken"
            out.append(Finding("clock", "warn", text, "let both machines follow a time server"))
        end = self._aligned(there - s.lag_s)
        out.extend(self._tried(q, max(end - _TRIED_S, 0.0), end) for q in s.queries)
        out.extend(_read_by(c) for c in dict.fromkeys(q.claimant for q in s.queries))
        seen = {q.resource for q in s.queries}
        absent = [r for r in RESOURCES if r not in seen]
        if absent:
            text = f"{', '.join(absent)}: no query, so it stays unknown (never 0)"
            out.append(Finding("not asked for", "ok", text))
        return tuple(out)

    def _tried(self, query: UsageQuery, start: float, end: float) -> Finding:
        try:
            found = self._client.range(query.resource, query.promql, self._aligned(start), end, self._settings.step_s)
        except SourceError as e:
            return Finding(query.resource, "bad", e.what, e.hint or _HINT)
        if not found.series:
            hint = "is its exporter scraped, and is the metric called so? try the query in Prometheus' own page"
            return Finding(query.resource, "warn", f"no series in the last {_TRIED_S / 60:.0f} minutes", hint)
        chunk = _Chunk()
        chunk.add(query, found.series)
        names = sorted({c for c, _ in chunk.at})
        if not names:
            labels = ", ".join(sorted(found.series[0][0])) or "none at all"
            hint = f"its series have the labels {labels}: see `claimant` and `labels`"
            return Finding(query.resource, "bad", "; ".join(chunk.notes) or "no usable value", hint)
        text = f"{len(found.series)} series, {len(names)} claimants such as {names[0]}"
        text = "; ".join([text, *chunk.notes, *found.notes])
        return Finding(query.resource, "warn" if chunk.notes else "ok", text, "see the query" if chunk.notes else "")


def _read_by(claimant: str) -> Finding:
    """What becomes of samples that are named so."""
    found = reader_of(claimant)
    if found:
        return Finding("used for", "ok", f"{claimant}: {found}")
    hint = "name task instances RUN/TASK#0, pods {namespace}/{pod}, jobs of Slurm slurm/{job}, machines node/{host}"
    return Finding("used for", "warn", f"{claimant}: kept, and looked for by nothing", hint)
