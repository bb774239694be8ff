"""The agent answers what it understands, says so where it does not, and is not held up by anyone."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from preprov.model.agent import Health, PreloadStatus, TaskStatus, Usage, decode_health, encode, task_folder
from preprov.model.nodes import Node, Phase
from tests.localnodes import LocalWorld


def connect(folder: Path) -> socket.socket:
    at = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(10)
        s.connect(f"/proc/self/fd/{at}/agent.sock")
        return s
    finally:
        os.close(at)


def say(folder: Path, text: bytes) -> dict[str, Any]:
    with connect(folder) as s:
        s.sendall(text)
        answer = json.loads(s.makefile().readline())
    assert isinstance(answer, dict)
    return answer


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"hello\n", "bad-request"),
        (b"[1]\n", "bad-request"),
        (b"{}\n", "bad-request"),
        (b'{"verb": "fly"}\n', "unknown-verb"),
        (b'{"verb": "start"}\n', "bad-request"),
        (b'{"verb": "shutdown", "standby": 7, "more": 1}\n', "bad-request"),
        (b'{"verb": "start", "claimant": "c", "argv": 5, "env": {}, "wanted": {"images": [{}]}}\n', "bad-request"),
        (b"\xff\xfe\n", "bad-request"),
    ],
)
def test_nonsense_is_answered_with_an_error_and_harms_nothing(
    world: LocalWorld, node: Node, text: bytes, error: str
) -> None:
    answer = say(world.folder(node), text)
    assert answer["ok"] is False
    assert answer["error"] == error
    assert world.node(node.node_id).phase is Phase.READY
    assert world.node(node.node_id).running == ()


def test_somebody_who_says_nothing_does_not_keep_others_waiting(world: LocalWorld, node: Node) -> None:
    silent = [connect(world.folder(node)) for _ in range(5)]
    silent[0].sendall(b'{"verb": "hea')
    assert world.node(node.node_id).phase is Phase.READY
    silent[0].sendall(b'lth"}\n')
    assert decode_health(silent[0].makefile("rb").readline()).node_id == node.node_id
    for s in silent:
        s.close()


def test_health_comes_back_as_it_was_sent() -> None:
    health = Health(
        node_id="n",
        phase="ready",
        at=1.5,
        pid=2,
        started_at=1.0,
        tasks=(TaskStatus("c", 3, 1.0, usage=(Usage(at=1.0, cpu=0.5),)),),
        preload=(PreloadStatus("k", "image", "verified", 3, 3, "sha256:0"),),
        stages={"boot": 1.0},
    )
    assert decode_health(encode(health)) == health


@pytest.mark.parametrize(
    ("line", "said"), [(b'{"protocol": 99}', "protocol 99"), (b"{}", "protocol None"), (b"no json", "Expecting value")]
)
def test_another_protocol_is_refused(line: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode_health(line)


@pytest.mark.parametrize("claimant", ["r/t#0", "../../etc/passwd", "a" * 500, "ü/Ω#1@2", "", "."])
def test_a_task_folder_is_one_safe_name(claimant: str) -> None:
    name = task_folder(claimant)
    assert name == task_folder(claimant)
    assert name != task_folder(claimant + "x")
    assert "/" not in name
    assert 12 < len(name) < 100
    assert not name.startswith(".")


def test_what_only_a_newer_agent_tells_is_left_out_of_what_is_understood() -> None:
    usage = Usage(at=1.0, cpu=0.5)
    task = TaskStatus("c", 7, 1.0, usage=(usage,))
    health = Health("n", "ready", 2.0, 5, 0.0, tasks=(task,), preload=(PreloadStatus("i", "image", "done"),))
    newer = json.loads(encode(health))
    for part in (newer, newer["tasks"][0], newer["tasks"][0]["usage"][0], newer["preload"][0]):
        part["of_tomorrow"] = {"x": 1}
    assert decode_health(json.dumps(newer).encode()) == health
