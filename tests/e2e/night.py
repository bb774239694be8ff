"""Two hours of a night on the simulated cloud, played by the production passes into a store of its own, up to now."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from preprov.app import open_app
from preprov.control.access import create_token
from preprov.control.context import Context
from preprov.control.forecasting import issue_forecast
from preprov.control.passes import pool_pass
from preprov.control.reserving import Asked, book, expiry
from preprov.control.submitting import submit
from preprov.model.access import Scope
from preprov.model.reservations import Segment
from preprov.model.resources import Resources
from preprov.model.time import from_epoch
from preprov.model.work import DagSpec, TaskSpec
from preprov.sim.clock import VirtualClock
from preprov.sim.cloud import SimCloud
from preprov.sim.scheduler import SimScheduler

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
CONFIG = """
[[pool]]
name = "batch"
mode = "full"
[[pool.group]]
name = "warm"
provider = "sim"
states = ["running", "stopped"]
max_nodes = 8
offering = [{ type = "m7i.2xlarge", cpu = 8, memory = 32, usd_per_hour = 0.4032 }]
[pool.group.lead]
cold = { median = 90, p95 = 150 }
stopped = { median = 30, p95 = 60 }

[[pool]]
name = "quiet"
[[pool.group]]
name = "g"
provider = "sim"
max_nodes = 2
offering = [{ type = "m7i.large", cpu = 2, memory = 8 }]

[[tenant]]
name = "sales"
"""


def wave(n: int, due: datetime) -> DagSpec:
    """A DAG of twelve loads and a report; its owner is not our friend."""
    load = TaskSpec("load", ("true",), request=Resources(cpu=2, memory=4), runtime_hint_s=500, instances=12)
    report = TaskSpec("report", ("true",), ("load",), request=Resources(cpu=4, memory=8), runtime_hint_s=240)
    return DagSpec(f"orders{n}.{HOSTILE}", (load, report), pool="batch", tenant="sales", due=due)


def play(home: Path, until: datetime, hours: float = 2.0) -> dict[str, str]:
    """Write the store below `home` and its configuration; returns tokens by who has them."""
    (home / "preprov.toml").write_text(CONFIG)
    clock = VirtualClock(until - timedelta(hours=hours))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("PREPROV_HOME", str(home))
        with open_app(clock=clock) as app:
            cloud = SimCloud(clock, seed=1)
            ctx = replace(app.ctx, providers={"sim": cloud}, schedulers={"sim": SimScheduler(clock, cloud)})
            _play(ctx, clock, until)
            _reserve(ctx)
            return {
                "admin": create_token(ctx, "ops", [Scope.ADMIN])[1],
                "tenant": create_token(ctx, "sales", [Scope.READ, Scope.RESERVE])[1],
                "reader": create_token(ctx, "sales", [Scope.READ])[1],
                "blind": create_token(ctx, "prometheus", [Scope.METRICS])[1],
                "shut out": "preprov_nobody_knows-this-token",
            }


def _play(ctx: Context, clock: VirtualClock, until: datetime) -> None:
    """A wave every forty minutes, told of ten minutes before; a pass a minute, the last one just now."""
    begin, made = clock.now(), 0
    step = timedelta(minutes=1)
    while clock.now() <= until:
        minute = (clock.now() - begin) / step
        if minute >= 40 * made + 5:
            made += 1
            submit(ctx, (wave(made, clock.now() + timedelta(minutes=10)),))
        if made == 2 and minute == 50:
            issue_forecast(ctx, ctx.pool("batch"), horizon_s=6 * 3600)
        pool_pass(ctx, ctx.pool("batch"), plan=minute % 5 == 0)
        clock.advance_to(from_epoch((clock.now() + step).timestamp()))


def _reserve(ctx: Context) -> None:
    start = ctx.clock.now() + timedelta(minutes=30)
    segment = Segment(start, start + timedelta(hours=2), Resources(cpu=4, memory=16))
    for n, claimant in enumerate(("month-end", HOSTILE)):
        asked = Asked(
            pool="batch",
            tenant="sales",
            claimant=claimant,
            segments=(segment,),
            count=2 if n == 0 else 1,
            key=f"k{n}",
            fingerprint=f"f{n}",
            expires_at=expiry(start, None),
            reason=HOSTILE,
        )
        book(ctx, asked)
