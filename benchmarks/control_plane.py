"""Speed of the program itself: help, ingest, forecast, expansion, the loop at rest. Prints JSON.

    python -m benchmarks.control_plane [--rest-seconds 60] [--repeat 7]

Everything is measured through the door a user has, in processes and a home of their own. Medians and the spread
over the repeats; each figure stands beside its goal. What needs the public traces is skipped visibly without them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.machine import machine, traces

PREPROV = [sys.executable, "-m", "preprov.cli.main"]


def timed(words: list[str], env: dict[str, str], cwd: Path, repeat: int = 1) -> dict[str, object]:
    """Median, least and most wall seconds of a command over some repeats."""
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        subprocess.run([*PREPROV, *words], env=env, cwd=cwd, check=True, capture_output=True)
        took.append(time.perf_counter() - began)
    return {"median_s": round(statistics.median(took), 3), "min_s": round(min(took), 3), "max_s": round(max(took), 3)}


def at_rest(env: dict[str, str], cwd: Path, seconds: float, *extra: str) -> dict[str, object]:
    """Share of one core that `preprov up` and everything it started use while nothing is to be done."""
    subprocess.run([*PREPROV, "init"], env=env, cwd=cwd, check=True, capture_output=True)
    log = (cwd / "up.log").open("wb")
    process = subprocess.Popen([*PREPROV, "up", *extra], env=env, cwd=cwd, stdout=log, stderr=log)
    try:
        while b"up: " not in (cwd / "up.log").read_bytes():
            time.sleep(0.2)
        time.sleep(20)  # what is started once has started
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        before = {p.pid: sum(p.cpu_times()[:2]) for p in family}
        time.sleep(seconds)
        used = sum(sum(p.cpu_times()[:2]) - before[p.pid] for p in family if p.is_running())
    finally:
        process.terminate()
        process.wait(timeout=60)
    return {"share_of_a_core": round(used / seconds, 4), "over_s": seconds, "processes": len(family)}


def observe_local(nodes: int, repeat: int) -> dict[str, object]:
    """Wall milliseconds to observe so many real local nodes: what each pass pays before it thinks."""
    from preprov.clocks import WallClock
    from preprov.contracts import LaunchRequest
    from preprov.model.nodes import Phase
    from preprov.model.offerings import Offering, Preload, Standby
    from preprov.model.pools import Group, Mode, Pool
    from preprov.model.resources import Resources
    from preprov.pools.local import LocalProvider
    from preprov.testing.local_nodes import cleared

    with tempfile.TemporaryDirectory(prefix="pp") as folder, cleared(Path(folder)) as home:
        provider = LocalProvider(home, WallClock())
        offering = Offering("m", Resources(cpu=1, memory=1), usd_per_hour=0.1)
        group = Group("g", "local", (offering,), standby_states=frozenset({Standby.RUNNING}), max_nodes=nodes)
        pool = Pool("batch", (group,), mode=Mode.FULL)
        ids = provider.launch(LaunchRequest(pool, "g", offering, nodes, "bench", Preload()))
        while len(provider.observe(pool).in_phase(Phase.READY)) < nodes:
            time.sleep(0.2)
        took = []
        for _ in range(repeat):
            began = time.perf_counter()
            provider.observe(pool)
            took.append(1000 * (time.perf_counter() - began))
        provider.terminate(pool, ids)
    return {"nodes": nodes, "median_ms": round(statistics.median(took), 1), "max_ms": round(max(took), 1)}


def measure(repeat: int, rest_seconds: float) -> dict[str, object]:
    """All figures."""
    out: dict[str, object] = {"machine": machine()}
    with tempfile.TemporaryDirectory(prefix="pp") as folder:
        cwd = Path(folder)
        env = {**os.environ, "PREPROV_HOME": str(cwd / "home"), "OMP_NUM_THREADS": "1"}
        out["help"] = {**timed(["--help"], env, cwd, repeat), "goal_s": 0.5}
        data = traces()
        if data is None:
            out["skipped"] = "no traces: set PREPROV_TRACES"
        else:
            curie = str((data / "swf" / "CEA-Curie-2011-2.1-cln.swf.gz").resolve())
            nasa = str((data / "swf" / "NASA-iPSC-1993-3.1-cln.swf.gz").resolve())
            out["ingest_curie"] = {**timed(["ingest", "swf", curie, "--pool", "curie"], env, cwd), "goal_s": 20}
            timed(["ingest", "swf", nasa, "--pool", "nasa"], env, cwd)
            issue = ["forecast", "run", "--pool", "nasa", "--at", "1993-12-15T00:00", "-o", "json"]
            out["forecast_first_fit"] = {**timed(issue, env, cwd), "goal_s": 30}
            out["forecast_issue"] = {**timed(issue, env, cwd, min(repeat, 5)), "goal_s": 5}
        expansion = subprocess.run(
            [sys.executable, "-m", "benchmarks.expansion", "--runs", "5000"], env=env, check=True, capture_output=True
        )
        out["expand_100k_instances"] = {**json.loads(expansion.stdout), "goal_s": 2}
        out["observe_local_nodes"] = {**observe_local(50, repeat), "goal_ms": 100}
        out["up_at_rest_alone"] = {**at_rest(env, _fresh(cwd, "a"), rest_seconds, "--no-prefect"), "goal": 0.15}
        out["up_at_rest_with_prefect"] = {**at_rest(env, _fresh(cwd, "b"), rest_seconds), "goal": 0.15}
    return out


def _fresh(cwd: Path, name: str) -> Path:
    (cwd / name).mkdir()
    return cwd / name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--rest-seconds", type=float, default=60)
    args = parser.parse_args()
    print(json.dumps(measure(args.repeat, args.rest_seconds), indent=1))


if __name__ == "__main__":
    main()
