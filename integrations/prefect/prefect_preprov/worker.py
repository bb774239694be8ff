"""A process worker for one warm node: it takes runs until it is told to leave, finishes those it has, and ends.

    python -m prefect_preprov.worker --pool workers --name node-1 --limit 4

It leaves when its node drains, or when a file of its name lies in the node's folder:

    python -m prefect_preprov.worker leave --name node-1

preprov starts it when a node is handed over, and tells it to leave before the node goes. Flow runs find in their
environment what preprov gave to the worker: PREPROV_NODE_ID, PREPROV_POOL.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

LOOK_EVERY_S = 1.0
SYNC_EVERY_S = 30.0
_LONGEST_S = 60.0


def leave_file(name: str, folder: "str | Path | None" = None) -> Path:
    """Its presence tells the worker of that name to leave."""
    node = Path(folder or os.environ.get("PREPROV_NODE_DIR") or ".")
    return node / f"leave.{name.replace('/', '_')}"


def told_to_leave(name: str, folder: "str | Path | None" = None) -> bool:
    """True once the worker is to take nothing more: it was told so, or its node drains."""
    file = leave_file(name, folder)
    return file.exists() or (file.parent / "draining").exists()


def fill(template: dict[str, Any], values: Mapping[str, str]) -> None:
    """Give job variables of the template a default, where the work pool has such variables; others are left out."""
    known = (template.get("variables") or {}).get("properties") or {}
    for name, value in values.items():
        if isinstance(known.get(name), dict):
            known[name]["default"] = value


async def serve(
    worker: Any,
    leaving: Callable[[], bool],
    *,
    poll_s: float,
    values: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Take runs until told to leave, then wait for those that run. A server that does not answer is asked again.

    :param worker: a Prefect worker with a limit, not yet started.
    :param poll_s: seconds between questions for runs. :param values: defaults of job variables, for runs taken here.
    """
    async with worker:
        try:
            say(f"worker {worker.name} takes runs of {worker.work_pool.name}")
        except RuntimeError:
            raise SystemExit("Prefect does not answer, or it has no such work pool: see PREFECT_API_URL") from None
        synced, pause = time.monotonic(), poll_s
        while not leaving():
            try:
                if time.monotonic() - synced >= SYNC_EVERY_S:
                    await worker.sync_with_backend()
                    synced = time.monotonic()
                fill(worker.work_pool.base_job_template, values or {})
                await worker.get_and_submit_flow_runs()
                pause = poll_s
            except httpx.HTTPError as error:
                pause = min(pause * 2, _LONGEST_S)
                say(f"Prefect does not answer ({type(error).__name__}); asked again in {pause:.0f} s")
            await _idle(pause, leaving)
        say(f"worker {worker.name} takes no more runs; it has {worker.limiter.borrowed_tokens}")
        while worker.limiter.borrowed_tokens:
            await asyncio.sleep(min(LOOK_EVERY_S, poll_s))
    say(f"worker {worker.name} has left")


async def _idle(seconds: float, leaving: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not leaving() and (left := until - time.monotonic()) > 0:
        await asyncio.sleep(min(left, LOOK_EVERY_S))


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="prefect_preprov.worker", description="A process worker on a warm node.")
    parser.add_argument("verb", nargs="?", choices=("start", "leave"), default="start")
    parser.add_argument("--pool", help="the work pool")
    parser.add_argument("--queue", action="append", default=[], help="only this work queue; repeat it")
    parser.add_argument("--name", default=os.environ.get("PREPROV_NODE_ID") or os.uname().nodename)
    parser.add_argument("--limit", type=int, default=1, help="runs at once")
    parser.add_argument(
        "--fill", action="append", default=[], metavar="VARIABLE=VALUE", help="default of a job variable"
    )
    parser.add_argument("--poll", type=float, default=5.0, help="seconds between questions for runs")
    asked = parser.parse_args(words)
    if asked.verb == "leave":
        leave_file(asked.name).touch()
        return 0
    if not asked.pool:
        parser.error("--pool is needed")
    values = dict(word.partition("=")[::2] for word in asked.fill)

    from prefect.workers.process import ProcessWorker

    worker = ProcessWorker(
        work_pool_name=asked.pool,
        work_queues=asked.queue or None,
        name=asked.name,
        limit=max(asked.limit, 1),
        create_pool_if_not_found=False,
        prefetch_seconds=0,
    )

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    asyncio.run(serve(worker, lambda: told_to_leave(asked.name), poll_s=asked.poll, values=values, say=say))
    return 0


if __name__ == "__main__":
    sys.exit(main())
