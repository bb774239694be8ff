"""The page as an engineer meets it at night, in a real browser."""

import json
import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import httpx
import pytest

from preprov.app import open_app
from tests.e2e.conftest import PATIENCE_MS, Look, Server, sign_in
from tests.e2e.night import HOSTILE

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def expect(what: Any) -> Any:
    from playwright.sync_api import expect as playwright_expect

    playwright_expect.set_options(timeout=PATIENCE_MS)
    return playwright_expect(what)


def pool(page: Any, name: str) -> Any:
    return page.locator("#pools > li").filter(has=page.get_by_role("link", name=name, exact=True))


def ask(server: Server, path: str) -> Any:
    answer = httpx.get(
        f"{server.url}v1/{path}", headers={"Authorization": f"Bearer {server.tokens['admin']}"}, timeout=240
    )
    return answer.raise_for_status().json()


def test_the_pools_are_shown_as_the_api_has_them(look: Look, server: Server) -> None:
    page = look()
    assert f"the page to watch it on: {server.url}" in server.log.read_text()
    told = {p["pool"]: p for p in ask(server, "capacity")["pools"]}
    expect(page.locator("#pools > li")).to_have_count(2)
    batch = pool(page, "batch")
    ready, target = told["batch"]["nodes"].get("ready", 0), told["batch"]["target"]
    expect(batch).to_contain_text(f"{ready} ready of {target} planned now")
    expect(batch).to_contain_text("full")
    for phase, count in told["batch"]["nodes"].items():
        expect(batch.get_by_role("list", name="Nodes by state")).to_contain_text(f"{count} {phase}")
    (came,) = ask(server, "outcomes?pool=batch")["pools"]
    assert came["instances"] == 39
    expect(batch).to_contain_text(f"{round(came['warm_hit_ratio'] * 100)} % of 39 tasks found a warm node")
    expect(pool(page, "quiet")).to_contain_text("Not looked at in the last hour. Is preprov up running?")
    expect(page.locator("#age")).to_have_text("up to date")


def test_the_picture_shows_what_was_and_what_is_ahead(look: Look, server: Server) -> None:
    page = look()
    picture = page.locator("#picture svg")
    expect(picture).to_be_visible()
    points = ask(server, "capacity/batch/history")["points"]
    phases = {f"phase.{phase}" for point in points for phase, nodes in point["nodes"].items() if nodes}
    assert "phase.ready" in phases
    for drawn in ("used", "band", "line.ready", "line.median", "line.target", "now", *sorted(phases)):
        assert page.locator(f"#picture svg .{drawn}").first.bounding_box()["width"] >= 0, drawn
    assert re.search(
        r"At most \d+ cores ready, \d+ used, .* Forecast ahead: up to", picture.get_attribute("aria-label")
    )
    now = page.locator(".legend .instant strong").inner_text()
    slider = page.get_by_role("slider", name="Instant to look at")
    slider.focus()
    before = slider.get_attribute("aria-valuetext")
    for _ in range(100):
        page.keyboard.press("ArrowLeft")
    assert page.locator(".legend .instant strong").inner_text() != now
    assert slider.get_attribute("aria-valuetext") != before
    page.get_by_label("1 h", exact=True).check()
    expect(picture).to_have_attribute("aria-label", re.compile("^Last 60 min"))
    page.get_by_text("These figures as a table").click()
    expect(page.locator("#picture tbody tr").nth(9)).to_be_visible()


