"""Slurm's JSON of two eras, host lists and refusals, as values."""

import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from preprov.slurm.accounting import AccountedJob
from preprov.slurm.commands import SlurmCommands, run_command
from preprov.slurm.errors import SlurmError, Trouble, trouble_of
from preprov.slurm.hostlist import expand
from preprov.slurm.records import SlurmNode
from preprov.slurm.rest import SlurmRest
from preprov.slurm.shapes import exit_code, instant, number, tres
from preprov.slurm.stepstat import step_stats


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (5, 5.0),
        ({"set": True, "infinite": False, "number": 5}, 5.0),
        ({"set": False, "infinite": False, "number": 0}, None),
        ({"set": True, "infinite": True, "number": 0}, None),
        (0xFFFFFFFE, None),
        (True, None),
        ("7", 7.0),
        ("soon", None),
        (None, None),
    ],
)
def test_a_number_is_read_in_either_shape(value: object, meant: float | None) -> None:
    assert number(value) == meant


def test_an_instant_of_zero_has_not_come() -> None:
    assert instant(0) is None
    assert instant({"set": True, "number": 100}) == 100.0


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (0, 0),
        (256, 1),
        (9, -9),
        ({"status": ["SUCCESS"], "return_code": 0}, 0),
        ({"status": ["SIGNALED"], "return_code": 0, "signal": {"signal_id": 15, "name": "TERM"}}, -15),
        ({"return_code": {"set": True, "number": 3}, "signal": {"id": {"set": False}}}, 3),
    ],
)
def test_an_exit_code_is_read_in_either_shape(value: object, meant: int) -> None:
    assert exit_code(value) == meant


def test_trackable_resources_are_read_with_their_units() -> None:
    assert tres("cpu=4,mem=2G,node=1,gres/gpu=2,billing=N/A") == {"cpu": 4, "mem": 2048, "node": 1, "gres/gpu": 2}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cn[1-3,7],login", ("cn1", "cn2", "cn3", "cn7", "login")),
        ("r[0-1]n[08-10]", ("r0n08", "r0n09", "r0n10", "r1n08", "r1n09", "r1n10")),
        ("one", ("one",)),
        ("", ()),
    ],
)
def test_a_host_list_is_expanded(text: str, names: tuple[str, ...]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize("text", ["cn[1-", "cn[3-1]", "cn[a]", "cn]1[", "cn[0-9999999]", "cn[1-60000],dn[1-60000]"])
def test_what_is_no_host_list_says_so(text: str) -> None:
    with pytest.raises(SlurmError) as e:
        expand(text)
    assert e.value.trouble is Trouble.GARBLED


@given(st.text(alphabet="cn0123456789[],- ", max_size=20))
def test_any_text_is_a_host_list_or_an_error(text: str) -> None:
    try:
        names = expand(text)
    except SlurmError:
        return
    assert all(names)


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", Trouble.UNREACHABLE),
        ("scontrol: fatal: Could not establish a configuration source", Trouble.UNREACHABLE),
        ("sacct: error: slurmdb_jobs_get: Query result exceeds size limit", Trouble.TOO_MUCH),
        ("sacct: error: Too wide of a date range in query", Trouble.TOO_MUCH),
        ("scontrol: unrecognized option '--json'", Trouble.UNSUPPORTED),
        ("slurm_update error: Access/permission denied", Trouble.DENIED),
        ("slurm_update error: Invalid node name specified", Trouble.NOT_FOUND),
        ("slurm_update error: Invalid node state specified", Trouble.CONFLICT),
        ("something else", Trouble.REFUSED),
    ],
)
def test_what_slurm_says_no_with_has_a_kind(said: str, trouble: Trouble) -> None:
    assert trouble_of(said) is trouble


def test_the_steps_of_running_jobs_are_read() -> None:
    lines = f"12.batch|2|1-00:00:10|{64 * 2**20}|{2**20}|0\n12.0|1|bad|x|y|z\nnonsense\n"
    first, second = step_stats(lines)
    assert (first.job_id, first.step, first.cpu_s, first.rss_mib) == (12, "batch", 2 * 86_410.0, 128.0)
    assert first.disk_mib == 2.0
    assert (second.cpu_s, second.rss_mib, second.disk_mib) == (None, None, None)


@pytest.mark.parametrize("text", ["", "{", '{"jobs": 3}', "[]", '{"other": []}'])
def test_an_answer_that_slurm_does_not_write_is_an_error_not_an_empty_queue(text: str) -> None:
    with pytest.raises(SlurmError) as e:
        SlurmCommands(lambda _argv, _stdin: text).jobs()
    assert e.value.trouble is Trouble.GARBLED


def test_an_error_inside_an_answer_is_raised() -> None:
    text = json.dumps({"jobs": [], "errors": [{"description": "Unable to contact slurm controller"}]})
    with pytest.raises(SlurmError) as e:
        SlurmCommands(lambda _argv, _stdin: text).jobs()
    assert e.value.trouble is Trouble.UNREACHABLE


