"""The cheapest course of a level through the states of the ladder, by dynamic programming over the steps.

A level runs, is kept in standby, or does not exist; the plan says which at each step, the same in all futures. What a
future does with it then is recourse: a level that is wanted and does not run is brought up at once, and its work waits
for the way back from the state it is in. So a step costs what the state costs, and each expected rise of demand costs
the way back from it: money for the node on its way, and the price of the waiting.

All bands and choices are solved at once; the work is one small array operation per step.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.offerings import LeadTime, Standby
from preprov.planning.levels import COLD, REFUSED, RUN, STATES, Levels
from preprov.planning.offers import Choice

Array: TypeAlias = NDArray[Any]

HOLD_S: Final = 90.0
"""What was brought up for a rise stays about so long after it, before anybody lets it go."""
FLOOR_USD: Final = 1e6
"""Price of a level and step that a floor asks for and that does not run."""
PROMISE_USD: Final = 1e4
"""The same of a hit rate that was promised. An hour of the one outweighs a day of the other, and that any waiting."""
_LATE_STEPS: Final = 12
_TIE: Final = 1e-6
"""Between equals, what is wanted runs."""
_EARLIER: Final = 0.05
_HOUR: Final = 3600.0


@dataclass(frozen=True)
class Terms:
    """What time, rises and transitions cost, of G choices, B bands, T steps, the four STATES and REFUSED.

    Money and waiting are kept apart: a budget is about money.

    Attributes:
        money, wait: (T, G, B, 5) of a step in a state; waiting in USD, what interruptions cost and fines included.
        up_money, up_wait: (T, G, B, 5) of being ready at that step, by the state that it comes from.
        way_s: (T, G, 5) seconds of the way before that step. early: (T, G, 5) share of up_money that is paid on the
        way; the rest is paid in the step. ends_s: (T,) seconds from now to the end of each step.
        stock: (G,) of a launch straight into standby.
        allowed: (G, B, 5) states the band may be in with that choice, its present one included.
        fines: (T, B) for a level that has to run and does not; in `wait`.
        unserved: (B,) USD of waiting if nobody ever serves a level of the band.
        size: (G,) levels that one node is.
    """

    money: Array
    wait: Array
    up_money: Array
    up_wait: Array
    way_s: Array
    early: Array
    ends_s: Array
    stock: Array
    allowed: Array
    fines: Array
    unserved: Array
    size: Array


@dataclass(frozen=True)
class Courses:
    """The cheapest course of each band with each choice.

    Attributes:
        cost: (G, B) per level, prices of constraints included; inf = impossible. states: (G, B, T) index into STATES.
    """

    cost: Array
    states: Array


@dataclass(frozen=True)
class Setting:
    """What the terms are made from.

    Attributes:
        choices: of the levels. sizes: levels that one node of each is. cores: of a level.
        lengths_h: (T,) of the steps. begins_s: (T,) seconds from now. step_s: of a whole step.
        shortage: (T,) USD per core-hour of waiting. level: share of launches that are to be ready in time.
        risk: choice -> USD per running hour that interruptions cost: no budget's money, as there is never more billed
        at once. states: choice -> standby states it may use.
    """

    choices: list[Choice]
    sizes: list[float]
    cores: float
    lengths_h: Array
    begins_s: Array
    step_s: float
    shortage: Array
    level: float
    risk: list[float]
    states: list[frozenset[Standby]]


def terms_of(setting: Setting, levels: Levels) -> Terms:
    """Price everything a course may do."""
    g, (b, t) = len(setting.choices), levels.needed.shape
    money, wait, up_money, up_wait = (np.zeros((t, g, b, REFUSED + 1)) for _ in range(4))
    way_s, early = np.zeros((t, g, REFUSED + 1)), np.zeros((t, g, REFUSED + 1))
    stock = np.zeros(g)
    allowed = np.zeros((g, b, REFUSED + 1), dtype=bool)
    needed, rises = levels.needed.T, levels.rises.T
    before = np.vstack([levels.busy[None, :], needed[:-1]])
    span_s = _span_s(levels, setting)
    price = setting.shortage[:, None] * setting.cores
    dt = setting.lengths_h[:, None]
    for i, (c, size) in enumerate(zip(setting.choices, setting.sizes, strict=True)):
        rate, risk = c.rate / size, setting.risk[i] / size
        money[:, i, :, RUN] = dt * rate
        wait[:, i, :, RUN] = dt * (risk * needed)
        stock[i] = rate * max(c.lead.mean_s, c.offering.minimum_billing_s) / _HOUR
        for k, state in enumerate(STATES):
            if state is Standby.RUNNING:
                allowed[i, :, k] = True
                continue
            lead = c.lead if state is Standby.COLD else c.standby_lead.get(state, c.lead)
            kept = c.in_state(state) / size
            minimum = c.offering.minimum_billing_s if state is Standby.COLD else 0.0
            extra_h = np.maximum(minimum - lead.mean_s - HOLD_S - span_s, 0.0) / _HOUR
            back = rate * ((lead.mean_s + HOLD_S) / _HOUR + extra_h)
            money[:, i, :, k] = dt * (kept * (1 - needed) + rate * needed) + rises * back
            wait[:, i, :, k] = rises * price * (lead.mean_s / _HOUR) + dt * needed * (rate * _TIE + risk)
            ahead_s = np.minimum(lead.quantile(min(max(setting.level, 0.5), 0.99)), setting.begins_s)
            billed_h = np.maximum(ahead_s, minimum - setting.step_s) / _HOUR
            up_money[:, i, :, k] = rate * billed_h[:, None] * (1 - before)
            way_s[:, i, k], early[:, i, k] = ahead_s, ahead_s / np.maximum(billed_h * _HOUR, 1e-9)
            up_wait[:, i, :, k] = _late_h(lead, ahead_s, rises, setting.step_s) * price
            allowed[i, :, k] = state is Standby.COLD or state in setting.states[i]
        allowed[i, levels.owner == i, levels.state[levels.owner == i]] = True
        # Work that is refused waits, the longer the earlier, and has to be served at last.
        wait[:, i, :, REFUSED] = dt * needed * (price + 2 * rate) * _longer(t)
        up_money[:, i, :, REFUSED], up_wait[:, i, :, REFUSED] = up_money[:, i, :, COLD], up_wait[:, i, :, COLD]
        way_s[:, i, REFUSED], early[:, i, REFUSED] = way_s[:, i, COLD], early[:, i, COLD]
    fines = _fines(levels)
    wait[..., 1:] += fines[:, None, :, None]
    unserved = wait[..., REFUSED].sum(axis=0).max(axis=0)
    ends_s = setting.begins_s + setting.lengths_h * _HOUR
    return Terms(
        money,
        wait,
        up_money,
        up_wait,
        way_s,
        early,
        ends_s,
        stock,
        allowed,
        fines,
        unserved,
        np.array(setting.sizes),
    )


def _longer(steps: int) -> Array:
    """(T, 1) what is not served waits the longer the earlier."""
    out: Array = 1.0 + _EARLIER * np.linspace(1.0, 0.0, steps)[:, None]
    return out


def _fines(levels: Levels) -> Array:
    """(T, B) USD for a level that has to run and does not.

    Of a promise, the levels that more futures want come first, and the lower ones: so pools with the same promise that
    share a quota have about the same share of what they want. And what is sooner comes before what is later.
    """
    promised = PROMISE_USD * (1.0 + levels.needed.T * (1.0 - levels.depth.T)) * _longer(levels.must.shape[1])
    return np.where(levels.floor.T, FLOOR_USD, np.where(levels.must.T, promised, 0.0))


def _span_s(levels: Levels, setting: Setting) -> Array:
    """(B,) seconds that a level is wanted for at a time."""
    hours = (levels.needed * setting.lengths_h).sum(axis=1)
    spans: Array = hours / np.maximum(levels.rises.sum(axis=1), 1e-9) * _HOUR
    return spans


def _late_h(lead: LeadTime, ahead_s: Array, rises: Array, step_s: float) -> Array:
    """(T, B) expected hours that rises wait for a node ordered `ahead_s` (T,) before its step begins."""
    out = np.zeros(rises.shape)
    for j in range(_LATE_STEPS):
        late = expected_beyond(lead, ahead_s + j * step_s) / _HOUR
        if late.max() < 1e-6:
            break
        out[: len(out) - j] += rises[j:] * late[: len(out) - j, None]
    return out


def expected_beyond(lead: LeadTime, seconds: Array) -> Array:
    """E[(lead - seconds)+] of the lognormal, per element."""
    if lead.median_s == 0 or lead.sigma < 1e-9:
        return np.maximum(lead.median_s - seconds, 0.0)
    unit = NormalDist()
    grid, place = np.unique(seconds, return_inverse=True)
    out = np.empty(len(grid))
    for i, x in enumerate(grid.tolist()):
        if x <= 0:
            out[i] = lead.mean_s - x
            continue
        z = (np.log(x / lead.median_s)) / lead.sigma
        out[i] = lead.mean_s * unit.cdf(lead.sigma - z) - x * unit.cdf(-z)
    return np.maximum(out[place], 0.0)


def cheapest(terms: Terms, levels: Levels, prices: "Prices | None" = None) -> Courses:
    """The cheapest course per band and choice.

    Args:
        terms: what things cost. levels: where the bands are now.
        prices: of scarce things, per step; None = nothing is scarce.

    A band that belongs to nodes of one choice goes on with that one; its cost with any other is inf.
    """
    steps, g, b, _ = terms.money.shape
    stay, up, stock = _priced(terms, prices)
    allowed = terms.allowed.copy()
    allowed[..., REFUSED] = prices is not None
    forbidden = np.where(allowed, 0.0, np.inf)
    value = np.full((g, b, REFUSED + 1), np.inf)
    value[:, np.arange(b), levels.state] = 0.0
    foreign = (levels.owner[None, :] >= 0) & (levels.owner[None, :] != np.arange(g)[:, None])
    value[foreign] = np.inf
    came = np.empty((steps, *value.shape), dtype=np.int8)
    moves = _moves(g, b)
    for t in range(steps):
        moves[..., RUN] = up[t]
        moves[..., COLD:, 1:COLD] = stock[t][:, None, None, None]
        through = value[..., :, None] + moves
        came[t] = through.argmin(axis=2)
        value = through.min(axis=2) + stay[t] + forbidden
    states = np.empty((g, b, steps), dtype=np.int8)
    last = value.argmin(axis=2)
    gi, bi = np.indices((g, b))
    for t in range(steps - 1, -1, -1):
        states[..., t] = last
        last = came[t][gi, bi, last]
    return Courses(value.min(axis=2), states)


@dataclass(frozen=True)
class Prices:
    """Of scarce things, in USD.

    Attributes:
        spend: (T,) added to each dollar spent at that step. run: (T, G) per node running. launch: (T, G) per launch.
    """

    spend: Array
    run: Array
    launch: Array


def _priced(terms: Terms, prices: Prices | None) -> tuple[Array, Array, Array]:
    """(T, G, B, 5) of staying, of coming up, and (T, G) of stocking, constraints included."""
    steps, g = terms.money.shape[:2]
    stock = np.broadcast_to(terms.stock, (steps, g))
    if prices is None:
        return terms.money + terms.wait, terms.up_money + terms.up_wait, stock
    factor = 1.0 + prices.spend
    stay = terms.money * factor[:, None, None, None] + terms.wait
    stay[..., RUN] += (prices.run / terms.size)[:, :, None]
    up = terms.up_money * (1.0 + _on_the_way(terms, prices.spend))[:, :, None, :] + terms.up_wait
    launch = prices.launch / terms.size
    up[..., COLD:] += launch[:, :, None, None]
    return stay, up, stock * factor[:, None] + launch


def _on_the_way(terms: Terms, spend: Array) -> Array:
    """(T, G, 5) price added to each dollar of being ready at a step: most of it is spent in the steps before."""
    if not spend.any():
        return np.zeros((len(spend), 1, 1))
    edges = np.append(0.0, terms.ends_s)
    paid = np.append(0.0, np.cumsum(spend * np.diff(edges)))
    begins = edges[:-1, None, None]
    way = paid[:-1, None, None] - np.interp(begins - terms.way_s, edges, paid)
    out: Array = spend[:, None, None] * (1.0 - terms.early) + terms.early * way / np.maximum(terms.way_s, 1e-9)
    return out


def _moves(g: int, b: int) -> Array:
    """(G, B, from, to) of what transitions cost; into RUN and from COLD into standby are filled in per step."""
    moves = np.zeros((g, b, REFUSED + 1, REFUSED + 1))
    moves[:, :, 1, 2] = np.inf
    moves[:, :, 2, 1] = np.inf
    return moves


class Used(NamedTuple):
    """What a course comes to, per level.

    Attributes:
        money: (T,) USD. run, launch: (T,) 1 where it runs, where it is launched. cost: USD, waiting and fines included.
        fines: of that, for steps in which it has to run and does not.
    """

    money: Array
    run: Array
    launch: Array
    cost: float
    fines: float


def usage(terms: Terms, levels: Levels, choice: int, band: int, states: Array) -> Used:
    """What a course of states (T,) of one level of a band takes and costs with a choice."""
    t = np.arange(len(states))
    before = np.append(levels.state[band], states[:-1])
    into = (states == RUN) & (before != RUN)
    stocked = (before >= COLD) & (states < COLD) & (states != RUN)
    money = terms.money[t, choice, band, states] + stocked * terms.stock[choice]
    wait = terms.wait[t, choice, band, states].sum()
    for i in np.flatnonzero(into).tolist():
        money[: i + 1] += _paid(terms, choice, i, int(before[i])) * terms.up_money[i, choice, band, before[i]]
    wait += np.where(into, terms.up_wait[t, choice, band, before], 0.0).sum()
    launched = (into & (before >= COLD)) | stocked
    fines = float(terms.fines[states != RUN, band].sum())
    return Used(money, (states == RUN).astype(float), launched.astype(float), float(money.sum() + wait), fines)


def _paid(terms: Terms, choice: int, step: int, came: int) -> Array:
    """(step + 1,) shares of what being ready at a step costs, by the step in which it is paid."""
    edges = np.append(0.0, terms.ends_s[: step + 1])
    way_s, early = terms.way_s[step, choice, came], terms.early[step, choice, came]
    inside = np.diff(np.clip(edges, edges[-2] - way_s, edges[-2])) / max(way_s, 1e-9)
    out: Array = early * inside
    out[-1] += 1.0 - early
    return out
