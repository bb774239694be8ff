"""Usage out of a Prometheus: chunks and cursors, whose a series is, and whatever an answer can be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov import configfile
from preprov.contracts import SourceState
from preprov.control.context import Context
from preprov.control.routing import Router
from preprov.control.syncing import sync, sync_whole
from preprov.model.errors import ConfigError, SourceError, SourceUnavailableError
from preprov.model.pools import Pool
from preprov.planning.prices import TablePriceBook
from preprov.sim.clock import VirtualClock
from preprov.sim.ports import memory_ports
from preprov.sources.prometheus import PrometheusSettings, PrometheusSource, UsageQuery
from preprov.sources.prometheus.queries import PRESETS, preset
from preprov.sourcing import live_source
from preprov.testing.fake_prometheus import FakePrometheus, ok, refused

NOW = datetime(2026, 3, 2, 12, 0, 7, tzinfo=UTC)
CPU = UsageQuery("cpu", "cpu_rate", "millicores", "{pod}#0")
MEMORY = UsageQuery("memory", "memory_bytes", "bytes", "{pod}#0")


class World:
    """A Prometheus, a reader of it, and the store."""

    def __init__(self, *, skew: float = 0.0, **more: Any) -> None:
        self.clock = VirtualClock(NOW)
        self.prometheus = FakePrometheus(self.clock, skew=skew)
        self.prometheus.series |= {
            "cpu_rate": [({"pod": "a/t"}, lambda t: 500.0)],
            "memory_bytes": [({"pod": "a/t"}, lambda t: 2.0**30)],
        }
        usual: dict[str, Any] = {
            "queries": (CPU, MEMORY),
            "history_days": 0.1,
            "patience_s": 1e9,
            "requests_per_second": 1e6,
        }
        self.settings = PrometheusSettings("usage", "http://pm:9090", **{**usual, **more})
        self.ctx = Context(
            ports=memory_ports(),
            providers={},
            schedulers={},
            prices=TablePriceBook.from_pools(list[Pool]()),
            clock=self.clock,
            pools={},
        )

    def source(self) -> PrometheusSource:
        return PrometheusSource(self.settings, self.clock, transport=self.prometheus.transport())

    def read(self) -> Any:
        return sync_whole(self.ctx, self.source(), Router(default="batch"))

    def kept(self, claimant: str = "a/t#0") -> list[Any]:
        return list(self.ctx.ports.samples.samples(claimant))


def test_amounts_are_ours_and_what_nobody_told_is_absent() -> None:
    w = World()
    w.prometheus.series["cpu_rate"][0] = ({"pod": "a/t"}, lambda t: 500.0 if t % 60 == 0 else None)
    done = w.read()
    kept = w.kept()
    assert done.samples == len(kept) == 289  # two a minute, all of 0.1 days and both ends
    assert {u.memory for u in kept} == {1.0}
    assert {u.cpu for u in kept if u.at % 60 == 0} == {0.5}
    assert {u.cpu for u in kept if u.at % 60 != 0} == {None}
    assert {(u.disk_io, u.network, u.gpu) for u in kept} == {(None, None, None)}
    assert kept[-1].at == (NOW - timedelta(seconds=67)).timestamp(), "the newest minute is left for the next pass"


def test_the_next_pass_goes_on_and_nothing_is_read_or_kept_twice() -> None:
    w = World(chunk_s=600.0)
    w.read()
    first = len(w.kept())
    spans = sorted((float(a["start"]), float(a["end"])) for a in w.prometheus.asked if a["query"] == "cpu_rate")
    assert all(end - start <= 600 for start, end in spans)
    assert all(b[0] - a[1] == 30 for a, b in pairwise(spans)), "neither gap nor overlap"
    w.prometheus.asked.clear()
    assert w.read().samples == 0
    assert w.prometheus.asked == []
    w.clock.sleep(300)
    assert w.read().samples == 10
    assert len(w.kept()) == first + 10
    w.ctx.ports.sources.rewind("usage")
    w.read()
    assert len({u.at for u in w.kept()}) == len(w.kept()) == first + 10


def test_a_pass_that_breaks_off_goes_on_where_it_stood() -> None:
    w = World(chunk_s=600.0)
    w.prometheus.instead = [None] * 10 + [httpx.Response(503)]
    with pytest.raises(SourceUnavailableError):
        w.read()
    there = len(w.kept())
    assert there == 100, "five chunks of both queries"
    (status,) = w.ctx.ports.sources.statuses()
    assert "503" in status.error
    w.read()
    assert len(w.kept()) == 289
    assert len({u.at for u in w.kept()}) == 289


def test_a_long_past_is_read_in_passes_that_each_end_soon() -> None:
    w = World(chunk_s=600.0, patience_s=-1.0)
    one = sync(w.ctx, w.source(), Router())
    assert one.more
    assert one.samples == 20
    assert w.read().samples == 269


def test_a_chunk_that_is_too_large_is_asked_for_in_halves() -> None:
    w = World(chunk_s=3600.0)
    w.prometheus.most = 25
    w.read()
    assert len(w.kept()) == 289
    w.prometheus.most = 0
    w.clock.sleep(60)
    with pytest.raises(SourceError, match="too many samples") as error:
        w.read()
    assert "shorter" in error.value.hint


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_a_clock_that_is_an_hour_off_loses_nothing(skew: float) -> None:
    w = World(skew=skew)
    w.read()
    newest = w.kept()[-1].at
    w.clock.sleep(7200)
    w.read()
    kept = [u.at for u in w.kept()]
    assert all(b - a == 30 for a, b in pairwise(kept))
    assert kept[-1] - newest == 7200


def test_values_that_can_be_no_use_are_left_out() -> None:
    w = World(queries=(CPU,))
    values = iter(["NaN", "+Inf", "-1", "250", "0"] * 200)
    w.prometheus.series["cpu_rate"][0] = ({"pod": "a/t"}, lambda t: next(values))
    w.read()
    assert {u.cpu for u in w.kept()} <= {0.25, 0.0}


def test_series_of_nobody_and_of_two_are_said_and_not_kept() -> None:
    w = World(queries=(CPU,))
    w.prometheus.series["cpu_rate"] += [
        ({"node": "n1"}, lambda t: 1.0),
        ({"pod": "b/t", "replica": "1"}, lambda t: 1.0),
        ({"pod": "b/t", "replica": "2"}, lambda t: 1.0),
    ]
    notes = w.read().notes
    assert len(notes) == 2
    assert any("1 series whose labels do not make {pod}#0" in n for n in notes)
    assert any("several series are of b/t#0" in n for n in notes)
    assert w.kept("b/t#0") == []
    assert w.kept() != []


def test_awkward_names_arrive_whole() -> None:
    name = "größe/ночь 夜 🌙 {} %s \\ " + "n" * 300
    w = World(queries=(CPU,))
    w.prometheus.series["cpu_rate"] = [({"pod": name}, lambda t: 1.0)]
    w.read()
    assert len(w.kept(f"{name}#0")) == 289


def test_labels_are_taken_apart_by_patterns() -> None:
    query = replace(CPU, claimant="{namespace}/{job}/main#{i}", labels={"pod": r"(?P<job>.+)-(?P<i>\d+)"})
    assert query.whose({"namespace": "ns", "pod": "etl-x-3"}) == "ns/etl-x/main#3"
    assert query.whose({"namespace": "ns", "pod": "etl"}) is None
    assert query.whose({"namespace": "", "pod": "etl-3"}) is None


HOSTILE = {
    "bad PromQL": (refused("bad_data", 'invalid parameter "query": 1:9: parse error', 400), SourceError, "parse error"),
    "a query that fails": (refused("execution", "vector cannot contain metrics", 422), SourceError, "carried out"),
    "a partial response": (
        ok({"resultType": "matrix", "result": []}, warnings=["No StoreAPIs matched for this query"]),
        SourceUnavailableError,
        "only a part answered",
    ),
    "truncated JSON": (
        httpx.Response(200, text='{"status":"success","data":{"resultType":"matrix","result":[{"met'),
        SourceUnavailableError,
        "not whole",
    ),
    "no matrix": (ok({"resultType": "vector", "result": []}), SourceUnavailableError, "no range"),
    "nonsense inside": (ok({"resultType": "matrix", "result": [{"values": 3}]}), SourceUnavailableError, "no sense"),
    "a page of a proxy": (httpx.Response(200, text="<html>sign in</html>"), SourceUnavailableError, "not whole"),
    "no right": (httpx.Response(401), SourceError, "refuses us"),
    "no Prometheus": (httpx.Response(404, text="not here"), SourceError, "not as a Prometheus"),
    "too fast": (httpx.Response(429), SourceUnavailableError, "429"),
    "broken": (httpx.Response(500, text="oops"), SourceUnavailableError, "500"),
    "gone": (httpx.ConnectError("refused"), SourceUnavailableError, "ConnectError"),
}


SLOW = {
    "a query that takes too long": (refused("timeout", "query timed out", 503), "timed out"),
    "slow": (httpx.ReadTimeout("timed out"), "ReadTimeout"),
    "a proxy that does not wait": (httpx.Response(504, text="<html>"), "504"),
}


@pytest.mark.parametrize("what", SLOW)
def test_what_is_not_answered_in_time_is_asked_for_in_halves(what: str) -> None:
    answer, says = SLOW[what]
    w = World(chunk_s=3600.0)
    w.prometheus.instead = [None, None, None, answer, answer]
    w.read()
    assert [u.cpu for u in w.kept()] == [0.5] * 289
    w.clock.sleep(600)
    w.prometheus.instead = [None, *[answer] * 50]
    with pytest.raises(SourceUnavailableError, match=says):
        w.read()
    assert len(w.kept()) == 289


def test_a_chunk_that_is_too_slow_for_the_patience_of_a_pass_is_shorter_in_the_next() -> None:
    slow = httpx.ReadTimeout("timed out")
    w = World(chunk_s=600.0, patience_s=-1.0)
    w.prometheus.instead = [None, slow, None, slow]
    source = w.source()
    for samples in (0, 0, 5):
        done = sync(w.ctx, source, Router())
        assert (done.samples, done.more) == (samples, True)


@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_the_answer_is_the_error_is_plain_and_the_next_pass_has_everything(what: str) -> None:
    answer, error, says = HOSTILE[what]
    w = World(chunk_s=600.0)
    w.prometheus.instead = [None, None, None, answer]
    with pytest.raises(error) as found:
        w.read()
    assert says in str(found.value)
    assert type(found.value).retryable is (error is SourceUnavailableError)
    assert found.value.hint or found.value.where
    assert len(w.kept()) == 20, "the first chunk was whole, of the second nothing is kept"
    w.read()
    assert [u.cpu for u in w.kept()] == [0.5] * 289


def test_what_is_said_of_a_query_is_passed_on_and_is_no_partial_answer() -> None:
    w = World(queries=(CPU,))
    matrix = {"resultType": "matrix", "result": [{"metric": {"pod": "a/t"}, "values": [[NOW.timestamp(), "1"]]}]}
    told = ok(matrix, infos=["PromQL info: metric might not be a counter"], warnings=["PromQL warning: odd"])
    w.prometheus.instead = [told] * 10
    assert {"query cpu: PromQL info: metric might not be a counter", "query cpu: PromQL warning: odd"} == set(
        w.read().notes
    )


def test_a_cursor_that_makes_no_sense_begins_anew() -> None:
    for cursor in ("", "x", "nan", "99999999999"):
        w = World()
        batches = list(w.source().changes(SourceState(cursor), NOW))
        assert sum(len(b.usage) for b in batches) == 289


def test_examining_says_what_is_there_and_what_is_missing() -> None:
    w = World(queries=(CPU, MEMORY, UsageQuery("gpu", "dcgm", "percent", "{pod}#0")))
    w.prometheus.series["dcgm"] = []
    found = {f.what: f for f in w.source().examine()}
    assert found["address"].found == "http://pm:9090: Prometheus 2.42.0"
    assert (found["cpu"].state, found["cpu"].found) == ("ok", "1 series, 1 claimants such as a/t#0")
    assert found["gpu"].state == "warn"
    assert "no series" in found["gpu"].found
    assert "disk_io, network" in found["not asked for"].found
    w.prometheus.series["cpu_rate"] = [({"instance": "n1"}, lambda t: 1.0)]
    w.prometheus.instead = [None, refused("bad_data", "parse error", 400)]
    found = {f.what: f for f in w.source().examine()}
    assert found["cpu"].state == "bad"
    assert "labels instance" in found["cpu"].hint
    assert (found["memory"].state, "parse error" in found["memory"].found) == ("bad", True)


@pytest.mark.parametrize(
    ("claimant", "says"),
    [
        (PRESETS["cadvisor"][1], "source of kind kubernetes"),
        (PRESETS["jobs"][1], "task instances"),
        (PRESETS["slurm"][1], "source of kind slurm"),
        (PRESETS["node"][1], "no task is sized by them"),
        ("{namespace}/{run}/{task}#0", "task instances"),
        ("{pod}", ""),
        ("{cluster}/{namespace}/{pod}", ""),
    ],
)
def test_examining_says_what_samples_are_for_and_where_nobody_looks_for_them(claimant: str, says: str) -> None:
    w = World(queries=(UsageQuery("cpu", "cpu_rate", "millicores", claimant),))
    (told,) = [f for f in w.source().examine() if f.what == "used for"]
    assert (told.state, says in told.found) == ("ok" if says else "warn", True)
    assert told.found.startswith(f"{claimant}: ")


def test_examining_a_place_that_is_not_there() -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    w = World()
    source = PrometheusSource(w.settings, w.clock, transport=httpx.MockTransport(handle))
    (only,) = source.examine()
    assert (only.state, "ConnectError" in only.found) == ("bad", True)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_well_made_and_can_be_mapped_otherwise(name: str) -> None:
    queries = preset(name)
    assert len({q.resource for q in queries}) == len(queries)
    assert {q.claimant for q in preset(name, "{x}", {"instance": "(?P<x>.*)"})} == {"{x}"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"unit": "bytes"}, "not counted in bytes"),
        ({"claimant": "fixed"}, "names no label"),
        ({"claimant": "{pod"}, "claimant"),
        ({"claimant": "{0}"}, "names no label"),
        ({"claimant": "{pod.__class__}"}, "names no label"),
        ({"labels": {"pod": "("}}, "pattern of label pod"),
    ],
)
def test_what_is_wrong_in_a_query_is_said(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        replace(CPU, **wrong)


@given(
    step=st.sampled_from([7.0, 15.0, 30.0, 60.0]),
    chunk=st.floats(1.0, 600.0),
    pauses=st.lists(st.floats(0.0, 900.0), max_size=3),
    lag=st.floats(0.0, 120.0),
)
def test_however_passes_and_chunks_fall_each_step_is_read_once(
    step: float, chunk: float, pauses: list[float], lag: float
) -> None:
    w = World(queries=(CPU,), step_s=step, chunk_s=chunk, lag_s=lag, history_days=0.005)
    w.read()
    for pause in pauses:
        w.clock.sleep(pause)
        w.read()
    asked = [
        float(a["start"]) + i * step
        for a in w.prometheus.asked
        for i in range(round((float(a["end"]) - float(a["start"])) / step) + 1)
    ]
    assert len(set(asked)) == len(asked)
    assert all(b - a == step for a, b in pairwise(sorted(asked)))
    assert max(asked) > w.prometheus.now() - lag - step


SECTION: dict[str, Any] = {"name": "used", "kind": "prometheus", "url": "http://pm:9090", "preset": "cadvisor"}


def made(**changes: Any) -> Any:
    values = {k: v for k, v in {**SECTION, **changes}.items() if v is not None}
    (section,) = configfile.parse({"source": [values]}, "a test").source
    return live_source(section, VirtualClock(NOW))


def test_a_section_says_what_is_asked() -> None:
    own = {"resource": "cpu", "promql": "mine", "unit": "percent"}
    queries = made(query=[own], claimant="{pod}")._settings.queries
    assert {q.resource: q.promql for q in queries}["cpu"] == "mine"
    assert {q.claimant for q in queries} == {"{pod}"}
    assert len(queries) == 6, "the preset's other resources stay"


def test_a_secret_is_looked_up_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(user="me", password={"env": "PM_PASSWORD"})
    with pytest.raises(ConfigError, match="PM_PASSWORD"):
        source._settings.headers()
    monkeypatch.setenv("PM_PASSWORD", "s3cret")
    assert source._settings.headers() == {"Authorization": "Basic bWU6czNjcmV0"}
    monkeypatch.setenv("PM_TOKEN", "t0ken")
    assert made(token={"env": "PM_TOKEN"})._settings.headers() == {"Authorization": "Bearer t0ken"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"url": "pm:9090"}, "must begin with http"),
        ({"preset": None}, "preset"),
        ({"preset": "cadviser"}, "cadvisor"),
        ({"password": {"env": "X"}}, "needs a `user`"),
        ({"token": {"env": "X"}, "user": "me"}, "either `token`"),
        ({"chunk": 86400, "step": 1}, "more than 11,000 steps"),
        ({"preset": None, "query": [{"resource": "cpu", "promql": "x", "unit": "cores"}]}, "claimant"),
        ({"query": [{"resource": "cpu", "promql": "x", "unit": "bytes"}]}, "not counted in bytes"),
        ({"claimant": "fixed"}, "names no label"),
    ],
)
def test_what_is_wrong_in_a_section_is_said_plainly(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        made(**wrong)
    assert says in str(error.value)
