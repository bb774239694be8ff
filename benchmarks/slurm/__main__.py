"""`python -m benchmarks.slurm`: paired nights on real Slurm clusters, with preprov and without.

Three nights of history; then `preprov whatif` is asked; then three nights on clusters side by side that are given the
same jobs at the same moments: one with preprov, the others with Slurm's own idle timer. The jobs sleep.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.slurm.measure import measure
from benchmarks.slurm.side import D0, Side, Stopped, Terms, Waiting, play
from benchmarks.slurm.summary import night_table, summary
from benchmarks.slurm.workload import DAY_S, NIGHT_S, SPEED, night
from preprov.testing.slurm_cluster import SlurmHost, missing, slurm_host

SUSPEND_S: Final = (30, 120, 600)
LEASE_S: Final = 120
"""SuspendTime of the cluster with preprov: what it costs if preprov dies."""


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Trial:
    """All nights of one seed."""

    def __init__(
        self, host: SlurmHost, seed: int, terms: Terms, history: int, paired: int, folder: Path, waiting: Waiting
    ) -> None:
        self.seed, self.history, self.paired, self.waiting = seed, history, paired, waiting
        self.began = time.time() + 30.0
        self.ours = self._side(host, "preprov", LEASE_S, terms, folder, preprov=True)
        self.others = [self._side(host, f"suspend{s}", s, terms, folder) for s in SUSPEND_S]
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.whatif: dict[str, Any] = {}

    def _side(self, host: SlurmHost, what: str, suspend_s: int, terms: Terms, folder: Path, **more: bool) -> Side:
        name = f"s{self.seed}{what}"
        return Side(host, name, self.seed, suspend_s, self.began, terms, folder / name, **more)

    def run(self) -> dict[str, Any]:
        try:
            self.ours.start()
            self.ours.controller("observe")
            for n in range(self.history):
                self._night([self.ours], n)
            self._learn()
            for side in self.others:
                side.start()
            for n in range(self.history, self.history + self.paired):
                self._night([self.ours, *self.others], n)
            return self.document()
        finally:
            for side in (self.ours, *self.others):
                side.stop()

    def _learn(self) -> None:
        """What a flow does of a night, and the question that is to be judged; then preprov is in charge."""
        if not self.history:
            self.ours.controller("full")
            return
        end = D0.timestamp() + (self.history * DAY_S - DAY_S + NIGHT_S + 30.0) * SPEED
        self.ours.call("model", "retrain", "--pool", "batch", check=False)
        self.ours.controller("full")
        asked = threading.Thread(target=self._ask, args=(end,), daemon=True)
        asked.start()
        self._asked = asked

    def _ask(self, end: float) -> None:
        from datetime import UTC, datetime

        at = datetime.fromtimestamp(end, UTC).isoformat()
        words = ("whatif", "--pool", "batch", "--days", "2", "--policies", "preprov,reactive", "--slo", "", "--at", at)
        try:
            self.whatif = self.ours.ask(*words, "--workers", "1")
        except (RuntimeError, ValueError) as e:
            self.whatif = {"error": str(e)[-500:]}

    def _night(self, sides: Sequence[Side], n: int) -> None:
        begin = self.began + n * DAY_S
        what = night(self.seed, n)
        say(f"seed {self.seed} night {n}: {sum(s.jobs for s in what)} jobs on {', '.join(s.name for s in sides)}")
        play(sides, what, begin, self.waiting)
        self.waiting.until(begin + DAY_S - 15.0)  # what runs on ends in the quiet part of the day
        for side in sides:
            row = {"night": n, **measure(side.slurm, begin, begin + DAY_S - 15.0).row()}
            self.rows.setdefault(side.name, []).append(row)
            waits = f"p50 {row['wait_median_s']:.1f} s, p95 {row['wait_p95_s']:.1f} s"
            nodes = f"{row['node_minutes']:.1f} node-minutes, {row['boots']} boots"
            say(f"seed {self.seed} night {n} {side.name}: {waits}, {nodes}, {len(row['not_completed'])} not completed")

    def document(self) -> dict[str, Any]:
        asked = getattr(self, "_asked", None)
        if asked is not None:
            asked.join(900.0)
        return {
            "seed": self.seed,
            "nights": self.rows,
            "whatif": self.whatif,
            "errors": {s.name: s.errors for s in (self.ours, *self.others) if s.errors},
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slurm", description=__doc__)
    parser.add_argument("--seeds", default="101,202", help="of the crontab; those it was made on are 1 to 9")
    parser.add_argument("--history", type=int, default=3, help="nights before")
    parser.add_argument("--paired", type=int, default=3, help="nights that count")
    parser.add_argument("--objective", default=Terms.objective, help="of preprov, as in [pool.objective]")
    parser.add_argument("--resume", type=Path, help="folder of what was done: a seed that is there is not done again")
    parser.add_argument("--keep", type=Path, help="keep logs of all clusters there")
    parser.add_argument(
        "--at-once",
        type=int,
        default=1,
        help="seeds side by side, each beginning as the one before has its history: paired nights need two cores",
    )
    args = parser.parse_args()
    why = missing()
    if why:
        print(f"SKIPPED: {why}", file=sys.stderr)
        return 1
    terms = Terms(objective=args.objective)
    seeds = [int(s) for s in args.seeds.split(",")]
    done = {s: d for s in seeds if (d := _held(args.resume, s)) is not None}
    left = [s for s in seeds if s not in done]
    waiting, began = Waiting(), time.time()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: waiting.stopping.set())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pps-", ignore_cleanup_errors=True)))
        host = stack.enter_context(slurm_host(folder / "h")) if left else None

        def one(seed: int) -> tuple[int, dict[str, Any]]:
            assert host is not None
            waiting.until(began + left.index(seed) % args.at_once * args.history * DAY_S)
            found = Trial(host, seed, terms, args.history, args.paired, folder, waiting).run()
            if args.resume is not None:
                args.resume.mkdir(parents=True, exist_ok=True)
                (args.resume / f"seed-{seed}.json").write_text(json.dumps(found))
            return seed, found

        try:
            with ThreadPoolExecutor(args.at_once) as pool:
                done.update(dict(pool.map(one, left)))
        except Stopped:
            say("stopped; seeds that were whole are kept")
            return 130
        finally:
            if args.keep is not None:
                shutil.copytree(folder, args.keep, dirs_exist_ok=True, ignore=_uninteresting)
    document = summary([done[s] for s in seeds], terms, args.history)
    print(f"wait p50, p95, node-minutes\n\n{night_table(document['nights'])}\n", file=sys.stderr)
    json.dump(document, sys.stdout, indent=2)
    print()
    return 0


def _held(folder: Path | None, seed: int) -> dict[str, Any] | None:
    """What an earlier run left of this seed."""
    file = folder / f"seed-{seed}.json" if folder is not None else None
    return json.loads(file.read_text()) if file is not None and file.exists() else None


def _uninteresting(folder: str, names: Sequence[str]) -> list[str]:
    plain = {n for n in names if (Path(folder) / n).is_dir() or (Path(folder) / n).is_file()}
    return [n for n in names if n in ("db", "munge", "nodes", "spool", "state") or n not in plain]


if __name__ == "__main__":
    sys.exit(main())
