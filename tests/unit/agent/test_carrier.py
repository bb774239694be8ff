"""The carrier between the letter box of a cloud and a real agent: orders are heeded, what was verified is told."""

import base64
import hashlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from preprov.agent import disk
from preprov.agent.carrier import Carrier, Clocks, Settings, start_agent
from preprov.agent.clouds import CloudError, Machine
from preprov.launch.identity import Identity
from preprov.launch.remote import RemoteScheduler
from preprov.model.errors import ConflictError, PoolError
from preprov.model.nodes import Node, Phase
from preprov.model.notes import (
    CALLBACK,
    CREATED,
    DRAIN,
    FENCE,
    NOTICE,
    PRELOAD,
    SLURM_NODE,
    STARTED,
    Report,
    fence,
    read_report,
    spread,
)
from preprov.model.offerings import Offering
from preprov.model.resources import Resources
from preprov.model.time import from_epoch
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.sim.clock import VirtualClock
from preprov.testing.local_nodes import cleared
from preprov.testing.waiting import wait_until

NAME = "i-7"


class Box:
    """A letter box in memory."""

    name = "box"

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}
        self.posted: dict[str, str] = {}
        self.posts = 0
        self.warned: tuple[str, float] | None = None
        self.serves = True
        self.broken = False

    def machine(self) -> Machine:
        self._try()
        return Machine(NAME, "large", "zone-1", "127.0.0.1")

    def orders(self) -> Mapping[str, str]:
        self._try()
        return dict(self.notes)

    def post(self, notes: Mapping[str, str]) -> None:
        self._try()
        self.posts += 1
        self.posted.update(notes)

    def notice(self) -> tuple[str, float] | None:
        return self.warned

    def in_service(self) -> bool:
        return self.serves

    def _try(self) -> None:
        if self.broken:
            raise CloudError("no answer")

    @property
    def report(self) -> Report:
        found = read_report(self.posted)
        assert found is not None
        return found


class Host:
    """A machine with a carrier on it, whose clocks the test moves."""

    def __init__(self, home: Path, **settings: object) -> None:
        self.home, self.box = home, Box()
        self.at = self.up_s = 1_000_000.0
        self.boot = "first"
        self.settings = Settings(home=str(home / "nodes" / "cloud"), limits="rlimit", **settings)  # type: ignore[arg-type]
        self.carrier = self.began()

    def began(self) -> Carrier:
        """The carrier's program begins, after a boot or a crash."""
        clocks = Clocks(lambda: self.at, lambda: self.up_s, self.at, float, self.boot)
        return Carrier(self.box, self.settings, clocks)

    @property
    def node(self) -> disk.NodeDir:
        return disk.NodeDir(self.home / "nodes" / "cloud" / NAME)

    def passes(self, seconds: float) -> None:
        self.at += seconds
        self.up_s += seconds

    def until(self, phase: str) -> Report:
        def there() -> bool:
            self.passes(5)
            self.carrier.round()
            return self.box.report.health.phase == phase

        wait_until(there, what=f"the node to be {phase}")
        return self.box.report


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with cleared(tmp_path) as folder:
        yield folder


@pytest.fixture
def host(home: Path) -> Iterator[Host]:
    made = Host(home)
    yield made
    made.carrier.close()


def dataset(home: Path, sha256: str = "") -> dict[str, str]:
    (home / "a.csv").write_text("a\n")
    return {"key": "a@1", "uri": str(home / "a.csv"), "sha256": sha256 or hashlib.sha256(b"a\n").hexdigest()}


def order(*datasets: dict[str, str]) -> dict[str, str]:
    return spread(PRELOAD, {"images": [], "datasets": list(datasets)})


# ---- warm means verified


def test_a_node_says_that_it_is_ready_when_it_has_verified_what_it_was_told_to_hold(host: Host) -> None:
    host.box.notes = {**order(dataset(host.home)), CREATED: from_epoch(host.at - 60).isoformat()}
    report = host.until("ready")
    (held,) = report.health.preload
    assert (held.key, held.state) == ("a@1", "verified")
    assert report.came_from == "cold"
    assert report.health.stages["allocate"] == 60.0
    assert report.health.ready_at is not None


def test_a_wrong_checksum_is_told_and_never_ready(host: Host) -> None:
    host.box.notes = order(dataset(host.home, sha256="0" * 64))
    report = host.until("failed")
    assert "checksum" in report.health.reason


def test_more_to_hold_is_fetched_while_the_node_goes_on(host: Host) -> None:
    host.until("ready")
    host.box.notes = order(dataset(host.home))
    wait_until(
        lambda: host.carrier.round() or [p.state for p in host.box.report.health.preload] == ["verified"], what="it"
    )
    assert host.box.report.health.phase == "ready"


def test_the_user_datas_own_preload_needs_no_note(home: Path) -> None:
    host = Host(home, preload={"images": [], "datasets": [dataset(home)]})
    report = host.until("ready")
    assert [p.key for p in report.health.preload] == ["a@1"]
    host.carrier.close()


