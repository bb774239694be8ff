"""Jobs that wait in a real Slurm ask for what its own accounting says of their past, and it refuses what it refuses."""

import sys
from dataclasses import replace

import pytest

from preprov.app import open_app
from preprov.control.passes import pool_pass
from preprov.control.routing import Router
from preprov.control.syncing import sync
from preprov.model.adjusting import Adjusting
from preprov.model.errors import PoolError
from preprov.model.plans import ActionKind
from preprov.settings import Settings
from preprov.slurm.records import SlurmJob
from preprov.sources.budget import RequestBudget
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.source import SlurmSettings, SlurmSource
from tests.slurmworld import SlurmWorld

HOLDS = f"#!/bin/sh\nexec {sys.executable} -S -E -c 'import time; b = b\"x\" * (100 << 20); time.sleep(5)'\n"
COMMON = ("--partition=batch", "--job-name=fit", "-N1", "-n1", "-c2", "--mem=1000M", "--output=/dev/null", "--chdir=/")


def of(world: SlurmWorld, number: int) -> SlurmJob:
    (found,) = [j for j in world.slurm.jobs() if j.job_id == number]
    return found


def test_past_runs_size_what_waits_and_slurm_has_the_last_word(world: SlurmWorld) -> None:
    pool = replace(world.pool, adjusting=Adjusting(pending=True))
    ran = [world.cluster.submit(*COMMON, "--time=60", script=HOLDS) for _ in range(4)]
    world.until(lambda: all(of(world, j).is_over for j in ran), "past runs")
    with open_app(Settings(home=world.home), pools={pool.name: pool}) as app:
        app.ctx.ports.sources.count_only(["cluster"])  # as where `preprov.toml` names it
        reader = SlurmReader(world.slurm, RequestBudget(100.0, app.ctx.clock))
        source = SlurmSource(SlurmSettings("cluster", history_s=3600.0), reader, app.ctx.clock)

        def read() -> bool:
            """The accounting comes after the queue."""
            sync(app.ctx, source, Router(default=pool.name))
            told = app.ctx.ports.samples.summaries([f"{j}/fit#0" for j in ran])
            return sum(s.memory_peak == s.memory_peak for s in told.values()) >= 3

        world.until(read, "what they used")
        waits = world.cluster.submit(*COMMON, "--begin=now+1hour", "--time=60", script=HOLDS)
        before = of(world, waits)
        assert (before.cpus, before.memory_mib) == (2, 1000)
        pool_pass(app.ctx, pool, serve=False, react=False)
        now = of(world, waits)
        assert 100 <= now.memory_mib < 400
        assert now.cpus == 1
        assert (now.state, now.time_limit_s) == ("PENDING", 3600), "nothing asks for more time"
        (row,) = [r for r in app.ctx.ports.audit.records(pool.name) if r.action.kind is ActionKind.RESIZE]
        assert (row.result, row.action.task) == ("done", f"{waits}/fit#0")

        scheduler = app.ctx.schedulers["slurm"]
        (seen,) = [j for j in scheduler.waiting(pool) if j.job_id == waits]  # type: ignore[attr-defined]
        scheduler.ask_anew(pool, seen, None, None, 7200)  # type: ignore[attr-defined]
        assert of(world, waits).time_limit_s == 7200
        world.cluster.run("scontrol", "update", f"JobId={waits}", "StartTime=now")
        world.until(lambda: of(world, waits).runs, "it to run")
        with pytest.raises(PoolError):
            scheduler.ask_anew(pool, seen, None, 0.5, None)  # type: ignore[attr-defined]
        assert of(world, waits).memory_mib == now.memory_mib
        world.until(lambda: of(world, waits).is_over, "it to end")
        assert of(world, waits).state == "COMPLETED", "with what it was given"
        assert scheduler.failed(pool, [waits]) == frozenset()  # type: ignore[attr-defined]
