"""Airflow's listener: tells preprov of runs (and tasks) as they begin and end; it never raises, no run waits for it.

Airflow has no hook for a run that is queued: it is told of when the scheduler sets it running, or earlier where the
cluster policy of `preprov_provider.policies` is installed. preprov reads the queue itself; this makes it quicker.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import cache, wraps
from typing import Any, TypeVar

from airflow.listeners import hookimpl

from preprov_provider.naming import MOST, short
from preprov_provider.reporter import TIMEOUT_S, PermanentError, Reporter

log = logging.getLogger(__name__)

_ONE_OF_THEM = (400, 413, 422)
"""Refusals that may be due to one event of a batch."""
_STATES = {"success": "succeeded", "failed": "failed", "skipped": "skipped", "upstream_failed": "skipped"}
F = TypeVar("F", bound=Callable[..., None])


def _setting(name: str, default: str = "") -> str:
    from airflow.configuration import conf

    return str(conf.get("preprov", name, fallback=default) or default)


@cache
def reporter() -> "Reporter | None":
    """This process's reporter; None where no address is configured."""
    url = _setting("url")
    if not url:
        return None
    return Reporter(lambda batch: _send(url, batch))


def _send(url: str, batch: list[Mapping[str, Any]]) -> None:
    from preprov_provider.client import Client, PreprovError, PreprovUnavailable

    client = Client(url, _setting("token"), verify=_setting("verify"))
    try:
        client.tell(_setting("source", "airflow"), batch, timeout=TIMEOUT_S)
    except PreprovUnavailable:
        raise
    except PreprovError as error:
        raise PermanentError(str(error), of_one=error.status in _ONE_OF_THEM) from error
    finally:
        client.close()


def quietly(function: F) -> F:
    """Whatever happens in there is nobody's concern."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except Exception:
            log.debug("preprov was not told", exc_info=True)

    return wrapped  # type: ignore[return-value]


def tell(kind: str, what: Any, *, at: datetime | None, state: str = "", task_id: str = "", **details: Any) -> None:
    """One event of a run, or of a task of it.

    :param what: anything with dag_id and run_id.
    :param state: how it ended, in Airflow's word.
    """
    to = reporter()
    if to is None or not what.dag_id or not what.run_id:
        return
    named = [what.dag_id, what.run_id, task_id, details.get("try_number", ""), kind]
    if kind != "queued":  # the same run may be told of as queued by several processes: once is enough
        at = at or datetime.now(timezone.utc)
        named.append(at.timestamp())
    event: dict[str, Any] = {
        "event_id": short("/".join(map(str, named))),
        "kind": kind,
        "at": (at or datetime.now(timezone.utc)).isoformat(),
        "dag_id": what.dag_id,
        "run_id": what.run_id,
        "task_id": short(task_id),
        "details": {k: str(v)[:MOST] for k, v in details.items() if v not in (None, "")},
    }
    if kind == "finished":
        event["state"] = _STATES.get(state, "failed")
    to.tell(event)


def _turn(dag_run: Any) -> str:
    """The instant that the schedule meant: Airflow 3 says it itself, in 2 it is the end of the data's interval."""
    turn = getattr(dag_run, "run_after", None) or getattr(dag_run, "data_interval_end", None)
    return turn.isoformat() if turn is not None else ""


def _tells_tasks() -> bool:
    return _setting("tasks", "False").lower() in ("true", "1", "yes")


def _task(kind: str, ti: Any, state: str = "") -> None:
    if not _tells_tasks():
        return
    index = getattr(ti, "map_index", -1)
    task_id = ti.task_id if index in (-1, None) else f"{ti.task_id}[{index}]"
    details = {n: getattr(ti, n, None) for n in ("queue", "pool", "hostname", "try_number")}
    at = getattr(ti, "end_date", None) if kind == "finished" else getattr(ti, "start_date", None)
    tell(kind, ti, at=at, state=state, task_id=task_id, **details)


@hookimpl
@quietly
def on_dag_run_running(dag_run: Any, msg: str) -> None:
    """A run begins."""
    kind = getattr(dag_run, "run_type", "")
    name = getattr(kind, "value", kind)
    details = {"run_type": name, "scheduled_for": _turn(dag_run) if name == "scheduled" else ""}
    tell("started", dag_run, at=getattr(dag_run, "start_date", None), **details)


@hookimpl
@quietly
def on_dag_run_success(dag_run: Any, msg: str) -> None:
    """A run ended well."""
    tell("finished", dag_run, at=getattr(dag_run, "end_date", None), state="success")


@hookimpl
@quietly
def on_dag_run_failed(dag_run: Any, msg: str) -> None:
    """A run failed."""
    tell("finished", dag_run, at=getattr(dag_run, "end_date", None), state="failed")


@hookimpl
@quietly
def on_task_instance_running(previous_state: Any, task_instance: Any) -> None:
    """A task begins."""
    _task("started", task_instance)


@hookimpl
@quietly
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:
    """A task ended well."""
    _task("finished", task_instance, "success")


@hookimpl
@quietly
def on_task_instance_failed(previous_state: Any, task_instance: Any) -> None:
    """A task failed; with what error, Airflow 2.9 does not say."""
    _task("finished", task_instance, "failed")


@hookimpl
@quietly
def before_stopping(component: Any) -> None:
    """A process of Airflow ends: what waits to be told is told, for a moment, unless preprov is known to be silent."""
    to = reporter()
    if to is not None:
        to.leave()
