"""What an Airflow lets us see, and what it does not, in plain words."""

from collections.abc import Callable
from typing import Final

from preprov.contracts import Finding
from preprov.model.errors import PreprovError
from preprov.sources.airflow.assets import Assets
from preprov.sources.airflow.client import AirflowClient
from preprov.sources.airflow.fetching import TRIES_SINCE, quoted
from preprov.sources.releases import is_at_least, release_finding
from preprov.sources.skew import clock_finding

_LEAST: Final = "2.9"


def examine(client: AirflowClient, variable: str) -> tuple[Finding, ...]:
    """Ask for a little of everything; stops where nothing further can be said."""
    try:
        release = client.connect()
    except PreprovError as error:
        return (_bad("address", error),)
    found = [
        Finding("address", "ok", f"{client.where}, API {client.version}"),
        release_finding("Airflow", release, _LEAST),
        clock_finding(client.clock.ahead_s),
    ]
    dags = _look("DAGs", lambda: _dags(client))
    found.append(dags)
    if dags.state == "bad":
        return tuple(found)
    for what, path in (("DAG runs", "dags/~/dagRuns"), ("task instances", "dags/~/dagRuns/~/taskInstances")):
        found.append(_look(what, lambda path=path: Finding("", "ok", f"{client.count(path, {})} to be seen")))  # type: ignore[misc]
    found.append(_look("task definitions", lambda: _tasks(client)))
    found.append(_tries(release))
    found.append(_look("pools", lambda: _pools(client), needed=False))
    found.append(_look("assets", lambda: _assets(client), needed=False))
    if variable:
        found.append(_look("timetables", lambda: _variable(client, variable), needed=False))
    return tuple(found)


def _look(what: str, ask: Callable[[], Finding], *, needed: bool = True) -> Finding:
    try:
        told = ask()
    except PreprovError as error:
        return _bad(what, error) if needed else Finding(what, "warn", error.what, error.hint)
    return Finding(what, told.state, told.found, told.hint)


def _bad(what: str, error: PreprovError) -> Finding:
    return Finding(
        what, "bad", f"{error.what} ({error.where})" if error.where else error.what, error.hint or "see its log"
    )


def _dags(client: AirflowClient) -> Finding:
    total = client.count("dags", {})
    if not total:
        hint = "is anything deployed? A user of Airflow sees the DAGs its role may read"
        return Finding("", "warn", "there is none to be seen", hint)
    paused = client.count("dags", {"paused": "true"})
    return Finding("", "ok", f"{total} to be seen, {paused} of them paused")


def _tasks(client: AirflowClient) -> Finding:
    listed = (client.get("dags", {"limit": 1}) or {}).get("dags") or []
    if not listed:
        return Finding("", "ok", "there is no DAG to try it on")
    dag_id = str(listed[0].get("dag_id"))
    tasks = (client.get(f"dags/{quoted(dag_id)}/tasks") or {}).get("tasks") or []
    return Finding("", "ok", f"{dag_id} has {len(tasks)} tasks")


def _tries(release: str) -> Finding:
    if is_at_least(release, TRIES_SINCE):
        return Finding("earlier tries", "ok", "of tasks that were tried again: told")
    hint = f"Airflow {TRIES_SINCE} and newer tell: until then history lacks what tries before the last one used"
    return Finding("earlier tries", "warn", "of a task that was tried again only the last try is told", hint)


def _pools(client: AirflowClient) -> Finding:
    found = (client.get("pools", {"limit": 100}) or {}).get("pools") or []
    named = ", ".join(f"{p.get('name')} ({p.get('slots')} slots)" for p in found[:5])
    return Finding("", "ok", f"{len(found)}: {named}" if found else "none")


def _assets(client: AirflowClient) -> Finding:
    found = Assets.ask(client).found
    made = sum(1 for a in found if a.makers)
    return Finding("", "ok", f"{len(found)} to be seen, {made} of them made by tasks" if found else "none")


def _variable(client: AirflowClient, variable: str) -> Finding:
    if client.get(f"variables/{variable}") is None:
        return Finding("", "ok", "of one's own: none published (Airflow's own cron and delta timetables need none)")
    return Finding("", "ok", f"of one's own: published in variable {variable}")
