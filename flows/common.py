"""What the flows share: the wired app, the pools to work on, artifacts."""

import base64
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from preprov.app import App, open_app
from preprov.model.errors import ConfigError
from preprov.settings import Settings


@contextmanager
def opened(flow: str) -> Iterator[App]:
    """The app, acting under the flow's name."""
    with open_app(actor=f"flow {flow}") as app:
        yield app


def task_runner() -> TaskRunner[Any]:
    """What maps a flow's tasks over pools, as settings name it. A flow is loaded anew for each of its runs.

    Raises:
        ConfigError: Dask is named and not installed.
    """
    settings = Settings.load()
    workers = settings.task_workers or os.cpu_count() or 1
    if settings.task_runner == "threads":
        return ThreadPoolTaskRunner(max_workers=workers)
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError:
        raise ConfigError(
            "the task runner dask is not installed", where="PREPROV_TASK_RUNNER", hint="pip install 'preprov[dask]'"
        ) from None
    if settings.dask_address:
        return cast(TaskRunner[Any], DaskTaskRunner(address=settings.dask_address))
    # One thread a process: a fit keeps its core busy, and threads would wait for each other.
    cluster = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    return cast(TaskRunner[Any], DaskTaskRunner(cluster_kwargs=cluster))


def chosen(pools: Sequence[str] | None) -> list[str]:
    """The pools named, else all there are."""
    if pools:
        return list(pools)
    with opened("choose") as app:
        return sorted(app.ctx.pools)


def key(*parts: str) -> str:
    """An artifact key: lower case, digits and dashes only."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def table(name: str, rows: Sequence[Mapping[str, object]], description: str) -> None:
    """Keep rows as a table artifact."""
    create_table_artifact(
        key=key(name),
        table=[{k: "" if v is None else str(v) for k, v in r.items()} for r in rows],
        description=description,
    )


def text(name: str, markdown: str, description: str) -> None:
    """Keep a text as a markdown artifact."""
    create_markdown_artifact(key=key(name), markdown=markdown, description=description)


def picture(name: str, png: bytes, description: str) -> None:
    """Keep a picture as an image artifact; it carries its own bytes, so that no file has to be reachable."""
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    create_image_artifact(image_url=url, key=key(name), description=description)


def progress(name: str, description: str) -> Callable[[float], None]:
    """Begin a progress artifact; returns what moves it on, in percent."""
    made = create_progress_artifact(progress=0.0, key=key(name), description=description)
    artifact = cast(UUID, made)  # a coroutine only inside an event loop
    return lambda percent: cast(None, update_progress_artifact(artifact_id=artifact, progress=percent))
