"""The demonstration from beginning to end."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from preprov.app import open_app
from preprov.clocks import ScaledClock
from preprov.control.demanding import LEARNT_KIND
from preprov.control.ingesting import ingest_work
from preprov.demo import flow_runs, report
from preprov.demo.compare import (
    POLICIES,
    Agreement,
    Outcome,
    Trace,
    agreement,
    as_recorded,
    live_outcome,
    replayed,
    with_seen_leads,
)
from preprov.demo.flow_runs import FlowRun
from preprov.demo.history import HistorySource
from preprov.demo.live import Play, end_nodes, watched
from preprov.demo.recorder import Recorder
from preprov.demo.scene import POOL, Nodes, Scene, is_ours, set_scene, surroundings
from preprov.model.errors import ConfigError
from preprov.model.reference import reference_pool
from preprov.settings import Settings

if TYPE_CHECKING:
    from preprov.app import App
    from preprov.contracts import IngestResult
    from preprov.demo.clouds import Endpoints


_HEAD_START: Final = timedelta(seconds=75)
"""Of the night: so long the flow `warm_pools` is waited for before the pool's own ticks begin beside it."""


class View(Protocol):
    """Shows a play."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *exc: Any) -> None:
        """End."""
        ...

    def show(self, play: Play) -> None:
        """Draw it as it stands."""
        ...


def usual_speed(provider: str) -> float:
    """Seconds of the night per second that a machine of two cores can play: a cloud's servers are played on it, too."""
    return 21.0 if provider == "local" else 10.0


@dataclass(frozen=True)
class Wishes:
    """What the caller wants.

    Attributes:
        home: folder of the demonstration. seed: of the work. minutes: of the night. speed: of its clock.
        report: where the report goes; None = below home. keep: leave the nodes as they are at the end.
        provider: "local", or the cloud whose fake is played against.
    """

    home: Path
    seed: int = 0
    minutes: float = 30.0
    speed: float = 21.0
    report: Path | None = None
    keep: bool = False
    provider: str = "local"


@dataclass
class Demonstration:
    """What came of it."""

    wishes: Wishes
    outcomes: list[Outcome]
    agreement: Agreement | None
    flows: list[FlowRun]
    report: Path
    seconds: dict[str, float] = field(default_factory=dict)
    runs: int = 0
    tasks: int = 0
    failed: int = 0
    api_calls: int | None = None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "seed": self.wishes.seed,
            "minutes": self.wishes.minutes,
            "speed": self.wishes.speed,
            "provider": self.wishes.provider,
            "api_calls": self.api_calls,
            "history": {"runs": self.runs, "tasks": self.tasks},
            "flow_runs": [r.as_dict() for r in self.flows],
            "outcomes": [o.as_dict() for o in self.outcomes],
            "live_against_replayed": self.agreement.as_dict() if self.agreement else None,
            "failed_instances": self.failed,
            "notes": self.notes,
            "report": str(self.report),
            "seconds": {k: round(v, 2) for k, v in self.seconds.items()},
        }


