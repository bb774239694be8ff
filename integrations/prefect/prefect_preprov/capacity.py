"""Wait for warm capacity: around a flow, around a task, or around a few lines."""

import asyncio
import functools
import hashlib
import inspect
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Literal, TypeVar

import httpx

from prefect_preprov.client import (
    Answer,
    Call,
    PreprovError,
    PreprovUnavailable,
    Reservation,
    Wish,
    answered,
    asking,
    headers,
    releasing,
)
from prefect_preprov.credentials import PreprovCredentials

F = TypeVar("F")
_held: ContextVar[Reservation | None] = ContextVar("prefect_preprov", default=None)
_AT_END = "its run has ended"
_RUNS = 10_000
_blocks: OrderedDict[tuple[str, ...], int] = OrderedDict()
"""Run and claimant -> blocks of it that this process has entered; of so many runs, the latest."""
_counting = threading.Lock()


def reservation() -> Reservation | None:
    """What the code that runs now holds; None if nothing."""
    return _held.get()


def on_warm_capacity(
    pool: str,
    *,
    cpu: float = 0.0,
    memory: float = 0.0,
    gpu: float = 0.0,
    count: int = 1,
    timeout: float = 900.0,
    duration: float = 3600.0,
    priority: int | None = None,
    on_timeout: Literal["fail", "continue"] = "fail",
    if_unavailable: Literal["fail", "continue"] = "continue",
    credentials: "PreprovCredentials | str | None" = None,
    transport: Any = None,
) -> Callable[[F], F]:
    """Let a flow or a task wait until preprov has warm room for it; the room is given back when it ends, however.

    Stands above `@flow` or `@task`, or below it, around a plain or an async function.

    :param pool: as preprov.toml names it. :param cpu: cores of one instance. :param memory: GiB. :param gpu: devices.
    :param count: instances; all are held together, or none.
    :param timeout: seconds to wait. :param duration: seconds for which it is held at the most, once it is warm.
    :param on_timeout: "fail" raises CapacityTimeout, "continue" goes on without a reservation.
    :param if_unavailable: "continue": work does not stand still because preprov does not answer; or "fail".
    :param credentials: a PreprovCredentials block or its name; left out, PREPROV_URL and PREPROV_TOKEN say.
    """
    request = {"cpu": cpu, "memory": memory, "gpu": gpu}
    wish = Wish(pool, "", request, count, duration, timeout, priority, "", on_timeout, if_unavailable)

    def decorate(what: F) -> F:
        copied: Any = what
        if hasattr(what, "with_options") and hasattr(what, "fn"):  # a Flow or a Task
            copied = copied.with_options()
            copied.fn = _wrapped(copied.fn, wish, credentials, transport)
            return copied  # type: ignore[no-any-return]
        return _wrapped(copied, wish, credentials, transport)  # type: ignore[no-any-return]

    return decorate


def _wrapped(fn: Callable[..., Any], wish: Wish, credentials: Any, transport: Any) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{fn.__name__} is a generator: use `with warm_capacity(...)` inside it")
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def waits_async(*args: Any, **kwargs: Any) -> Any:
            async with _held_async(wish, credentials, transport):
                return await fn(*args, **kwargs)

        return waits_async

    @functools.wraps(fn)
    def waits(*args: Any, **kwargs: Any) -> Any:
        with _held_sync(wish, credentials, transport):
            return fn(*args, **kwargs)

    return waits


@contextmanager
def warm_capacity(
    pool: str,
    request: dict[str, float],
    *,
    claimant: str = "",
    credentials: "PreprovCredentials | str | None" = None,
    transport: Any = None,
    **more: Any,
) -> Iterator[Reservation | None]:
    """Hold warm room within a `with`; `more` as in `Wish`. None: the code goes on without.

    Each block has room of its own, also where several of a run are nested or go on side by side.

    :param claimant: for what; by default the run. Further blocks of a run add `#2`, `#3` … to it.
    """
    with _held_sync(Wish(pool, claimant, request, **more), credentials, transport) as held:
        yield held


@asynccontextmanager
async def warm_capacity_async(
    pool: str,
    request: dict[str, float],
    *,
    claimant: str = "",
    credentials: "PreprovCredentials | str | None" = None,
    transport: Any = None,
    **more: Any,
) -> AsyncIterator[Reservation | None]:
    """As `warm_capacity`, in an event loop."""
    async with _held_async(Wish(pool, claimant, request, **more), credentials, transport) as held:
        yield held


