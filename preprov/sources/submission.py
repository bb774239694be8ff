"""What a person submits: DAGs in a TOML, JSON or Python file."""

import json
import runpy
import tomllib
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from preprov.model.errors import ConfigError, PreprovError, WorkError
from preprov.model.work import DagSpec
from preprov.sources.submission_form import DagForm, explained

_DAG_KEYS: Final = ("dag", "dags")
_TASK_KEYS: Final = ("task", "tasks")


def read_submission(
    path: Path | str, *, now: datetime | None = None, zone: str = "UTC", pool: str | None = None
) -> tuple[DagSpec, ...]:
    """Read the DAGs of a file.

    The keys are those of `submission_form`. A TOML or JSON file is one DAG at the top level, or a `dag` table (then its
    tasks may stand inside or beside it), or several of them. A Python file sets `dag` or `dags` at module level, to
    mappings with the same keys or to DagSpec; it is executed in this process with the rights of whoever submits it, so
    submit only files you would run yourself.

    Args:
        path: .toml, .json or .py.
        now: what relative times count from; the present if not given.
        zone: of times and crons that say none, and of DAGs that name no zone.
        pool: for DAGs that name no pool.

    Raises:
        ConfigError: the file cannot be read or a key is unknown or wrong; says file and key.
        WorkError: the DAG is malformed: an unknown parent, a cycle, no tasks.
    """
    path = Path(path)
    now = now or datetime.now(UTC)
    entries = _entries(path, _load(path))
    if not entries:
        raise WorkError(f"{path.name} holds no DAG", where=str(path), hint="give it an id and at least one [[task]]")
    specs = [_spec(entry, path, key, now, zone, pool) for key, entry in entries]
    doubled = sorted({s.dag_id for s in specs if [t.dag_id for t in specs].count(s.dag_id) > 1})
    if doubled:
        raise WorkError(f"DAG id used twice: {', '.join(doubled)}", where=str(path))
    return tuple(specs)


def _spec(entry: Any, path: Path, key: str, now: datetime, zone: str, pool: str | None) -> DagSpec:
    where = f"{path}: {key}" if key else str(path)
    if isinstance(entry, DagSpec):
        return entry if entry.pool or pool is None else entry.in_pool(pool)
    try:
        form = DagForm.model_validate(entry)
        return form.build(now=now, zone=zone, pool=pool)
    except ValidationError as e:
        raise explained(e, where) from None
    except WorkError as e:
        raise WorkError(e.what, where=f"{path}: {e.where}" if e.where else where, hint=e.hint) from None
    except ValueError as e:
        raise ConfigError(str(e), where=where) from None


# --------------------------------------------------------------------------- files to plain data


def _load(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".py":
        return _run(path)
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}", where=str(path), hint="check the path") from None
    except json.JSONDecodeError as e:
        raise ConfigError(f"not JSON: {e.msg}", where=f"{path}:{e.lineno}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        hint = "" if path.suffix == ".toml" else "a submission is a .toml, .json or .py file"
        raise ConfigError(f"not TOML: {e}", where=str(path), hint=hint) from None
    if isinstance(raw, list):
        return {"dags": raw}
    if not isinstance(raw, dict):
        raise ConfigError("a submission is a table of keys, or a list of them", where=str(path))
    return raw


def _run(path: Path) -> Mapping[str, Any]:
    try:
        module = runpy.run_path(str(path), run_name="preprov_submission")
    except PreprovError:
        raise
    except FileNotFoundError as e:
        raise ConfigError(f"cannot read {e.filename}: {e.strerror}", where=str(path), hint="check the path") from None
    except (Exception, SystemExit) as e:
        frames = [f for f in traceback.extract_tb(e.__traceback__) if f.filename == str(path)]
        line = f":{frames[-1].lineno}" if frames else ""
        raise ConfigError(f"it raised {type(e).__name__}: {e}", where=f"{path}{line}", hint="run it by itself") from e
    found: dict[str, Any] = {k: module[k] for k in _DAG_KEYS if k in module}
    if not found:
        raise WorkError(
            f"{path.name} sets neither `dag` nor `dags`",
            where=str(path),
            hint='at module level: dag = {"id": …, "tasks": […]}',
        )
    return found


def _entries(path: Path, raw: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(key, DAG) of the file; tasks that stand beside the only `dag` belong to it."""
    holders = [k for k in _DAG_KEYS if k in raw]
    if not holders:
        return [("", raw)] if raw else []
    listed = [(f"{k}[{i + 1}]", d) for k in holders for i, d in enumerate(_as_list(raw[k]))]
    if len(listed) == 1:
        listed = [(holders[0], listed[0][1])]
    beside = {k: v for k, v in raw.items() if k not in _DAG_KEYS}
    if not beside:
        return listed
    if len(listed) == 1 and isinstance(listed[0][1], dict) and set(beside) <= set(_TASK_KEYS):
        return [("", {**listed[0][1], **beside})]
    raise ConfigError(
        f"{', '.join(beside)} stands beside the DAG, not in it",
        where=str(path),
        hint="beside [dag] only [[task]] may stand; of several DAGs each has its own: [[dag.task]]",
    )


def _as_list(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