def test_what_a_pass_sees_is_on_the_page_within_seconds(
    look: Look, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = look()
    expect(page.locator("#picture svg")).to_be_visible()
    monkeypatch.chdir(server.home)
    monkeypatch.setenv("PREPROV_HOME", str(server.home))
    with page.expect_request(re.compile(r"/v1/capacity/batch/history\?since=")), open_app() as app:
        last = app.ctx.ports.history.snapshots("batch")[-1]
        seen = replace(last, at=app.ctx.clock.now(), nodes={"warm": {"ready": 5, "lost": 1}}, target=7)
        app.ctx.ports.history.record(seen)
    expect(pool(page, "batch")).to_contain_text("5 ready of 7 planned now")
    expect(pool(page, "batch")).to_contain_text("1 lost")
    expect(page.locator(".legend")).to_contain_text("lost 1")


def test_a_halt_is_said_where_it_holds(look: Look, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    page = look()
    expect(pool(page, "batch")).not_to_contain_text("Nothing is raised")
    monkeypatch.chdir(server.home)
    monkeypatch.setenv("PREPROV_HOME", str(server.home))
    with open_app() as app:
        intent, now = app.ctx.ports.intent, app.ctx.clock.now()
        intent.set_halt("the bill", actor="test", at=now)
        expect(pool(page, "batch")).to_contain_text("Nothing is raised: halted: the bill.")
        intent.set_halt("", actor="test", at=now)
    expect(pool(page, "batch")).not_to_contain_text("Nothing is raised")


def came_of_a_launch(server: Server) -> tuple[Any, Any]:
    """The last launch whose node is ready, and its why: that of the last pass may still be on its way."""
    launches = [d for d in ask(server, "decisions/batch")["decisions"] if d["kind"] == "launch"]
    told = ((d, ask(server, f"why/action/{d['action_id']}")) for d in launches)
    return next((d, s) for d, s in told if any("ready after" in o["words"] for o in s["outcomes"]))


def test_why_opens_with_what_else_was_considered_and_its_cost(look: Look, server: Server) -> None:
    page = look()
    launch, story = came_of_a_launch(server)
    other = story["plans"][0]["alternatives"][0]
    row = page.locator(f"[data-key='{launch['action_id']}']")
    expect(row).to_contain_text("saves")
    row.locator("summary").focus()
    page.keyboard.press("Enter")
    table = row.get_by_role("table")
    expect(table).to_contain_text("this plan")
    expect(table.get_by_role("row").filter(has_text=other["name"])).to_contain_text("USD")
    expect(table).to_contain_text(other["why_not"])
    expect(row).to_contain_text("ready after")
    expect(row).to_contain_text("Foretold for the hour")
    with page.expect_response(lambda r: "/v1/capacity" in r.url):  # it looks again, and what is open stays open
        pass
    expect(table).to_be_visible()


def test_a_name_that_is_markup_stays_text(look: Look, server: Server) -> None:
    page = look(None)

    def renamed(route: Any) -> None:
        """The pool has a hostile name: as the page asks for it, and as it is answered."""
        asked = urlsplit(route.request.url)
        query = urlencode([(k, v.replace(HOSTILE, "batch")) for k, v in parse_qsl(asked.query)])
        answer = route.fetch(
            url=asked._replace(path=unquote(asked.path).replace(HOSTILE, "batch"), query=query).geturl()
        )
        route.fulfill(response=answer, body=answer.text().replace('"batch"', json.dumps(HOSTILE)))

    page.route("**/v1/**", renamed)
    sign_in(page, server.tokens["admin"])
    expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()
    page.get_by_role("link", name=HOSTILE).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#pool-title")).to_have_text(HOSTILE)
    expect(page.locator(".reservations b").filter(has_text=HOSTILE)).to_be_visible()
    page.locator(".decisions summary").first.click()
    expect(page.locator(".why").first).not_to_contain_text("Asking why")
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("script").count() == 1
    assert page.title() != "owned"


def test_who_may_not_is_told_so(look: Look) -> None:
    page = look("shut out")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The server refuses this token")
    assert page.evaluate("[...Object.entries(sessionStorage), ...Object.entries(localStorage)]") == []
    expect(page.get_by_label("Token", exact=True)).to_be_focused()
    expect(page.locator("#known")).to_be_hidden()
    blind = look("blind")
    expect(blind.get_by_role("alert")).to_contain_text("this token has no scope read")
    reader = look("reader")
    expect(reader.locator("#reservations")).to_have_text("Reservations are not shown: this token has no scope reserve.")
    expect(reader.locator("#picture svg")).to_be_visible()
    expect(reader.get_by_role("alert")).to_be_hidden()


def test_a_tenant_sees_its_own_and_is_not_told_why(look: Look) -> None:
    page = look("tenant")
    expect(page.locator("#reservations")).to_contain_text("month-end")
    expect(page.locator(".decisions > li").first).to_be_visible()
    assert page.locator(".decisions .reason").count() == 0
    page.locator(".decisions summary").first.click()
    expect(page.locator(".why").first).to_contain_text("Only an administrator's token is told why")


def test_the_token_stays_in_the_tab(look: Look, server: Server) -> None:
    page = look()
    expect(page.locator("#picture svg")).to_be_visible()
    secret = server.tokens["admin"]
    assert secret not in page.url
    assert page.context.cookies() == []
    assert page.evaluate("Object.values(localStorage)") == []
    assert page.evaluate("Object.values(sessionStorage)") == [secret]
    assert secret not in page.content()
    page.reload()
    expect(page.locator("#picture svg")).to_be_visible()
    page.get_by_role("button", name="Forget token").click()
    expect(page.get_by_label("Token", exact=True)).to_be_visible()
    assert page.evaluate("Object.values(sessionStorage)") == []


def test_a_server_that_goes_away_is_told_of_and_recovered_from(look: Look, server: Server) -> None:
    page = look()
    expect(page.locator("#picture svg")).to_be_visible()
    server.stop()
    try:
        expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
        expect(page.get_by_role("alert")).to_contain_text("What you see is of")
        expect(page.locator("#age")).to_contain_text("stale")
        expect(page.locator("#known")).to_have_class("stale")
        expect(pool(page, "batch")).to_contain_text("planned now")
        expect(page).to_have_title(re.compile("^stale"))
    finally:
        server.start()
    expect(page.locator("#age")).to_have_text("up to date")
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_server_that_asks_for_patience_is_given_it(look: Look) -> None:
    page = look()
    expect(page.locator("#picture svg")).to_be_visible()
    problem = {"title": "Too Many Requests", "status": 429, "detail": "this token asks too often"}
    page.route(
        "**/v1/capacity",
        lambda r: r.fulfill(
            status=429, json=problem, headers={"Retry-After": "7"}, content_type="application/problem+json"
        ),
    )
    expect(page.get_by_role("alert")).to_contain_text("this token asks too often")
    expect(page.locator("#age")).to_contain_text("again in")
    page.unroute("**/v1/capacity")
    expect(page.locator("#age")).to_have_text("up to date")


def test_a_store_without_pools_says_how_to_begin(look: Look) -> None:
    page = look(None)
    page.route("**/v1/capacity", lambda r: r.fulfill(json={"at": "2026-01-05T02:00:00Z", "pools": []}))
    sign_in(page, "preprov_any")
    expect(page.locator("#pools")).to_contain_text("There is no pool that this token may see")
    expect(page.locator("#pools")).to_contain_text("preprov init")


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_the_screen(look: Look, width: int) -> None:
    page = look(viewport={"width": width, "height": 740})
    expect(page.locator("#picture svg")).to_be_visible()
    page.locator(".decisions summary").first.click()
    expect(page.locator(".why").first).not_to_contain_text("Asking why")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(look: Look, server: Server, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = look(None, color_scheme=scheme)

    def fine() -> None:
        found = axe.run(page)
        assert found.violations_count == 0, found.generate_report()

    fine()
    sign_in(page, server.tokens["admin"])
    expect(page.locator("#picture svg")).to_be_visible()
    page.locator(".decisions summary").first.click()
    expect(page.locator(".why").first).not_to_contain_text("Asking why")
    page.get_by_text("These figures as a table").click()
    fine()
    page.route("**/v1/capacity", lambda r: r.abort())
    expect(page.locator("#age")).to_contain_text("stale")
    fine()