def test_a_list_that_is_empty_because_it_was_too_long_is_no_list() -> None:
    text = json.dumps({"jobs": [], "errors": [{"description": "Query result exceeds size limit"}]})
    with pytest.raises(SlurmError) as e:
        SlurmCommands(lambda _argv, _stdin: text).ended(datetime.now(UTC), datetime.now(UTC))
    assert e.value.trouble is Trouble.TOO_MUCH


def test_what_is_not_answered_in_time_is_too_much(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(SlurmError) as e:
        SlurmCommands(run_command(wait_s=0.1)).jobs()
    assert e.value.trouble is Trouble.TOO_MUCH

    def late(*_a: object, **_k: object) -> httpx.Response:
        raise httpx.ReadTimeout("the read operation timed out")

    monkeypatch.setattr(httpx, "get", late)
    with pytest.raises(SlurmError) as e:
        SlurmRest("http://slurm", "root", lambda: "token").jobs()
    assert e.value.trouble is Trouble.TOO_MUCH


def test_nothing_found_is_an_answer() -> None:
    text = json.dumps({"jobs": [], "errors": [{"error": "Nothing found"}]})
    assert SlurmCommands(lambda _argv, _stdin: text).jobs() == ()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["job_id", "time", "state", "tres", "array", "het", "steps", "exit_code", "comment", "nodes"]),
        _JSON,
    )
)
@example({"steps": [None, {"time": None}]})
def test_an_accounted_job_of_any_shape_is_read(raw: dict[str, object]) -> None:
    """A field of another shape counts as not told: it may cost that field, never the pass."""
    job = AccountedJob.of(raw)
    assert job.cpus >= 0
    assert job.exit_code is None or job.is_over


def test_a_node_of_both_eras_says_the_same() -> None:
    older = {"name": "cn1", "state": "idle", "state_flags": ["CLOUD", "POWERED_DOWN"], "cpus": 2}
    newer = {"name": "cn1", "state": ["IDLE", "CLOUD", "POWERED_DOWN"], "cpus": 2}
    for raw in (older, newer):
        node = SlurmNode.of(raw)
        assert (node.name, node.state, node.is_gone, node.is_coming, node.cpus) == ("cn1", "IDLE", True, False, 2)


@pytest.mark.parametrize(
    ("status", "body", "trouble"),
    [
        (500, '{"errors": [{"errno": -1, "error": "Unspecified error"}], "jobs": []}', Trouble.UNREACHABLE),
        (500, '{"errors": [{"error": "Protocol authentication error"}], "jobs": []}', Trouble.DENIED),
        (200, '{"errors": [{"error": "Protocol authentication error"}], "jobs": []}', Trouble.DENIED),
        (401, "", Trouble.DENIED),
        (404, "not here", Trouble.UNSUPPORTED),
        (502, "<html>", Trouble.UNREACHABLE),
        (504, "<html>", Trouble.TOO_MUCH),
        (200, '{"jobs": [', Trouble.GARBLED),
    ],
)
def test_over_rest_a_failure_is_no_empty_queue(
    monkeypatch: pytest.MonkeyPatch, status: int, body: str, trouble: Trouble
) -> None:
    """22.05 says all of these, the first for a token that has expired."""
    monkeypatch.setattr(httpx, "get", lambda *_a, **_k: httpx.Response(status, text=body))
    with pytest.raises(SlurmError) as e:
        SlurmRest("http://slurm", "root", lambda: "token").jobs()
    assert e.value.trouble is trouble


@pytest.mark.parametrize(
    "body", ["", "<html>", '{"meta": {"Slurm": {"rel', "[]", '{"meta": 3}', '{"meta": {"slurm": []}}']
)
def test_over_rest_a_version_that_is_not_told_is_unknown_or_an_error(
    monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(httpx, "get", lambda *_a, **_k: httpx.Response(200, text=body))
    rest = SlurmRest("http://slurm", "root", lambda: "token")
    try:
        json.loads(body)
    except ValueError:
        with pytest.raises(SlurmError) as e:
            rest.version()
        assert e.value.trouble is Trouble.GARBLED
    else:
        assert rest.version() == "unknown"


def test_over_rest_the_token_is_asked_for_anew_and_only_sent_as_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, str]] = []

    def get(url: str, *, headers: dict[str, str], **_: object) -> httpx.Response:
        sent.append((url, headers["X-SLURM-USER-TOKEN"]))
        return httpx.Response(200, text='{"jobs": [{"job_id": 7, "job_state": "PENDING"}]}')

    monkeypatch.setattr(httpx, "get", get)
    tokens = iter(("one", "two"))
    rest = SlurmRest("http://slurm/", "root", lambda: next(tokens))
    assert [j.job_id for j in rest.jobs()] == [7]
    rest.jobs()
    assert sent == [("http://slurm/slurm/v0.0.38/jobs", "one"), ("http://slurm/slurm/v0.0.38/jobs", "two")]