class Director:
    """Takes the demonstration through its acts; each is told of on `say` and timed."""

    def __init__(self, wishes: Wishes, say: Callable[[str], None], view: Callable[[str], View]) -> None:
        """Prepare.

        Args:
            wishes: what is wanted. say: takes a line of text. view: makes a view for a zone.
        """
        self.wishes, self._say, self._view = wishes, say, view
        self.seconds: dict[str, float] = {}
        self._cloud: Endpoints | None = None

    def run(self) -> Demonstration:
        """Everything, from an empty folder to the report.

        Raises:
            ConfigError: the folder holds something else.
            PreprovError: a part failed; nodes are ended all the same unless they are to be kept.
        """
        w = self.wishes
        with ExitStack() as stack:
            with self._act("setting the scene"):
                clear(w.home)
                self._cloud = self._endpoints(stack)
                nodes = self._cloud.nodes if self._cloud else Nodes()
                scene = set_scene(w.home, seed=w.seed, minutes=w.minutes, speed=w.speed, nodes=nodes)
                source = HistorySource(scene.workload, scene.specs, scene.start)
            stack.enter_context(surroundings(scene.environment()))
            with self._act("six weeks of history, and a Prefect server"):
                url, ingested = self._prepare(scene, source, stack)
            self._say(f"   {ingested.runs:,} runs of {ingested.tasks:,} tasks; Prefect at {url}")
            with self._act("the night's forecast, issued in the evening"):
                flow_runs.load()
                flows = [flow_runs.forecast_in_the_evening(scene, url)]
            self._say(f"   flow forecast_demand: flow run {flows[0].run_id}")
            recorder, findings = self._play(scene, source, url, flows)
        return self._finish(scene, recorder, findings, ingested)

    def _endpoints(self, stack: ExitStack) -> "Endpoints | None":
        """The cloud, if one is to be played against; its machines are beside the folder, which is still to be made."""
        w = self.wishes
        if w.provider == "local":
            return None
        if w.keep:
            raise ConfigError("the machines of a fake end with it", where="--keep", hint="leave it out")
        from preprov.demo.clouds import endpoints

        machines = Path(stack.enter_context(TemporaryDirectory(prefix="preprov-demo-")))
        return stack.enter_context(endpoints(w.provider, machines, seed=w.seed))

    # ------------------------------------------------------------------ acts

    def _prepare(self, scene: Scene, source: HistorySource, stack: ExitStack) -> "tuple[str, IngestResult]":
        """The server takes some seconds to start; meanwhile the history is written."""
        serving = flow_runs.prefect(scene)
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(serving.__enter__)
            try:
                with open_app(Settings.load()) as app:
                    ingested = ingest_work(app.ctx, POOL, source)
                    for name, provider in app.ctx.providers.items():
                        if name != "local":  # an SDK takes seconds to load: not out of the night
                            provider.observe(app.ctx.pool(POOL))
                flow_runs.load_models()
            finally:
                url = starting.result()
                stack.push(serving)
        return url, ingested

    def _play(
        self, scene: Scene, source: HistorySource, url: str, flows: list[FlowRun]
    ) -> tuple[Recorder, report.Findings]:
        recorder = Recorder()
        where = "on real nodes" if self._cloud is None else f"on the fake {scene.nodes.provider}, with real agents"
        title = f"{self.wishes.minutes:g} minutes of the night, {scene.speed:g} times as fast, {where}"
        clock = ScaledClock(scene.start, scene.speed)
        if self._cloud is not None:
            self._cloud.stage.begin(clock)
        with open_app(Settings.load(), clock=clock) as app:
            try:
                with self._act(title):
                    flows.append(self._night(app, scene, recorder, url, clock))
            finally:
                if not self.wishes.keep:
                    with self._act("ending the nodes"):
                        end_nodes(app.ctx, app.ctx.pool(POOL))
            self._say(f"   flow warm_pools: flow run {flows[-1].run_id}")
            return recorder, self._findings(app, scene, source, recorder, flows)

    def _night(self, app: "App", scene: Scene, recorder: Recorder, url: str, clock: ScaledClock) -> FlowRun:
        """The slice itself: the flow first, and soon the pool's own ticks beside it."""
        pool = app.ctx.pool(POOL)
        play = Play(watched(app, recorder), pool, recorder, scene.start, scene.end, scene.tonight, scene.specs)
        with ThreadPoolExecutor(1) as aside:
            first = aside.submit(flow_runs.warm_once, scene, url, clock)
            play.declare()
            wait([first], timeout=_HEAD_START.total_seconds() / scene.speed)
            with self._view(scene.company.zone) as view:
                play.run(view.show)
            return first.result()

    def _findings(
        self, app: "App", scene: Scene, source: HistorySource, recorder: Recorder, flows: list[FlowRun]
    ) -> report.Findings:
        """What the store and the recorder say, before the store is closed; then the same slice under other policies."""
        ports, pool = app.ctx.ports, app.ctx.pool(POOL)
        issued = ports.forecasts.latest(POOL, scene.start)
        snapshots = ports.history.snapshots(POOL, since=scene.start, until=scene.end)
        seen = [o for o in ports.leads.observations(since=scene.start) if o.pool == POOL]
        live = live_outcome(recorder, pool, scene)
        with self._act("the same slice under " + ", ".join(POLICIES)):
            trace = Trace(
                history=source.work,
                tonight=as_recorded(scene.tonight, recorder),
                pool=with_seen_leads(pool, seen),
                model=ports.models.load(POOL, LEARNT_KIND),
            )
            others = replayed(scene, trace)
        again = next((o for o in others if o.name == "preprov"), None)
        return report.Findings(
            scene=scene,
            recorder=recorder,
            outcomes=[live, *others],
            agreement=agreement(live, again) if again else None,
            flows=flows,
            snapshots=snapshots,
            day_ahead=issued[1] if issued else None,
            at_start=recorder.first_demand,
            notes=notes(recorder, scene.speed),
        )

    def _finish(
        self, scene: Scene, recorder: Recorder, findings: report.Findings, ingested: "IngestResult"
    ) -> Demonstration:
        with self._act("the report"):
            path = report.write(findings, self.wishes.report or scene.home / "report" / "report.html")
        return Demonstration(
            wishes=self.wishes,
            outcomes=list(findings.outcomes),
            agreement=findings.agreement,
            flows=list(findings.flows),
            report=path,
            seconds=self.seconds,
            runs=ingested.runs,
            tasks=ingested.tasks,
            notes=list(findings.notes),
            api_calls=self._cloud.calls() if self._cloud else None,
            failed=sum(1 for i in recorder.instances() if i.exit_code not in (0, None)),
        )

    @contextmanager
    def _act(self, name: str) -> Iterator[None]:
        self._say(f"-> {name}")
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - began


def notes(recorder: Recorder, speed: float) -> list[str]:
    """What the table does not say."""
    late = [(i.placed - i.ready).total_seconds() - i.wait_s for i in recorder.instances()]
    if not late:
        return []
    return [
        f"Where a node was there, a task began {median(late):.0f} s of the night after it was ready, which is "
        f"{median(late) / speed:.2f} s of this machine: it plays controller, cloud and nodes at once. That is no wait "
        "for a node, so the table leaves it out."
    ]


def clear(home: Path) -> None:
    """End what an earlier demonstration left running, so that its folder can be wiped.

    Its store and configuration are not looked at: they may be of another version, or half written.
    """
    if not is_ours(home):
        return
    with TemporaryDirectory() as scratch:
        (Path(scratch) / "preprov.toml").touch()
        elsewhere = {
            "PREPROV_HOME": str(home),
            "PREPROV_CONFIG": f"{scratch}/preprov.toml",
            "PREPROV_STORE__URL": f"sqlite:///{scratch}/preprov.db",
        }
        pool = reference_pool(POOL, provider="local")
        with surroundings(elsewhere), open_app(Settings.load(), pools={POOL: pool}) as app:
            end_nodes(app.ctx, pool)
