"""Sentences that say why, with the figures behind them."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from preprov.model.offerings import LeadTime, Standby
from preprov.model.plans import ActionKind
from preprov.model.resources import KINDS
from preprov.planning.need import upper_quantile
from preprov.planning.scaledown import Fate
from preprov.planning.situation import Decision, Move, Situation

WORDS = {Standby.RUNNING: "keep", Standby.HIBERNATED: "hibernate", Standby.STOPPED: "stop", Standby.COLD: "end"}


class Words:
    """Puts moves of one situation into words."""

    def __init__(self, s: Situation, *, priced: bool) -> None:
        self.s = s
        self.zone = ZoneInfo(s.inputs.pool.zone)
        self.today = s.inputs.now.astimezone(self.zone).date()
        self.label = f"p{s.need.level * 100:.3g}" if s.need.level > 0.995 else f"p{s.need.level * 100:.0f}"
        self.priced = priced
        self.unit = "USD" if priced else "node-h"
        self.cores = upper_quantile(s.horizon.samples[:, :, KINDS.index("cpu")], s.need.level)

    def clock(self, seconds: float) -> str:
        """Local wall time, with the weekday if it is not today."""
        local = (self.s.inputs.now + timedelta(seconds=seconds)).astimezone(self.zone)
        return local.strftime("%H:%M" if local.date() == self.today else "%a %H:%M")

    def reason(self, m: Move) -> str:
        """The sentence of a move."""
        if m.kind.raises and m.state is not Standby.RUNNING:
            return f"{m.kind} {self._what(m)} into standby: {m.why}; {m.cost_usd:+.2f} {self.unit}"
        if m.kind.raises:
            return self._raise(m)
        if m.kind is ActionKind.DRAIN or m.fate is None:
            return f"{m.kind} {self._what(m)}: {m.why}"
        return self._end(m, m.fate)

    def numbers(self, m: Move) -> dict[str, float]:
        """The figures of a move."""
        out = {"from_nodes": float(m.lo), "to_nodes": float(m.hi), "service_level": self.s.need.level}
        if m.kind.raises:
            lead = self._lead(m)
            out |= {
                "due_cores": round(self._due_cores(m), 3),
                "ready_cores": round(m.lo * self.s.reference.cores, 3),
                "lead_median_s": round(lead.median_s, 1),
                "lead_p95_s": round(lead.p95_s, 1),
                "saves_core_hours": round(m.saves_core_h, 4),
                "due_in_s": round(max(m.due_s - m.at_s, 0.0), 1),
            }
        if m.kind.raises and m.state is not Standby.RUNNING:
            kept = [n for n in self.s.supply.standby if n.group == m.choice.group.name and n.standby is m.state]
            out["kept"] = float(len(kept))
        if m.fate is not None:
            out |= {f"cost_{WORDS[k]}": round(v, 6) for k, v in sorted(m.fate.costs.items())}
            out |= {"hold_s": round(m.fate.hold_s, 1), "break_even_s": round(m.fate.break_even_s, 1)}
        return out

    def hold(self, d: Decision, blocked: str) -> str:
        """Why nothing is done now."""
        s = self.s
        ready = len(s.supply.ready)
        have = f"{ready} ready" + (f", {len(s.supply.warming)} warming" if s.supply.warming else "")
        have += f", {len(s.supply.standby)} in standby" if s.supply.standby else ""
        target = int(s.cold_target()[0])
        until = self.clock(s.horizon.seconds_to(s.window(s.reference.lead)))
        text = f"hold: {have}; {target} needed until {until} ({self.label})"
        if blocked:
            return f"{text}; {blocked}"
        if d.votes:
            return f"{text}; {len(d.votes)} found superfluous, not for long enough yet"
        return text

    def _raise(self, m: Move) -> str:
        need, s = self.s.need, self.s
        lead = self._lead(m)
        if m.why:
            cause = m.why
        elif m.at_s == 0 and need.waiting >= m.hi and not s.inputs.waiting.is_zero:
            cause = f"{s.inputs.waiting.cpu:.4g} cores wait now"
        elif self._is_floor(m):
            cause = f"a floor of {m.hi} nodes from {self.clock(m.due_s)}" + self._override(m)
        else:
            cause = f"{self._due_cores(m):.4g} cores due {self.clock(m.due_s)} ({self.label})"
        come = f"lead {duration(lead.median_s)}" + (f" from {m.came_from}" if m.kind is ActionKind.START else "")
        return (
            f"{m.kind} {self._what(m)}: {cause}, {m.lo * s.reference.cores:.4g} ready, {come}; "
            f"{m.cost_usd:+.2f} {self.unit}, saves {m.saves_core_h:.2g} core-h of waiting"
        )

    def _end(self, m: Move, course: Fate) -> str:
        options = ", ".join(f"{WORDS[k]} {v:.3f}" for k, v in sorted(course.costs.items(), key=lambda kv: kv[1]))
        needed = int(self.s.cold_target()[0])
        ahead = f"{needed} needed" if m.at_s == 0 else f"not needed from {self.clock(m.at_s - course.hold_s)}"
        return (
            f"{m.kind} {self._what(m)}: {ahead}, superfluous for {duration(course.hold_s)}; "
            f"until the next use {options} {self.unit}; {m.cost_usd:+.2f} {self.unit}"
        )

    def _what(self, m: Move) -> str:
        return f"{m.count} x {m.choice.offering.instance_type}"

    def _lead(self, m: Move) -> LeadTime:
        return m.choice.standby_lead.get(m.came_from, m.choice.lead)

    def _due_step(self, m: Move) -> int:
        return min(self.s.horizon.step_at(m.due_s), self.s.horizon.steps - 1)

    def _due_cores(self, m: Move) -> float:
        return float(self.cores[self._due_step(m)])

    def _is_floor(self, m: Move) -> bool:
        return int(self.s.need.floor[self._due_step(m)]) >= m.hi

    def _override(self, m: Move) -> str:
        when = self.s.inputs.now + timedelta(seconds=m.due_s)
        said = [o.reason for o in self.s.inputs.overrides if o.since <= when < o.until and o.reason]
        return f" ({'; '.join(said)})" if said else ""


def duration(seconds: float) -> str:
    """45 s, 3 min, 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.2g} h"
