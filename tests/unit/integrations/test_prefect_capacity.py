"""A flow waits for its reservation: against the real API, in this process."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
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
    assert seen[2] == f"prefect/etl/{run_id}"
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


def test_a_run_that_is_tried_again_has_a_reservation_of_its_own_each_time(
    site: Site, token: PreprovCredentials, run_id: str
) -> None:
    way = Way(site, handed_over(site))
    work = on_warm_capacity("batch", cpu=2, credentials=token, transport=way)(lambda: reservation())
    first, second, third = work(), work(), work()
    assert len({first.reservation_id, second.reservation_id, third.reservation_id}) == 3
    assert len(set(way.keys)) == 3, "the same keys in the same order: a repeated request reserves nothing twice"
    assert way.keys[0] == way.keys[1] == way.keys[3]
    assert held(site) == []


def test_a_second_process_of_the_same_run_finds_the_reservation_that_the_first_made(
    site: Site, token: PreprovCredentials, run_id: str
) -> None:
    way = Way(site, handed_over(site))
    again = {"credentials": token, "transport": way}
    with warm_capacity("batch", {"cpu": 2}, **again) as first, warm_capacity("batch", {"cpu": 2}, **again) as second:
        assert first is not None
        assert second is not None
        assert (second.reservation_id, second.nodes) == (first.reservation_id, ("n1",))
        assert len(held(site)) == 1


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


@pytest.mark.parametrize("answer", [503, 429, "refused", "html"])
def test_work_does_not_stand_still_because_preprov_does_not_answer(
    site: Site, token: PreprovCredentials, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        if answer == "refused":
            raise httpx.ConnectError("connection refused")
        return httpx.Response(200, text="<html>") if answer == "html" else httpx.Response(answer)

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
