"""Celery workers on warm nodes: one starts when its node is handed over, and takes nothing more before the node goes.

    python -m preprov_provider.celery start --queues batch --name node-1
    python -m preprov_provider.celery drain --name node-1 --timeout 3600

`start` runs `airflow celery worker`. `drain` cancels the worker's consumers, so that no further task comes, waits until
those it has are done, and ends it; running tasks are never ended. It says 0 if the worker is gone, 1 if it still works.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

_LOOK_EVERY_S = 2.0


def hostname(name: str) -> str:
    """A worker's name in Celery."""
    return name if "@" in name else f"celery@{name}"


def worker_command(name: str, queues: str, concurrency: int | None) -> list[str]:
    """How the worker is started."""
    command = ["airflow", "celery", "worker", "--celery-hostname", hostname(name)]
    command += ["--queues", queues] if queues else []
    return command + (["--concurrency", str(concurrency)] if concurrency else [])


def drain(
    app: Any,
    name: str,
    timeout_s: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Take no more work, wait for what runs, end the worker; False if it still works after so long.

    :param app: the Celery application. A worker that does not answer is gone already.
    """
    place = [hostname(name)]
    inspect = app.control.inspect(destination=place, timeout=5.0)
    queues = inspect.active_queues()
    if not queues:
        return True
    for queue in queues.get(place[0], ()):
        app.control.cancel_consumer(queue["name"], destination=place, reply=True, timeout=5.0)
    until = clock() + timeout_s
    while clock() < until:
        held = [inspect.active(), inspect.reserved()]
        if all(found is None for found in held):
            return True
        if not any((found or {}).get(place[0]) for found in held):
            app.control.shutdown(destination=place)
            return True
        sleep(_LOOK_EVERY_S)
    return False


def _application() -> Any:
    try:
        from airflow.providers.celery.executors.celery_executor_utils import app
    except ImportError:
        from airflow.providers.celery.executors.celery_executor import app
    return app


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="preprov_provider.celery", description="Celery workers on warm nodes.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    start = verbs.add_parser("start", help="start a worker here, in place of this process")
    start.add_argument("--queues", default="")
    start.add_argument("--concurrency", type=int)
    ends = verbs.add_parser("drain", help="let a worker finish what it has, and end it")
    ends.add_argument("--timeout", type=float, default=3600.0, help="seconds")
    for verb in (start, ends):
        verb.add_argument("--name", default=os.uname().nodename, help="of the worker; this host's if not given")
    asked = parser.parse_args(words)
    if asked.verb == "start":
        command = worker_command(asked.name, asked.queues, asked.concurrency)
        os.execvp(command[0], command)  # noqa: S606
    return 0 if drain(_application(), asked.name, asked.timeout) else 1


if __name__ == "__main__":
    sys.exit(main())
