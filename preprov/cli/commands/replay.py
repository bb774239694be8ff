"""replay: policies on a trace, by the code that later decides."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from preprov.contracts import WorkSource
    from preprov.replay.played import Run
    from preprov.replay.sweep import Sweep
    from preprov.replay.yardstick import Case


class Schedules(StrEnum):
    """What is known of them."""

    DECLARED = "declared"
    HIDDEN = "hidden"


class Judge(StrEnum):
    """Which days count."""

    AUTO = "auto"
    NEXT = "next"
    LAST = "last"


PoliciesOption = Annotated[
    str | None, typer.Option("--policies", help="Names, by commas; those of the published comparison if not given.")
]
KnobOption = Annotated[
    list[str] | None, typer.Option("--knob", help="POLICY=VALUE[,VALUE]: these settings only; repeat it.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; all cores if not given.", show_default=False)
]
ReportOption = Annotated[Path | None, typer.Option("--report", help="Write an HTML report here.", dir_okay=False)]


def attach(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command("replay")(replay)


def replay(
    trace: Annotated[
        Path, typer.Argument(help="Job log (.swf, .swf.gz), DAG table (Parquet, CSV) or WfFormat (JSON, folder, tar).")
    ],
    policies: PoliciesOption = None,
    lead_scale: Annotated[str, typer.Option("--lead-scale", help="Factors on the lead times, by commas.")] = "0.5,1,2",
    knob: KnobOption = None,
    schedules: Annotated[
        Schedules, typer.Option("--schedules", help="declared: crons in the trace are known; hidden: they are not.")
    ] = Schedules.DECLARED,
    judge: Annotated[
        Judge,
        typer.Option(
            "--judge",
            help="next: the days after the first 60 % of the log; last: its last days; auto: last where runs are "
            "scheduled, else next.",
        ),
    ] = Judge.AUTO,
    days: Annotated[float | None, typer.Option("--days", min=0.01, help="Judged days; 14.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Judge no further than this; all = to the end.")] = None,
    most_cores: Annotated[
        float, typer.Option("--most-cores", help="Rows that want more in all are not judged; 0 = all are.")
    ] = 2000.0,
    max_nodes: Annotated[int, typer.Option("--max-nodes", min=1, help="The pool holds no more.")] = 100_000,
    seed: Annotated[int, typer.Option("--seed", help="Of lead times and of every draw.")] = 0,
    epoch: Annotated[str | None, typer.Option("--epoch", help="Second 0 of the file, if it does not say.")] = None,
    tz: Annotated[str | None, typer.Option("--tz", help="Zone of the schedules, if the file does not say.")] = None,
    workers: WorkersOption = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Keep finished replays here, take them up.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Three settings a policy, two days, lead scale 1.")] = False,
    report: ReportOption = None,
    export_capacity: Annotated[
        Path | None,
        typer.Option("--export-capacity", help="Write what the pool was at each change (Parquet), for each replay."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What each policy would have cost on a trace, and how long its tasks would have waited for nodes."""
    common.begin("replay", output)
    from datetime import UTC, datetime

    from preprov.control.processes import single_threaded
    from preprov.logs import configure
    from preprov.replay.sweep import sweep
    from preprov.replay.yardstick import JUDGED_DAYS

    configure()
    now = datetime.now(UTC)
    with common.progress("replay") as tell, single_threaded():
        tell(0.0, "reading")
        source = _source(trace, epoch, tz, now)
        limits = _Limits(judge, days or (2.0 if quick else JUDGED_DAYS), until, most_cores or None, max_nodes, seed)
        case = _case(source, trace.name, schedules is Schedules.DECLARED, limits, now)
        scales = [1.0] if quick and lead_scale == "0.5,1,2" else _numbers(lead_scale, "--lead-scale")
        runs = chosen_runs(case, policies, scales, knob, quick)
        done = sweep(
            case,
            runs,
            workers=workers or os.cpu_count() or 1,
            resume=resume,
            capacity=export_capacity is not None,
            progress=tell,
        )
    if export_capacity is not None:
        _export(done, export_capacity)
    if report is not None:
        from preprov.cli.replay_report import write

        write(done, report, source.zone, " ".join(["preprov", *sys.argv[1:]]))
    if output is Output.JSON:
        common.print_json(common.envelope("replay", None, now, {"schedules": schedules, **done.document()}))
        return
    print_sweep(done)
    if report is not None:
        typer.echo(f"report: {report}")


class _Limits:
    """What is judged, as the options say."""

    def __init__(
        self, judge: Judge, days: float, until: str | None, most_cores: float | None, max_nodes: int, seed: int
    ) -> None:
        self.judge, self.days, self.until = judge, days, until
        self.most_cores, self.max_nodes, self.seed = most_cores, max_nodes, seed