def test_packages_and_commands_of_the_user_data_come_first(home: Path) -> None:
    file = home / "setup.json"
    host = Host(home, setup=str(file))
    host.carrier.round()
    assert host.box.report.health.phase == "warming"
    file.write_text(json.dumps({"over": False, "steps": [], "now": "package jq"}))
    host.carrier.round()
    assert host.box.report.health.reason == "package jq"
    file.write_text(json.dumps({"over": True, "steps": [{"kind": "package", "key": "jq", "state": "verified"}]}))
    report = host.until("ready")
    assert [(p.kind, p.key, p.state) for p in report.health.preload] == [("package", "jq", "verified")]
    host.carrier.close()


def test_what_the_user_data_could_not_do_is_told_at_once(home: Path) -> None:
    steps = [{"kind": "command", "key": "make", "state": "failed", "error": "ended with 2"}]
    (home / "setup.json").write_text(json.dumps({"over": True, "steps": steps}))
    host = Host(home, setup=str(home / "setup.json"))
    report = host.until("failed")
    assert report.health.reason == "command make: ended with 2"
    assert not host.node.is_alive()


# ---- posts


def test_a_post_says_something_new_or_that_it_is_alive(host: Host) -> None:
    host.until("ready")
    before = host.box.posts
    for _ in range(5):
        host.passes(5)
        host.carrier.round()
    assert host.box.posts == before
    host.passes(200)
    host.carrier.round()
    assert host.box.posts == before + 1
    assert host.box.report.health.at == host.at


def test_what_could_not_be_posted_is_posted_later(host: Host) -> None:
    host.box.broken = True
    host.carrier.round()
    assert host.box.posted == {}
    host.box.broken = False
    host.until("ready")
    host.box.broken = True
    host.box.notes = {DRAIN: "yes"}
    host.passes(200)
    host.carrier.round()
    host.box.broken = False
    assert host.until("draining").health.phase == "draining"


# ---- orders


def test_a_fence_is_kept_and_acknowledged_and_ends_by_itself(host: Host) -> None:
    host.until("ready")
    host.box.notes = {FENCE: fence("n1", host.at + 60)}
    host.carrier.round()
    assert host.box.report.ack == "n1"
    host.passes(100)
    host.carrier.round()
    assert host.box.report.ack == ""


def test_a_drained_node_drains_until_it_is_told_otherwise(host: Host) -> None:
    host.until("ready")
    host.box.notes = {DRAIN: "yes"}
    host.until("draining")
    host.box.notes = {}
    host.until("ready")


def test_a_node_that_is_about_to_be_taken_says_so_and_takes_no_more(host: Host) -> None:
    host.until("ready")
    host.box.warned = ("interruption", host.at + 120)
    host.until("draining")
    assert host.box.posted[NOTICE] == f"interruption@{host.box.warned[1]:.0f}"


def test_a_rebalance_recommendation_is_passed_on_and_the_node_works_on(host: Host) -> None:
    host.until("ready")
    host.box.warned = ("rebalance", host.at)
    host.carrier.round()
    assert host.box.posted[NOTICE].startswith("rebalance@")
    assert host.box.report.health.phase == "ready"


# ---- standby and back


def test_after_a_stop_the_disk_is_read_again(host: Host) -> None:
    host.box.notes = order(dataset(host.home))
    host.until("ready")
    host.carrier.close()
    host.boot = "second"
    host.passes(300)
    host.carrier = host.began()
    report = host.until("ready")
    assert report.came_from == "stopped"
    data = next((host.node.disk / "datasets").glob("*/a.csv"))
    data.write_text("b\n")
    host.carrier.close()
    host.boot = "third"
    host.carrier = host.began()
    host.until("ready")
    assert data.read_text() == "a\n"


def test_a_sleep_with_its_memory_kept_shows_in_the_clocks(host: Host) -> None:
    host.until("ready")
    host.at += 3600
    host.carrier.round()
    report = host.until("ready")
    assert report.came_from == "hibernated"
    assert report.health.ready_at is not None
    assert report.health.ready_at > 0


def test_a_note_of_a_start_makes_a_node_warm_anew_once(host: Host) -> None:
    host.until("ready")
    host.box.notes = {STARTED: from_epoch(host.at + 10).isoformat()}
    host.passes(20)
    assert host.until("ready").came_from == "hibernated"
    serial = host.node.state()["serial"]
    host.until("ready")
    assert host.node.state()["serial"] == serial == 1


def test_a_carrier_that_crashed_finds_the_agent_as_it_was(host: Host) -> None:
    host.until("ready")
    pid = host.box.report.health.pid
    host.carrier = host.began()
    report = host.until("ready")
    assert (report.health.pid, report.came_from) == (pid, "cold")


# ---- joining


def test_a_node_joins_when_it_is_verified_and_handed_over_and_not_before(home: Path) -> None:
    host = Host(home, join=(("touch", str(home / "joined")),))
    host.box.serves = False
    host.until("ready")
    host.carrier.round()
    assert not (home / "joined").exists()
    host.box.serves = True
    host.carrier.round()
    host.carrier.round()
    assert (home / "joined").exists()
    host.carrier.close()


