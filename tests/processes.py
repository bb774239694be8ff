"""Several processes at once, without each of them importing everything again."""

import multiprocessing
from collections.abc import Callable, Iterable
from multiprocessing.process import BaseProcess
from typing import Any

PRELOADED = ["preprov.store.database", "preprov.testing.store_examples"]


def start(target: Callable[..., None], calls: Iterable[tuple[Any, ...]]) -> list[BaseProcess]:
    """One process a call, started together. `target` is a function of a module that can be imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    started: list[BaseProcess] = [context.Process(target=target, args=args, daemon=True) for args in calls]
    for process in started:
        process.start()
    return started


def join(started: Iterable[BaseProcess], seconds: float = 100) -> list[int | None]:
    """Wait for all; their exit codes."""
    processes = list(started)
    for process in processes:
        process.join(seconds)
    return [p.exitcode for p in processes]
