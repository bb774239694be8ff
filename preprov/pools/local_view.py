"""From a node's files and its agent's answer to the `Node` everybody else sees."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from preprov.model.agent import Gpu, Health, decode_health
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Standby
from preprov.model.time import Timescale
from preprov.pools.local_disk import NodeFiles, offering_from_json

_ABOUT: Final = "its agent is about to start"
_LIMITS: Final = "preprov:limits"
_GPUS: Final = "preprov:gpus"
"""How many its machine has that work; no such tag = nobody can tell."""


@dataclass(frozen=True)
class Seen:
    """One node with what was found out about it.

    Attributes:
        answer: its agent's health; None if it did not answer, or was not asked because it sleeps.
        found: tasks that live there, found without its agent; None if nobody looked.
    """

    files: NodeFiles
    answer: Health | None = None
    found: tuple[str, ...] | None = None


def health(line: bytes | None) -> Health | None:
    """Parse an answer; None if there is none or it is not of our protocol."""
    if line is None:
        return None
    try:
        return decode_health(line)
    except (ValueError, TypeError, AttributeError):
        return None


def node(seen: Seen, scale: Timescale, now: float, ttl_s: float) -> Node | None:
    """The node as of wall time `now`; None if it has ended.

    Args:
        seen: files and answer.
        scale: how wall time is shown.
        now: epoch seconds.
        ttl_s: silence beyond which it is lost, in seconds of the clock.
    """
    files, state = seen.files, seen.files.state
    if files.standby == "ended":
        return None
    bare = _bare(files, scale)
    if seen.answer is not None:
        return _answered(bare, seen.answer, scale)
    if files.called:
        order = files.facts["warming"]
        since, came_from = scale.instant(float(order["at"])), Standby(order["from"])
        return replace(bare, since=since, ready_at=None, came_from=came_from, reason=_ABOUT)
    if files.standby in ("stopped", "hibernated"):
        return _resting(bare, files)
    silent_s = (now - (files.heartbeat or float(files.facts["created_at"]))) * scale.speed
    if files.half_made and silent_s <= ttl_s:
        return replace(bare, phase=Phase.WARMING, reason=_ABOUT)
    if files.alive and silent_s <= ttl_s:
        phase = Phase(state.get("phase", Phase.WARMING))
        return replace(bare, phase=phase, running=None, reason="its agent has not answered in time")
    why = f"its agent has been silent for {silent_s:.0f} s" if files.alive else "its agent is gone"
    return replace(bare, phase=Phase.LOST, running=seen.found, reason=why)


def _bare(files: NodeFiles, scale: Timescale) -> Node:
    """What the files say."""
    facts, state = files.facts, files.state
    created = float(facts["created_at"])
    return Node(
        node_id=files.node_id,
        pool=str(facts["pool"]),
        group=str(facts["group"]),
        offering=offering_from_json(facts["offering"]),
        phase=Phase.WARMING,
        created_at=scale.instant(created),
        since=scale.instant(float(state.get("since") or created)),
        ready_at=scale.instant(state["ready_at"]) if state.get("ready_at") is not None else None,
        foreign=(),
        preloaded=frozenset(state.get("verified", ())),
        last_seen=scale.instant(files.heartbeat) if files.heartbeat is not None else None,
        token=str(facts["token"]),
        reason=str(state.get("reason", "")),
        tags={**facts["tags"], _LIMITS: str(state.get("limits", ""))},
        stages={k: v * scale.speed for k, v in state.get("stages", {}).items()},
        came_from=Standby(state.get("came_from", facts["warming"]["from"])),
        address=f"unix:{files.path / 'agent.sock'}",
    )


def _answered(bare: Node, answer: Health, scale: Timescale) -> Node:
    """The agent knows better than the files, which it may have written since."""
    verified = frozenset(p.digest if p.kind == "image" else p.key for p in answer.preload if p.state == "verified")
    return replace(
        bare,
        phase=Phase(answer.phase),
        ready_at=scale.instant(answer.ready_at) if answer.ready_at is not None else None,
        running=tuple(t.claimant for t in answer.tasks),
        preloaded=verified,
        last_seen=scale.instant(answer.at),
        progress=answer.progress,
        reason=answer.reason or _too_few(bare, answer),
        tags={**bare.tags, _LIMITS: answer.limits, **_gpus(answer)},
        stages={k: v * scale.speed for k, v in answer.stages.items()},
        devices=answer.gpus,
    )


def _gpus(answer: Health) -> dict[str, str]:
    return {} if answer.gpus is None else {_GPUS: str(_working(answer.gpus))}


def _too_few(bare: Node, answer: Health) -> str:
    """Why tasks that ask for GPUs wait on a node that seems to have them; "" where nobody can tell."""
    declared = bare.offering.capacity.gpu
    if answer.gpus is None or _working(answer.gpus) >= declared:
        return ""
    return f"{declared:g} GPUs are declared, {_working(answer.gpus)} of its machine work"


def _working(gpus: Iterable[Gpu]) -> int:
    return sum(g.state == "ok" for g in gpus)


def _resting(bare: Node, files: NodeFiles) -> Node:
    if files.standby == "hibernated" and files.alive:
        return replace(bare, phase=Phase.HIBERNATED)
    lost = "its memory is gone, its disk is kept" if files.standby == "hibernated" else ""
    return replace(bare, phase=Phase.STOPPED, reason=lost)


def refusal(line: bytes | None) -> tuple[str, str]:
    """(error, detail) of an answer; error "" if it was met, "silent" if there was none."""
    if line is None:
        return "silent", "its agent did not answer"
    raw: dict[str, Any] = json.loads(line)
    return ("", "") if raw.get("ok") else (str(raw.get("error", "failed")), str(raw.get("detail", "")))
