"""The cheapest course of a level through the states of the ladder, by dynamic programming over the steps.

A level runs, is kept in standby, or does not exist; the plan says which at each step, the same in all futures. What a
future does with it then is recourse: a level that is wanted and does not run is brought up at once, and its work waits
for the way back from the state it is in. So a step costs what the state costs, and each expected rise of demand costs
the way back from it: money for the node on its way, and the price of the waiting.

All bands and choices are solved at once; the work is one small array operation per step.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.model.pools import LeadTime, Standby
from preprov.planning.levels import COLD, REFUSED, RUN, STATES, Levels
from preprov.planning.offers import Choice

Array: TypeAlias = NDArray[Any]

HOLD_S: Final = 90.0
"""What was brought up for a rise stays about so long after it, before anybody lets it go."""
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
        money, wait: (T, G, B, 5) of a step in a state; waiting in USD. up_money, up_wait: (T, G, B, 5) of being ready
        at that step, by the state that it comes from. stock: (G,) of a launch straight into standby.
        allowed: (G, B, 5) states the band may be in with that choice, its present one included.
        unserved: (B,) USD of waiting if nobody ever serves a level of the band.
        size: (G,) levels that one node is.
    """

    money: Array
    wait: Array
    up_money: Array
    up_wait: Array
    stock: Array
    allowed: Array
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
        risk: choice -> USD per running hour that interruptions cost. states: choice -> standby states it may use.
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
    stock = np.zeros(g)
    allowed = np.zeros((g, b, REFUSED + 1), dtype=bool)
    needed, rises = levels.needed.T, levels.rises.T
    before = np.vstack([levels.busy[None, :], needed[:-1]])
    span_s = _span_s(levels, setting)
    price = setting.shortage[:, None] * setting.cores
    dt = setting.lengths_h[:, None]
    for i, (c, size) in enumerate(zip(setting.choices, setting.sizes, strict=True)):
        rate, risk = c.rate / size, setting.risk[i] / size
        money[:, i, :, RUN] = dt * (rate + risk * needed)
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
            money[:, i, :, k] = dt * (kept * (1 - needed) + (rate + risk) * needed) + rises * back
            wait[:, i, :, k] = rises * price * (lead.mean_s / _HOUR) + dt * needed * rate * _TIE
            ahead_s = np.minimum(lead.quantile(min(max(setting.level, 0.5), 0.99)), setting.begins_s)
            billed_h = np.maximum(ahead_s, minimum - setting.step_s) / _HOUR
            up_money[:, i, :, k] = rate * billed_h[:, None] * (1 - before)
            up_wait[:, i, :, k] = _late_h(lead, ahead_s, rises, setting.step_s) * price
            allowed[i, :, k] = state is Standby.COLD or state in setting.states[i]
        allowed[i, levels.owner == i, levels.state[levels.owner == i]] = True
        # Work that is refused waits, the longer the earlier, and has to be served at last.
        longer = 1.0 + _EARLIER * np.linspace(1.0, 0.0, t)[:, None]
        wait[:, i, :, REFUSED] = dt * needed * (price + 2 * rate) * longer
        up_money[:, i, :, REFUSED], up_wait[:, i, :, REFUSED] = up_money[:, i, :, COLD], up_wait[:, i, :, COLD]
    wait[..., 1:] += np.where(levels.must.T[:, None, :, None], 1e6, 0.0)
    unserved = wait[..., REFUSED].sum(axis=0).max(axis=0)
    return Terms(money, wait, up_money, up_wait, stock, allowed, unserved, np.array(setting.sizes))


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
    up = terms.up_money * factor[:, None, None, None] + terms.up_wait
    launch = prices.launch / terms.size
    up[..., COLD:] += launch[:, :, None, None]
    return stay, up, stock * factor[:, None] + launch


def _moves(g: int, b: int) -> Array:
    """(G, B, from, to) of what transitions cost; into RUN and from COLD into standby are filled in per step."""
    moves = np.zeros((g, b, REFUSED + 1, REFUSED + 1))
    moves[:, :, 1, 2] = np.inf
    moves[:, :, 2, 1] = np.inf
    return moves


def usage(terms: Terms, levels: Levels, choice: int, band: int, states: Array) -> tuple[Array, Array, Array, float]:
    """(T,) money, (T,) 1 where it runs, (T,) 1 where it is launched, and the whole cost of a course, per level."""
    t = np.arange(len(states))
    before = np.append(levels.state[band], states[:-1])
    into = (states == RUN) & (before != RUN)
    stocked = (before >= COLD) & (states < COLD) & (states != RUN)
    money = terms.money[t, choice, band, states] + stocked * terms.stock[choice]
    wait = terms.wait[t, choice, band, states].sum()
    money = money + np.where(into, terms.up_money[t, choice, band, before], 0.0)
    wait += np.where(into, terms.up_wait[t, choice, band, before], 0.0).sum()
    launched = (into & (before >= COLD)) | stocked
    return money, (states == RUN).astype(float), launched.astype(float), float(money.sum() + wait)
