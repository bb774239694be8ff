"""A flow waits for its reservation: against the real API, in this process."""

import asyncio
import importlib.util
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from prefect_preprov import (
    CapacityTimeout,
    PreprovCredentials,
    PreprovError,
    PreprovUnavailable,
    on_warm_capacity,
    reservation,
    warm_capacity,
    warm_capacity_async,
)
from prefect_preprov import client as client_module
from pydantic import SecretStr

from preprov.control import reserving
from preprov.model.resources import Resources
from tests.unit.web.conftest import T0, Site

ROOT = Path(__file__).resolve().parents[3]


class Way(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """To the API; `before` is done first at each request, and may answer in its place."""

    def __init__(self, site: Site, before: Callable[[httpx.Request], httpx.Response | None]) -> None:
        self.site, self.before = site, before
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.before(request)
        if answer is not None:
            return answer
        sent = self.site.http.request(
            request.method, str(request.url), content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(sent.status_code, content=sent.content, headers={"content-type": "application/json"})

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return await asyncio.to_thread(self.handle_request, request)

    @property
    def keys(self) -> list[str]:
        return [r.headers["idempotency-key"] for r in self.asked if r.method == "POST"]


@pytest.fixture
def token(site: Site) -> PreprovCredentials:
    return PreprovCredentials(url="http://testserver", token=SecretStr(site.token("red")))


@pytest.fixture
def run_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As if inside a flow run."""
    chosen = str(uuid4())
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", chosen)
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__FLOW_NAME", "etl")
    return chosen


def handed_over(site: Site) -> Callable[[httpx.Request], None]:
    """The controller binds it to a node while the flow waits."""

    def before(request: httpx.Request) -> None:
        if request.url.path.endswith("/wait"):
            name = request.url.path.split("/")[-2]
            site.app.ctx.ports.ledger.commit(name, "n1", Resources(cpu=4, memory=16), site.clock.at)

    return before


def held(site: Site) -> list[str]:
    return [b.booking_id for b in reserving.bookings(site.app.ctx, "red", pools=("batch",), live=True)]


def nothing(_: httpx.Request) -> None:
    return None


def test_a_function_waits_runs_on_its_node_and_gives_the_room_back(
    site: Site, token: PreprovCredentials, run_id: str
) -> None:
    way = Way(site, handed_over(site))
    seen: list[Any] = []

    @on_warm_capacity("batch", cpu=2, memory=4, credentials=token, transport=way)
    def work(x: int, *, y: int = 1) -> int:
        found = reservation()
        assert found is not None
        seen.extend((found.nodes, held(site), found.document["claimant"]))
        return x + y

    assert work(1, y=2) == 3
    assert seen[0] == ("n1",)
    assert len(seen[1]) == 1
    assert seen[2].startswith(f"prefect/etl/{run_id}/")
    assert held(site) == []
    assert reservation() is None
    assert work.__name__ == "work"


def test_the_room_is_given_back_when_the_function_fails_and_its_own_error_is_seen(
    site: Site, token: PreprovCredentials, run_id: str
) -> None:
    @on_warm_capacity("batch", cpu=2, credentials=token, transport=Way(site, handed_over(site)))
    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert held(site) == []


def test_an_async_function_waits_too(site: Site, token: PreprovCredentials, run_id: str) -> None:
    @on_warm_capacity("batch", cpu=2, credentials=token, transport=Way(site, handed_over(site)))
    async def work() -> tuple[str, ...]:
        await asyncio.sleep(0)
        found = reservation()
        return found.nodes if found else ()

    assert asyncio.run(work()) == ("n1",)
    assert held(site) == []


def another_process() -> Any:
    """The module as another process has it: what this one remembers of its runs it does not know."""
    spec = importlib.util.find_spec("prefect_preprov.capacity")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_run_that_is_tried_again_has_a_reservation_of_its_own_each_time(
    site: Site, token: PreprovCredentials, run_id: str
) -> None:
    way, found = Way(site, handed_over(site)), []
    for _ in range(3):
        work = another_process().on_warm_capacity("batch", cpu=2, credentials=token, transport=way)
        found.append(work(lambda: sum(1 for _ in held(site)))())
    assert found == [1, 1, 1]
    assert len(set(way.keys)) == 3, "the same keys in the same order: a repeated request reserves nothing twice"
    assert way.keys[0] == way.keys[1] == way.keys[3]
    assert held(site) == []


def test_not_even_the_hundredth_try_is_one_too_many(
    site: Site, token: PreprovCredentials, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_TRIES", 2)
    way = Way(site, handed_over(site))
    for _ in range(6):
        with another_process().warm_capacity("batch", {"cpu": 2}, credentials=token, transport=way) as found:
            assert found is not None


def test_a_second_process_of_the_same_run_finds_the_reservation_that_the_first_made(
    site: Site, token: PreprovCredentials, run_id: str
) -> None:
    way = Way(site, handed_over(site))
    again = {"credentials": token, "transport": way}
    first, second = (p.warm_capacity("batch", {"cpu": 2}, **again) for p in (another_process(), another_process()))
    with first as one, second as other:
        assert (other.reservation_id, other.nodes) == (one.reservation_id, ("n1",))
        assert len(held(site)) == 1


@pytest.mark.parametrize("claimant", ["", "etl"])
@pytest.mark.parametrize("cores", [(2, 2), (1, 3)])
def test_blocks_within_one_another_have_room_of_their_own(
    site: Site, token: PreprovCredentials, run_id: str, claimant: str, cores: tuple[float, float]
) -> None:
    more: dict[str, Any] = {"credentials": token, "transport": Way(site, handed_over(site)), "claimant": claimant}
    outer, inner = cores
    with warm_capacity("batch", {"cpu": outer}, **more) as first:
        assert first is not None
        with warm_capacity("batch", {"cpu": inner}, **more) as second:
            assert second is not None
            assert sorted(held(site)) == sorted([first.reservation_id, second.reservation_id])
            assert reservation() == second
        assert held(site) == [first.reservation_id], "what the outer one holds is not the inner one's to give back"
        assert reservation() == first
    assert held(site) == []


@pytest.mark.parametrize("claimant", ["", "etl"])
def test_blocks_after_one_another_may_want_different_things(
    site: Site, token: PreprovCredentials, run_id: str, claimant: str
) -> None:
    lost: list[str] = []

    def before(request: httpx.Request) -> None:
        if request.method == "DELETE" and not lost:
            lost.append(request.url.path)
            raise httpx.ConnectError("gone")
        handed_over(site)(request)

    more: dict[str, Any] = {"credentials": token, "transport": Way(site, before), "claimant": claimant}
    for cores in (1, 3, 3, 1):
        with warm_capacity("batch", {"cpu": cores}, **more) as found:
            assert found is not None
            assert found.document["segments"][0]["cpu"] == cores
    assert [p.endswith(name) for p, name in zip(lost, held(site), strict=True)] == [True], "that one ends by itself"


@pytest.mark.parametrize("how", ["threads", "tasks"])
def test_blocks_side_by_side_have_room_of_their_own(
    site: Site, token: PreprovCredentials, run_id: str, how: str
) -> None:
    more: dict[str, Any] = {"credentials": token, "transport": Way(site, handed_over(site))}
    inside: list[str] = []

    def in_thread(barrier: threading.Barrier) -> None:
        with warm_capacity("batch", {"cpu": 1}, **more) as found:
            inside.append(found.reservation_id if found else "")
            barrier.wait(30)
            assert inside[-1] in held(site)

    async def in_task(all_in: asyncio.Barrier) -> None:
        async with warm_capacity_async("batch", {"cpu": 1}, **more) as found:
            inside.append(found.reservation_id if found else "")
            await all_in.wait()
            assert sorted(held(site)) == sorted(inside)
            await all_in.wait()

    async def in_tasks() -> None:
        all_in = asyncio.Barrier(3)
        await asyncio.gather(*(in_task(all_in) for _ in range(3)))

    if how == "tasks":
        asyncio.run(in_tasks())
    else:
        barrier = threading.Barrier(3)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(in_thread, [barrier] * 3))
    assert len(set(inside)) == 3
    assert held(site) == []


def test_a_long_name_is_shortened_and_told_apart(site: Site, token: PreprovCredentials) -> None:
    more: dict[str, Any] = {"credentials": token, "transport": Way(site, handed_over(site))}
    with (
        warm_capacity("batch", {"cpu": 1}, claimant="x" * 300 + "a", **more) as one,
        warm_capacity("batch", {"cpu": 1}, claimant="x" * 300 + "b", **more) as other,
    ):
        assert one is not None
        assert other is not None
        assert len({one.document["claimant"], other.document["claimant"]}) == 2


@pytest.mark.parametrize("goes_on", [True, False])
def test_what_is_not_warm_in_time_is_given_back(
    site: Site, token: PreprovCredentials, run_id: str, goes_on: bool
) -> None:
    ran: list[Any] = []
    decorate = on_warm_capacity(
        "batch",
        cpu=2,
        timeout=0.0,
        on_timeout="continue" if goes_on else "fail",
        credentials=token,
        transport=Way(site, nothing),
    )
    work = decorate(lambda: ran.append(reservation()))
    if goes_on:
        work()
    else:
        with pytest.raises(CapacityTimeout, match="pool batch had no warm room"):
            work()
    assert ran == ([None] if goes_on else [])
    assert held(site) == []


def test_it_is_void_by_itself_if_nobody_is_left_to_give_it_back(
    site: Site, token: PreprovCredentials, run_id: str
) -> None:
    def killed(request: httpx.Request) -> None:
        if request.url.path.endswith("/wait"):
            raise KeyboardInterrupt
        if request.method == "DELETE":
            raise httpx.ConnectError("gone")

    work = on_warm_capacity("batch", cpu=2, timeout=60, credentials=token, transport=Way(site, killed))(lambda: None)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert len(held(site)) == 1
    site.app.ctx.ports.ledger.expire("batch", T0 + timedelta(seconds=76))
    assert held(site) == []


@pytest.mark.parametrize("answer", [500, 501, 503, 429, "refused", "<html>", "[]", '{"status": "ok"}'])
def test_work_does_not_stand_still_because_preprov_does_not_answer(
    site: Site, token: PreprovCredentials, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        if answer == "refused":
            raise httpx.ConnectError("connection refused")
        problem = {"detail": "something went wrong in this server"}
        return httpx.Response(200, text=answer) if isinstance(answer, str) else httpx.Response(answer, json=problem)

    way = Way(site, away)
    more: dict[str, Any] = {"cpu": 2.0, "credentials": token, "transport": way}
    assert on_warm_capacity("batch", **more)(lambda: "ran")() == "ran"
    monkeypatch.setattr(client_module, "AGAIN_S", 0.0)
    with pytest.raises(PreprovUnavailable):
        on_warm_capacity("batch", if_unavailable="fail", timeout=0.0, **more)(lambda: "ran")()


def test_an_answer_that_fails_while_it_waits_is_asked_for_again(
    site: Site, token: PreprovCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "AGAIN_S", 0.0)
    over = handed_over(site)
    failures = [httpx.Response(502), httpx.Response(503)]

    def before(request: httpx.Request) -> httpx.Response | None:
        if request.url.path.endswith("/wait") and failures:
            return failures.pop()
        over(request)
        return None

    with warm_capacity("batch", {"cpu": 2}, credentials=token, transport=Way(site, before)) as found:
        assert found is not None
        assert found.nodes == ("n1",)


def test_a_refusal_is_told_with_what_to_do(site: Site, token: PreprovCredentials) -> None:
    work = on_warm_capacity("nowhere", cpu=2, credentials=token, transport=Way(site, nothing))(lambda: None)
    with pytest.raises(PreprovError, match="nowhere"):
        work()
    nobody = PreprovCredentials(url="http://testserver")
    with pytest.raises(PreprovError) as refused:
        on_warm_capacity("batch", cpu=2, credentials=nobody, transport=Way(site, nothing))(lambda: None)()
    assert refused.value.status == 401


def test_the_async_context_manager_gives_back_when_it_is_cancelled(site: Site, token: PreprovCredentials) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        way = Way(site, handed_over(site))
        async with warm_capacity_async("batch", {"cpu": 2}, credentials=token, transport=way):
            inside.set()
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(work())
        await inside.wait()
        assert len(held(site)) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert held(site) == []


PAGES = [Path("integrations/prefect/README.md"), Path("docs/how-to/serve-prefect.md")]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_what_the_pages_show_runs_while_preprov_is_down(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREPROV_URL", "http://127.0.0.1:9")
    (shown,) = re.findall(r"^```python\n(.+?)^```", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(shown, names)
    names["nightly"].fn()
    assert "on " in capsys.readouterr().out


def test_flows_and_tasks_keep_what_they_are() -> None:
    from prefect import flow, task

    decorate = on_warm_capacity("batch", cpu=1)
    kept = decorate(flow(name="nightly", retries=2)(lambda: 1))
    assert (kept.name, kept.retries) == ("nightly", 2)
    assert decorate(task(name="load")(lambda: 1)).name == "load"
    with pytest.raises(TypeError, match="generator"):

        @decorate
        def streams() -> Iterator[int]:
            yield 1


def test_a_block_or_the_environment_says_where_preprov_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREPROV_URL", "https://preprov.example.com")
    monkeypatch.setenv("PREPROV_TOKEN", "s3cret")
    found = PreprovCredentials.of_environment()
    assert found.url == "https://preprov.example.com"
    assert "s3cret" not in repr(found)


class TestCredentials(BlockStandardTestSuite):
    """Prefect's own suite for blocks."""

    @pytest.fixture
    def block(self) -> type[PreprovCredentials]:
        return PreprovCredentials

    test_has_a_valid_image = None  # it would ask the internet
