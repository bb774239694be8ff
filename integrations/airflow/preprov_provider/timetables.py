"""Publish turns of timetables that only their own code can work out.

The REST API names one next run of a DAG. For crons and even distances preprov works out the others itself; of a
timetable of your own, or of a list of events, it can not. `publish` asks the timetables here, where their code is, and
keeps the turns in an Airflow variable, which preprov reads. Run it now and then: the example DAG
`preprov_publish_timetables`, or `python -m preprov_provider.timetables` where Airflow is installed.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

VARIABLE = "preprov_timetables"
HORIZON = timedelta(days=7)
MOST_TURNS = 2_000
_PLACES = ("airflow.timetables", "airflow.sdk.definitions.timetables")
_TOLD = ("interval", "trigger", "simple", "assets", "datasets")
"""Modules of Airflow's whose timetables preprov works out from what the REST API says, or that have no turns."""
_KNOWN = frozenset(f"{place}.{module}" for place in _PLACES for module in _TOLD)


def turns(dag: Any, now: datetime, horizon: timedelta = HORIZON) -> list[datetime]:
    """When runs of a DAG will be made within the horizon, by its own timetable."""
    from airflow.timetables.base import DataInterval, TimeRestriction

    timetable = _core(dag.timetable)
    within = TimeRestriction(
        earliest=getattr(dag, "start_date", None), latest=getattr(dag, "end_date", None), catchup=False
    )
    found: list[datetime] = []
    last: Any = None
    while len(found) < MOST_TURNS:
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=within)
        if info is None or info.run_after > now + horizon:
            break
        interval = DataInterval(info.data_interval.start, info.data_interval.end)
        if last is not None and interval.end <= last.end:
            break  # a timetable that does not move on
        if info.run_after >= now:
            found.append(info.run_after)
        last = interval
    return found


def _core(timetable: Any) -> Any:
    """As the scheduler has it: Airflow 3 keeps a timetable's definition apart from what works out its runs."""
    if hasattr(timetable, "next_dagrun_info"):
        return timetable
    from airflow.serialization.encoders import coerce_to_core_timetable

    return coerce_to_core_timetable(timetable)


def is_own(dag: Any) -> bool:
    """Whether the REST API does not say by which rule its timetable goes; of one beside assets, by which that does.

    It does not say in which zone a cron is read, if that is not the DAG's.
    """
    timetable = dag.timetable
    while _is_known(timetable) and hasattr(timetable, "timetable"):
        timetable = timetable.timetable
    return not _is_known(timetable) or bool(_zones(timetable) - {str(getattr(dag, "timezone", "UTC"))})


def _zones(timetable: Any) -> set[str]:
    """In which zones it reads its crons, by name; none if it has none. As a DAG is written, and as it is scheduled."""
    parts = getattr(timetable, "timetables", None) or getattr(timetable, "_timetables", None) or [timetable]
    found = (getattr(part, "timezone", None) or getattr(part, "_timezone", None) for part in parts)
    return {str(zone) for zone in found if zone is not None}


def _is_known(timetable: Any) -> bool:
    return type(timetable).__module__ in _KNOWN


def collect(dags: Iterable[Any], now: datetime | None = None, horizon: timedelta = HORIZON) -> dict[str, list[str]]:
    """DAG -> its turns, of DAGs with timetables of their own; one that fails is left out."""
    now = now or datetime.now(timezone.utc)
    out: dict[str, list[str]] = {}
    for dag in dags:
        if not is_own(dag):
            continue
        try:
            found = turns(dag, now, horizon)
        except Exception as error:
            sys.stderr.write(f"{dag.dag_id}: its timetable fails: {error}\n")
            continue
        if found:
            out[dag.dag_id] = [t.isoformat() for t in found]
    return out


def document(found: Mapping[str, list[str]], now: datetime | None = None) -> str:
    """What the variable holds."""
    at = (now or datetime.now(timezone.utc)).isoformat()
    return json.dumps({"at": at, "turns": dict(found)})


def publish(horizon: timedelta = HORIZON, variable: str = VARIABLE) -> int:
    """Keep the turns of all DAGs in the variable; returns of how many."""
    from preprov_provider.compat import Variable

    found = collect(_all_dags(), horizon=horizon)
    Variable.set(variable, document(found), description="Turns of timetables, for preprov")
    return len(found)


def _all_dags() -> Iterable[Any]:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    return list(DagBag().dags.values())


if __name__ == "__main__":
    sys.stdout.write(f"published the turns of {publish()} DAGs\n")