def test_what_joins_a_node_is_told_which_node_it_is(home: Path) -> None:
    host = Host(home, join=(("sh", "-c", f"echo $PREPROV_SLURM_NODE > {home}/joined"),))
    host.box.notes[SLURM_NODE] = "cn7"
    host.until("ready")
    assert (home / "joined").read_text() == "cn7\n"
    host.carrier.close()


def test_a_node_that_cannot_join_has_failed(home: Path) -> None:
    host = Host(home, join=(("sh", "-c", "echo no cluster >&2; exit 4"),))
    assert "ended with 4: no cluster" in host.until("failed").health.reason
    host.carrier.close()


# ---- tasks


@pytest.fixture
def open_host(home: Path) -> Iterator[Host]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make keys with")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Host(home, port=port)
    made.box.notes = Identity(home / "mine").notes()
    made.until("ready")
    yield made
    made.carrier.close()


def node_of(host: Host) -> Node:
    at = from_epoch(host.at)
    offering = Offering("large", Resources(cpu=1, memory=1))
    return Node(NAME, "p", "g", offering, Phase.READY, at, at, address=host.box.report.address)


def scheduler(host: Host, who: str = "mine") -> RemoteScheduler:
    def introduce(_: Node, notes: dict[str, str]) -> None:
        host.box.notes = {**host.box.notes, **notes}

    return RemoteScheduler("box", host.home / who, VirtualClock(from_epoch(host.at)), introduce)


def task(*command: str) -> TaskRun:
    return TaskRun("r", "t", "p", TaskSpec("t", command=command), "s", State.READY)


def test_a_task_runs_and_its_output_can_be_read(open_host: Host) -> None:
    mine, node = scheduler(open_host), node_of(open_host)
    mine.start(task("sh", "-c", "echo one; echo two"), 0, node)
    mine.start(task("sh", "-c", "echo one; echo two"), 0, node)
    wait_until(lambda: [r.exit_code for r in mine.poll([node])] == [0], what="the task to end")
    assert list(mine.logs("r/t#0")) == ["one", "two"]


def test_a_node_in_standby_takes_none(open_host: Host) -> None:
    open_host.box.serves = False
    open_host.carrier.round()
    with pytest.raises(ConflictError, match="handed over"):
        scheduler(open_host).start(task("true"), 0, node_of(open_host))


def test_whoever_is_not_introduced_is_not_heard_and_can_introduce_itself_by_a_note_only(open_host: Host) -> None:
    other, node = scheduler(open_host, "other"), node_of(open_host)
    with pytest.raises(ConflictError):
        other.start(task("true"), 0, node)
    open_host.carrier.round()
    other.start(task("true"), 0, node)
    with pytest.raises(ConflictError):
        scheduler(open_host).start(task("false"), 0, node)


def test_another_machine_at_the_address_is_not_told_anything(open_host: Host) -> None:
    node = node_of(open_host)
    host, _, _ = node.address.partition("#")
    with pytest.raises(PoolError, match="another machine"):
        scheduler(open_host).start(task("true"), 0, replace(node, address=f"{host}#{'0' * 64}"))


def test_outsiders_may_not_end_a_node(open_host: Host) -> None:
    answer = scheduler(open_host)._ask(node_of(open_host), "shutdown", standby="ended")
    assert answer is not None
    assert answer["error"] == "unknown-verb"


def test_without_a_certificate_the_door_stays_shut(open_host: Host) -> None:
    host, _, port = node_of(open_host).address.removeprefix("tls://").partition("#")[0].rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def knock() -> bytes:
        with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain) as s:
            s.sendall(b'{"verb": "health"}\n')
            return s.recv(100)

    with pytest.raises(OSError, match=r"(?i)certificate|reset|eof"):
        knock()


def test_the_notes_hold_no_secret(open_host: Host) -> None:
    key = subprocess.run(
        ["openssl", "pkey", "-in", str(Identity(open_host.home / "mine").file), "-outform", "DER"],
        capture_output=True,
        check=True,
    ).stdout
    certificate = base64.b64decode(Identity(open_host.home / "mine").certificate)
    assert key[36:68] not in certificate
    assert "PRIVATE" not in json.dumps([open_host.box.notes, open_host.box.posted])


def test_an_agent_can_be_started_out_of_a_program_of_its_own(home: Path) -> None:
    problem = start_agent(home / "nodes" / "cloud" / "nobody")
    assert problem != ""


# ---- a call to the controller


def test_it_calls_the_controller_once_its_report_is_posted(host: Host) -> None:
    """By the note that was left for it, on the way to ready; and never again."""
    heard: list[tuple[str, str, str]] = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.path, self.headers["Authorization"], host.box.report.health.phase))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        host.box.notes = spread(CALLBACK, {"url": url, "pool": "p", "token": "preprov_a_b"})
        host.until("ready")
        for _ in range(3):
            host.carrier.round()
        server.shutdown()
    assert heard == [(f"/v1/nodes/{NAME}/state", "Bearer preprov_a_b", "ready")]