@contextmanager
def _held_sync(wish: Wish, credentials: Any, transport: Any) -> Iterator[Reservation | None]:
    wish, key = _named(wish)
    place = _place(credentials)
    token = place.token.get_secret_value() if place.token else ""
    with httpx.Client(base_url=place.url, transport=transport) as http:

        def ask(call: Call) -> Answer:
            time.sleep(call.pause)
            try:
                sent = http.request(
                    call.method,
                    call.path,
                    headers=headers(token, call.key),
                    timeout=call.timeout,
                    **call.options,
                )
            except httpx.HTTPError as error:
                return PreprovUnavailable(f"it does not answer: {error or type(error).__name__}")
            return answered(sent)

        reserved: list[str] = []
        try:
            talk = asking(wish, key)
            call, found = next(talk), None
            while True:
                answer = _noted(ask(call), reserved)
                try:
                    call = talk.send(answer)
                except StopIteration as end:
                    found = end.value
                    break
            with _current(found):
                yield _told(found, wish)
        finally:
            for reservation_id in reserved:
                with _forgiving():
                    _say_if_lost(ask(releasing(reservation_id, _AT_END)), reservation_id)


@asynccontextmanager
async def _held_async(wish: Wish, credentials: Any, transport: Any) -> AsyncIterator[Reservation | None]:
    wish, key = _named(wish)
    place = await asyncio.to_thread(_place, credentials)
    token = place.token.get_secret_value() if place.token else ""
    async with httpx.AsyncClient(base_url=place.url, transport=transport) as http:

        async def ask(call: Call) -> Answer:
            await asyncio.sleep(call.pause)
            try:
                sent = await http.request(
                    call.method,
                    call.path,
                    headers=headers(token, call.key),
                    timeout=call.timeout,
                    **call.options,
                )
            except httpx.HTTPError as error:
                return PreprovUnavailable(f"it does not answer: {error or type(error).__name__}")
            return answered(sent)

        reserved: list[str] = []
        try:
            talk = asking(wish, key)
            call, found = next(talk), None
            while True:
                answer = _noted(await ask(call), reserved)
                try:
                    call = talk.send(answer)
                except StopIteration as end:
                    found = end.value
                    break
            with _current(found):
                yield _told(found, wish)
        finally:
            for reservation_id in reserved:
                with _forgiving():
                    gone = asyncio.shield(asyncio.ensure_future(ask(releasing(reservation_id, _AT_END))))
                    _say_if_lost(await gone, reservation_id)


# ---- what both have in common


def _noted(answer: Answer, reserved: list[str]) -> Answer:
    """Remember what was reserved, so that it is given back whatever happens next."""
    if isinstance(answer, dict) and str(answer.get("state")) in ("soft", "committed"):
        reserved[:] = [str(answer["reservation_id"])]
    elif isinstance(answer, dict):
        reserved.clear()
    return answer


@contextmanager
def _current(found: Reservation | None) -> Iterator[None]:
    before = _held.set(found)
    try:
        yield
    finally:
        _held.reset(before)


@contextmanager
def _forgiving() -> Iterator[None]:
    """A refusal to take it back must not hide how the work itself ended."""
    try:
        yield
    except PreprovError as error:
        _log().warning("%s", error)


def _say_if_lost(answer: Answer, reservation_id: str) -> None:
    if isinstance(answer, PreprovUnavailable):
        _log().warning("%s. Reservation %s ends by itself.", answer, reservation_id)


def _told(found: Reservation | None, wish: Wish) -> Reservation | None:
    if found is None:
        _log().warning("going on without a reservation of pool %s", wish.pool)
    else:
        nodes = ", ".join(found.nodes)
        _log().info("warm after %.1f s: %s (reservation %s)", found.waited_s, nodes, found.reservation_id)
    return found


def _named(wish: Wish) -> tuple[Wish, str]:
    """For whom it is, and a key that another process which tries the same run has again for the same block of it."""
    from prefect.runtime import flow_run, task_run

    flow_id, task_id = str(flow_run.id or ""), str(task_run.id or "")
    names = [str(flow_run.flow_name or ""), flow_id, task_id] if flow_id or task_id else [uuid.uuid4().hex]
    digest = wish.digest()
    claimant = wish.claimant or "/".join(["prefect", *(n for n in names if n), digest[:8]])
    number = _number(*names, claimant)
    claimant = claimant if number == 1 else f"{claimant}#{number}"
    text = "\x1f".join([*names, claimant, digest])
    return replace(wish, claimant=claimant), f"prefect-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def _number(*block: str) -> int:
    """Which of a run's blocks of one claimant this is, from 1 on, as they are entered in this process."""
    with _counting:
        number = _blocks[block] = _blocks.pop(block, 0) + 1
        while len(_blocks) > _RUNS:
            _blocks.popitem(last=False)
    return number


def _place(credentials: Any) -> PreprovCredentials:
    if isinstance(credentials, str):
        return PreprovCredentials.load(credentials, _sync=True)  # type: ignore[no-any-return,call-arg,arg-type]
    return credentials or PreprovCredentials.of_environment()


def _log() -> Any:
    """The run's own log, where there is a run."""
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("prefect_preprov")