def _source(trace: Path, epoch: str | None, tz: str | None, now: Any) -> "WorkSource":
    from preprov.sources.swf import SwfSource
    from preprov.sources.tables import DagTableSource
    from preprov.sources.wfformat import WfFormatSource

    when = common.parse_time(epoch, "UTC", now)
    if trace.name.endswith((".swf", ".swf.gz")):
        return SwfSource(trace, epoch=when, zone=tz)
    if trace.is_dir() or trace.name.endswith((".json", ".tar", ".tar.gz", ".tar.xz", ".tgz")):
        return WfFormatSource(trace, at=when)
    return DagTableSource(trace, epoch=when, zone=tz)


def _case(source: "WorkSource", name: str, declared: bool, limits: _Limits, now: Any) -> "Case":
    from preprov.model.worktable import WorkTable
    from preprov.replay.yardstick import Case, judged_window, yardstick_pool

    batches = list(source.read())
    work = WorkTable.concat([b.work for b in batches])
    known = {s.dag_id: s for b in batches for s in b.schedules}
    last = bool(known) if limits.judge is Judge.AUTO else limits.judge is Judge.LAST
    whole = limits.until == "all"
    first, until = judged_window(
        work,
        zone=source.zone,
        days=None if whole else limits.days,
        last_days=last and not whole,
        until=None if whole else common.parse_time(limits.until, source.zone, now),
    )
    pool = yardstick_pool(name, zone=source.zone, max_nodes=limits.max_nodes)
    schedules = tuple(known.values()) if declared else ()
    return Case(name, work, pool, first, until, schedules, most_cores=limits.most_cores, seed=limits.seed)


def chosen_runs(
    case: "Case", policies: str | None, scales: list[float], knob: list[str] | None, quick: bool
) -> "list[Run]":
    """The replays that the options ask for.

    Raises:
        ConfigError: no policy of a name, or a knob that is no number.
    """
    from preprov.model.errors import ConfigError
    from preprov.replay.registry import names
    from preprov.replay.sweep import wanted_runs
    from preprov.replay.yardstick import POLICIES, knobs

    chosen = [p.strip() for p in policies.split(",") if p.strip()] if policies else list(POLICIES)
    unknown = [p for p in chosen if p not in names()]
    if unknown:
        raise ConfigError(f"there is no policy {unknown[0]!r}", hint=f"policies: {', '.join(names())}")
    settings = {p: _few(knobs(p, case.peak_nodes)) if quick else knobs(p, case.peak_nodes) for p in chosen}
    for pair in knob or ():
        name, sign, values = pair.partition("=")
        if not sign or name not in chosen:
            raise ConfigError(f"--knob {pair}: not POLICY=VALUE of a policy that is played", hint="preprov=0.1,1")
        settings[name] = tuple(_numbers(values, "--knob"))
    return wanted_runs(case, chosen, scales, settings)


def _few(values: tuple[float, ...]) -> tuple[float, ...]:
    """Three of them, spread."""
    return values[1::3] if len(values) > 3 else values


def _numbers(text: str, option: str) -> list[float]:
    from preprov.model.errors import ConfigError

    try:
        found = [float(p) for p in text.split(",") if p.strip()]
    except ValueError:
        found = []
    if not found:
        raise ConfigError(f"{option} {text}: not numbers by commas")
    return found


def _export(done: "Sweep", file: Path) -> None:
    """Instants as timestamps in UTC."""
    import pandas as pd

    frame = done.capacity()
    frame["ts"] = pd.to_datetime(frame["ts"], unit="s", utc=True).dt.round("us")
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(file, index=False)


def print_sweep(done: "Sweep") -> None:
    """Tables for people."""
    from preprov.cli.replay_report import SETTING_COLUMNS, savings, setting_row, verdict
    from preprov.replay.frontier import compared

    judged = done.judged
    left = ", ".join(f"{n} {why}" for why, n in judged["left_out"].items())
    typer.echo(f"{done.trace}: {judged['instances']} task instances, {judged['from']} to {judged['to']}")
    if left:
        typer.echo(f"left out: {left}")
    for scale, bound in done.clairvoyant.items():
        policies = done.rows(scale)
        rows = [setting_row(p, r) for p, settings in policies.items() for r in settings]
        typer.echo("")
        common.print_table(f"lead times x {scale:g}", SETTING_COLUMNS, rows)
        for sentence in (*savings(policies), verdict(compared(policies, bound))):
            if sentence:
                typer.echo(sentence)
