"""Celery workers on warm nodes: one starts when its node is handed over, and takes nothing more before the node goes.

    python -m preprov_provider.celery start --queues batch --name node-1
    python -m preprov_provider.celery leave --name node-1
    python -m preprov_provider.celery drain --name node-1 --timeout 3600

`start` runs `airflow celery worker` until its node drains, or until a file of its name lies in the node's folder, which
`leave` puts there. Then it cancels the worker's consumers, so that no further task comes, waits until those it has are
done, however long that takes, and ends it. `drain` does the same from afar, over the broker: it says 0 if the worker is
gone, 1 if it still works or that is not known. Running tasks are never ended.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Any

LOOK_EVERY_S = 2.0
ANSWERS_WITHIN_S = 5.0
IDLE_LOOKS = 2
"""A worker that said so often in a row that it has nothing to do is ended."""
SILENT_LOOKS = 12
"""A worker that did not answer so often in a row, for more than a minute, is gone, as far as can be told from afar."""
SILENT_LOOKS_AT_END = 3
"""The same of one that was idle and was asked to end."""


def hostname(name: str) -> str:
    """A worker's name in Celery."""
    return name if "@" in name else f"celery@{name}"


def worker_command(name: str, queues: str, concurrency: int | None, options: Sequence[str] = ()) -> list[str]:
    """How the worker is started; `options` are further ones of `airflow celery worker`."""
    command = [sys.executable, "-m", "airflow", "celery", "worker", "--celery-hostname", hostname(name)]
    command += ["--queues", queues] if queues else []
    command += ["--concurrency", str(concurrency)] if concurrency else []
    return [*command, *options]


def leave_file(name: str, folder: "str | Path | None" = None) -> Path:
    """Its presence tells the worker of that name to leave."""
    node = Path(folder or os.environ.get("PREPROV_NODE_DIR") or ".")
    return node / f"leave.{name.replace('/', '_')}"


def told_to_leave(name: str, folder: "str | Path | None" = None) -> bool:
    """True once the worker is to take nothing more: it was told so, or its node drains."""
    file = leave_file(name, folder)
    return file.exists() or (file.parent / "draining").exists()


class Seen(Enum):
    """A worker that is to leave, at one look."""

    IDLE = auto()
    BUSY = auto()
    """It has tasks, or may still have been given one."""
    SILENT = auto()
    """It does not answer, while the broker does."""
    UNKNOWN = auto()
    """The broker does not answer: that says nothing of the worker."""


class Worker:
    """A worker, asked over the broker."""

    def __init__(self, app: Any, name: str) -> None:
        """Ask nothing yet."""
        self._control = app.control
        self._place = hostname(name)
        self._inspect = app.control.inspect(destination=[self._place], timeout=ANSWERS_WITHIN_S)

    def look(self) -> Seen:
        """Cancel what it still consumes, and say whether it has anything to do."""
        try:
            queues = self._told(self._inspect.active_queues())
            for queue in queues or ():
                self._control.cancel_consumer(
                    queue["name"], destination=[self._place], reply=True, timeout=ANSWERS_WITHIN_S
                )
            if queues:
                say(f"{self._place} takes nothing more from {', '.join(q['name'] for q in queues)}")
            if queues is None or queues:
                return Seen.SILENT if queues is None else Seen.BUSY
            held = [self._told(self._inspect.active()), self._told(self._inspect.reserved())]
        except Exception as error:  # each broker's client has its own
            say(f"the broker does not answer ({type(error).__name__}: {error})")
            return Seen.UNKNOWN
        if None in held:
            return Seen.SILENT
        return Seen.BUSY if any(held) else Seen.IDLE

    def end(self) -> None:
        """Ask it to finish what it has and end."""
        self._control.shutdown(destination=[self._place])

    def _told(self, answer: Any) -> "list[Any] | None":
        found = (answer or {}).get(self._place)
        return found if isinstance(found, list) else None


def drain(
    app: Any,
    name: str,
    timeout_s: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """From afar: take no more work, wait for what runs, end the worker. False if it is not gone after so long.

    One answer that does not come says little: it is gone when it is silent for long, while the broker is there.

    :param app: the Celery application.
    """
    worker, until = Worker(app, name), clock() + timeout_s
    idle = silent = 0
    ending = False
    while clock() < until:
        seen = worker.look()
        idle = idle + 1 if seen is Seen.IDLE else 0
        if seen is not Seen.UNKNOWN:
            silent = silent + 1 if seen is Seen.SILENT else 0
        if silent >= (SILENT_LOOKS_AT_END if ending else SILENT_LOOKS):
            return True
        if idle >= IDLE_LOOKS and not ending:
            worker.end()
            ending = True
        sleep(LOOK_EVERY_S)
    return False


def serve(
    command: Sequence[str],
    application: Callable[[], Any],
    name: str,
    leaving: Callable[[], bool],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run a worker until it is to leave; then it takes no more, finishes what it has, and ends. Gives its exit code.

    :param application: gives the Celery application, once it is needed.
    """
    child = subprocess.Popen(list(command))
    say(f"worker {name} starts")
    while child.poll() is None and not leaving():
        sleep(LOOK_EVERY_S)
    if child.poll() is None:
        say(f"worker {name} takes no more tasks")
        _let_finish(child, Worker(application(), name), sleep)
        # Celery's own warm shutdown: should it have work after all, because it could not be asked, it finishes that.
        child.send_signal(signal.SIGTERM)
    code = child.wait()
    say(f"worker {name} has left")
    return code


def _let_finish(child: "subprocess.Popen[bytes]", worker: Worker, sleep: Callable[[float], None]) -> None:
    """Until the worker is idle, has ended, or cannot be asked for long."""
    idle = deaf = 0
    while child.poll() is None and idle < IDLE_LOOKS and deaf < SILENT_LOOKS:
        seen = worker.look()
        idle = idle + 1 if seen is Seen.IDLE else 0
        deaf = deaf + 1 if seen in (Seen.SILENT, Seen.UNKNOWN) else 0
        sleep(LOOK_EVERY_S)


def say(line: str) -> None:
    """A line on stdout, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


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
    start = verbs.add_parser("start", help="run a worker here until it is to leave")
    start.add_argument("--queues", default="")
    start.add_argument("--concurrency", type=int)
    start.add_argument("options", nargs="*", help="after --: further options of `airflow celery worker`")
    leave = verbs.add_parser("leave", help="tell the worker on this node to leave")
    ends = verbs.add_parser("drain", help="let a worker finish what it has, and end it, from afar")
    ends.add_argument("--timeout", type=float, default=3600.0, help="seconds")
    for verb in (start, leave, ends):
        usual = os.environ.get("PREPROV_NODE_ID") or os.uname().nodename
        verb.add_argument("--name", default=usual, help="of the worker; this node's if not given")
    asked = parser.parse_args(words)
    if asked.verb == "leave":
        leave_file(asked.name).touch()
        return 0
    if asked.verb == "drain":
        return 0 if drain(_application(), asked.name, asked.timeout) else 1
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    command = worker_command(asked.name, asked.queues, asked.concurrency, asked.options)
    return serve(command, _application, asked.name, lambda: stopped.is_set() or told_to_leave(asked.name))


if __name__ == "__main__":
    sys.exit(main())
