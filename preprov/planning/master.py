"""Courses put together under what is scarce: an integer programme over columns, solved by HiGHS.

A column is a course of one level of a band with one offering. How many levels of each band take which column is chosen
at least cost within the rows (quotas, budgets, ramps, minima), of one pool or of several that share them. New columns
are priced out by the dynamic programme until none is worth having (Dantzig and Wolfe), then counts are made whole.

Caps are kept whatever they cost: a level may always be left to its fate, which takes nothing of any row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.planning.courses import Courses, Prices, Terms, cheapest, usage
from preprov.planning.levels import REFUSED, Levels
from preprov.planning.rows import EPS, UNSERVED, Column, Row, Weights, amounts

Array: TypeAlias = NDArray[Any]

ROUNDS: Final = 8
CUTS: Final = 8
_MINIMUM_USD: Final = 1e6
"""Price of a node and step that a group is short of its minimum, where a cap leaves no room for it: a floor's."""
MIP_NODES: Final = 50
"""Work is bounded by counts, so that equal inputs make equal plans; the clock is the last resort."""
MIP_GAP: Final = 2e-3
"""A plan that is made again in minutes need not be better than this."""


@dataclass(frozen=True)
class Problem:
    """One pool's part.

    Attributes:
        name: of the pool. group_names: of its groups.
        most_usd: (T,) to be spent within each step; None = no limit.
        groups: (G,) index of the group of each choice.
        most_launches: (groups,) launches within one step. least_running: (groups,) that always run.
    """

    name: str
    group_names: tuple[str, ...]
    terms: Terms
    levels: Levels
    most_usd: Array | None
    groups: Array
    most_launches: Array
    least_running: Array


@dataclass(frozen=True)
class Solution:
    """What was chosen.

    Attributes:
        taken: (column, levels) per pool. cost: USD in all, fines included. bound: no plan of these bands costs less.
        binding: names of the limits that hold something back. beyond: of those that are not kept: the rounds or the
        time ran out. solver: "highs", or "dynamic programme" where nothing is scarce and each level's own best course
        is the best of all.
    """

    taken: tuple[tuple[tuple[Column, int], ...], ...]
    cost: float
    bound: float
    solver: str
    seconds: float
    binding: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()

    @property
    def gap(self) -> float:
        """Share of the cost that a better plan could save at most."""
        return max(self.cost - self.bound, 0.0) / max(abs(self.cost), 1e-9)


class SolverError(RuntimeError):
    """The programme was not solved; the caller falls back."""


def solve(problems: Sequence[Problem], rows: Sequence[Row], *, time_limit_s: float = 5.0) -> Solution:
    """Choose courses for all levels of all pools.

    Raises:
        SolverError: HiGHS did not find a solution in time.
    """
    began = perf_counter()
    master = _Master(problems, rows)
    master.price_out(None)
    taken = master.own_best()
    cost = bound = sum(c.cost * n for c, n in taken)
    solver = "dynamic programme"
    broken = master.broken(taken)
    for _ in range(CUTS):
        if not broken or perf_counter() - began > time_limit_s:
            break
        solver = "highs"
        master.take_up(broken)
        bound = max(master.converge(began + time_limit_s / 2), 0.0)
        taken, cost = master.whole(max(time_limit_s - (perf_counter() - began), 0.2))
        broken = master.broken(taken)
    return Solution(
        _by_pool(taken, len(problems)),
        cost,
        min(bound, cost),
        solver,
        perf_counter() - began,
        _names(problems, master.rows),
        _names(problems, broken),
    )


def _names(problems: Sequence[Problem], rows: Sequence[Row]) -> tuple[str, ...]:
    """Of limits, each once: one of single steps by its pool or group."""
    out = []
    for row in rows:
        name = row.name
        if row.at is not None:
            what, p, k = row.of_steps
            pool = problems[p]
            name = f"{what} of {pool.name}" + ("" if what == "max_usd_per_hour" else f"/{pool.group_names[k]}")
        out.append(name)
    return tuple(dict.fromkeys(out))


def _by_pool(taken: list[tuple[Column, int]], pools: int) -> tuple[tuple[tuple[Column, int], ...], ...]:
    return tuple(tuple((c, n) for c, n in taken if c.pool == p) for p in range(pools))


@dataclass(frozen=True)
class _Relaxed:
    """Duals of the linear programme: (R,) per row (>= 0, a price) and per band."""

    rows: Array
    bands: Array


class _Master:
    def __init__(self, problems: Sequence[Problem], rows: Sequence[Row]) -> None:
        self.problems = problems
        self.asked = list(rows)
        self.rows: list[Row] = []
        self.columns: list[Column] = []
        self.widths = [np.asarray(p.levels.width, dtype=float) for p in problems]
        self.offset = np.cumsum([0, *(len(w) for w in self.widths)])
        self._known: set[tuple[int, int, int, bytes]] = set()
        self._best: list[Column] = []
        self._use = np.zeros((0, 0))
        """(R, C) of the rows and columns there are."""
        self._fractions, self._short_usd = np.zeros(0), 0.0
        self._limits: set[tuple[str, int, int]] = set()
        """(what, pool, group) of the limits of single steps that were taken up."""

    # ------------------------------------------------------------------ columns

    def price_out(self, relaxed: _Relaxed | None) -> tuple[int, float]:
        """Add the columns worth having at the duals; how many there were, and the Lagrangian bound."""
        found, bound = 0, 0.0
        for p, problem in enumerate(self.problems):
            courses = cheapest(problem.terms, problem.levels, self._prices(p, relaxed))
            if relaxed is None:
                self._first(p, problem, courses)
                continue
            cost = courses.cost + self._per_level(p, relaxed)
            dual = relaxed.bands[self.offset[p] : self.offset[p + 1]]
            best = np.minimum(cost.min(axis=0), problem.terms.unserved)
            bound += float(best @ self.widths[p])
            for g, b in zip(*np.nonzero(cost < dual - 1e-6 * (1 + abs(dual))), strict=True):
                found += self._add(p, int(b), int(g), courses.states[g, b])
        if relaxed is not None:
            bound -= float((self._signs() * relaxed.rows) @ np.array([r.limit for r in self.rows]))
        return found, bound

    def _first(self, p: int, problem: Problem, courses: Courses) -> None:
        finite = np.isfinite(courses.cost)
        terms = problem.terms
        steps = courses.states.shape[2]
        fines = terms.fines.sum(axis=0)
        for b in range(courses.cost.shape[1]):
            for g in np.flatnonzero(finite[:, b]).tolist():
                self._add(p, b, g, courses.states[g, b])
            nothing = np.zeros(steps)
            gone = np.full(steps, REFUSED, dtype=np.int8)
            left = Column(p, b, UNSERVED, 1.0, gone, float(terms.unserved[b]), float(fines[b]), *[nothing] * 3)
            self.columns.append(left)
            g = int(courses.cost[:, b].argmin()) if finite[:, b].any() else UNSERVED
            self._best.append(self._column(p, b, g) if g >= 0 else left)

    def _column(self, p: int, b: int, g: int) -> Column:
        return next(c for c in reversed(self.columns) if (c.pool, c.band, c.choice) == (p, b, g))

    def _add(self, p: int, b: int, g: int, states: Array) -> int:
        key = (p, b, g, states.tobytes())
        if key in self._known:
            return 0
        self._known.add(key)
        problem = self.problems[p]
        used = usage(problem.terms, problem.levels, g, b, states)
        size = float(problem.terms.size[g])
        self.columns.append(Column(p, b, g, size, states, used.cost, used.fines, used.money, used.run, used.launch))
        return 1

    def own_best(self) -> list[tuple[Column, int]]:
        """Each level's own best course."""
        return [(c, int(self.widths[c.pool][c.band])) for c in self._best]

    def converge(self, until: float) -> float:
        """Price out columns until none is worth having; the best bound seen."""
        bound = -np.inf
        for _ in range(ROUNDS):
            try:
                relaxed = self.relax(max(until - perf_counter(), 0.1))
            except SolverError:
                if not np.isfinite(bound):
                    raise
                break  # what was found in the round before is good enough
            found, lagrangian = self.price_out(relaxed)
            bound = max(bound, lagrangian)
            if not found or perf_counter() > until:
                break
        return bound

    # ------------------------------------------------------------------ rows

    def broken(self, taken: Sequence[tuple[Column, int]]) -> list[Row]:
        """Rows not taken up yet that these counts break."""
        names = {r.name for r in self.rows}
        asked = [r for r in self.asked if r.name not in names]
        total = amounts(asked, [c for c, _ in taken]) @ np.array([float(n) for _, n in taken])
        out = [r for r, x in zip(asked, total.tolist(), strict=True) if r.is_broken(x)]
        for p, problem in enumerate(self.problems):
            own = [(c, n) for c, n in taken if c.pool == p and c.choice != UNSERVED]
            out.extend(r for r in _steps_broken(p, problem, own) if r.name not in names)
        return out

    def take_up(self, broken: Sequence[Row]) -> None:
        """Keep to these rows from now on.

        What breaks a limit of single steps once more has gone to where no row was: then all its steps are taken up.
        """
        self._note()
        new = {r.name: r for r in broken}
        for what, p, k in sorted({r.of_steps for r in broken if r.at is not None} & self._limits):
            problem = self.problems[p]
            for row in (_row_of_step(p, problem, what, k, t) for t in range(len(problem.terms.money))):
                new.setdefault(row.name, row)
        names = {r.name for r in self.rows}
        rows = [r for name, r in new.items() if name not in names]
        self._limits |= {r.of_steps for r in rows if r.at is not None}
        self.rows.extend(rows)
        self._use = np.vstack([self._use, amounts(rows, self.columns)])

    def _note(self) -> None:
        """Fill in what the newest columns take."""
        new = self.columns[self._use.shape[1] :]
        if new:
            self._use = np.hstack([self._use, amounts(self.rows, new)])

    def _signs(self) -> Array:
        return np.array([-1.0 if r.least else 1.0 for r in self.rows])

    def _prices(self, p: int, relaxed: _Relaxed | None) -> Prices | None:
        if relaxed is None:
            return None
        t, g = self.problems[p].terms.money.shape[:2]
        spend, run, launch = np.zeros(t), np.zeros((t, g)), np.zeros((t, g))
        for row, dual in zip(self.rows, (relaxed.rows * self._signs()).tolist(), strict=True):
            w = row.parts.get(p)
            if w is None or dual == 0:
                continue
            at = slice(None) if row.at is None else row.at
            for total, weight in ((spend, w.spend), (run, w.run), (launch, w.launch)):
                if weight is not None:
                    total[at] += dual * weight
        return Prices(spend, run, launch)

    def _per_level(self, p: int, relaxed: _Relaxed) -> Array:
        """(G, 1) price of a level with each choice, from rows that count nodes."""
        size = self.problems[p].terms.size
        out = np.zeros(len(size))
        for row, dual in zip(self.rows, (relaxed.rows * self._signs()).tolist(), strict=True):
            w = row.parts.get(p)
            if w is not None and w.levels is not None:
                out += dual * w.levels / size
        return out[:, None]

    # ------------------------------------------------------------------ programmes

    def relax(self, time_limit_s: float) -> _Relaxed:
        """The linear programme over the columns there are."""
        from scipy.optimize import linprog

        cost, a_ub, b_ub, a_eq, b_eq = self._matrices()
        got = linprog(
            cost, a_ub, b_ub, a_eq, b_eq, bounds=(0, None), method="highs", options={"time_limit": time_limit_s}
        )
        if got.x is None:
            raise SolverError(got.message)
        n = len(self.columns)
        self._fractions, self._short_usd = np.asarray(got.x)[:n], _MINIMUM_USD * float(np.sum(got.x[n:]))
        return _Relaxed((-got.ineqlin.marginals).clip(0.0), np.asarray(got.eqlin.marginals))

    def whole(self, time_limit_s: float) -> tuple[list[tuple[Column, int]], float]:
        """Whole counts of the columns there are: what is taken, and its cost.

        What the linear programme gives whole stays; only the levels that it splits are decided anew.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        n = len(self.columns)
        fractions = np.append(self._fractions, np.zeros(n - len(self._fractions)))
        sure = np.floor(fractions + 1e-7)
        cost, a_ub, b_ub, a_eq, b_eq = self._matrices()
        left = b_eq - a_eq[:, :n] @ sure
        split = np.isin([int(self.offset[c.pool]) + c.band for c in self.columns], np.flatnonzero(left > 0.5))
        if not split.any():
            return self._taken(sure)
        open_ = np.flatnonzero(np.append(split, np.ones(len(cost) - n, dtype=bool)))
        room = b_ub - a_ub[:, :n] @ sure
        # What was rounded up by a hair takes no more than there is.
        room = np.where(self._signs() > 0, np.maximum(room, 0.0), room) + 1e-7
        fines = np.array([c.fines for c in self.columns])
        real = max(float((cost[:n] - fines)[split] @ (fractions - sure)[split]), 0.0)
        loss = real + float(fines[split] @ (fractions - sure)[split]) + self._short_usd
        got = milp(
            cost[open_],
            integrality=(open_ < n).astype(int),
            bounds=Bounds(0, np.inf),
            constraints=[LinearConstraint(a_ub[:, open_], ub=room), LinearConstraint(a_eq[:, open_], left, left)],
            options={
                "time_limit": time_limit_s,
                "mip_rel_gap": MIP_GAP * (real / loss if loss > real else 1.0),
                "node_limit": MIP_NODES,
            },
        )
        if got.x is None:
            raise SolverError(got.message)
        chosen = open_ < n
        sure[open_[chosen]] += np.rint(got.x[chosen])
        return self._taken(sure)

    def _taken(self, counts: Array) -> tuple[list[tuple[Column, int]], float]:
        taken = [(c, int(n)) for c, n in zip(self.columns, counts.tolist(), strict=True) if n > 0]
        short = np.maximum([r.limit if r.least else 0.0 for r in self.rows] - self._use @ counts, 0.0)
        fine = _MINIMUM_USD * float(short[[r.least for r in self.rows]].sum())
        return taken, sum(c.cost * n for c, n in taken) + fine

    def _matrices(self) -> tuple[Array, Any, Array, Any, Array]:
        """Costs, rows (<=) and widths (=) over the columns and one slack for each minimum."""
        from scipy.sparse import csr_matrix

        self._note()
        n, signs = len(self.columns), self._signs()
        minima = np.flatnonzero(signs < 0)
        cost = np.array([c.cost for c in self.columns] + [_MINIMUM_USD] * len(minima))
        slack = np.zeros((len(self.rows), len(minima)))
        slack[minima, np.arange(len(minima))] = -1.0
        a_ub = csr_matrix(np.hstack([self._use * signs[:, None], slack]))
        b_ub = np.array([r.limit for r in self.rows]) * signs
        bands = [int(self.offset[c.pool]) + c.band for c in self.columns]
        a_eq = csr_matrix((np.ones(n), (bands, np.arange(n))), shape=(int(self.offset[-1]), len(cost)))
        return cost, a_ub, b_ub, a_eq, np.concatenate(self.widths)


def _steps_broken(p: int, problem: Problem, taken: Sequence[tuple[Column, int]]) -> list[Row]:
    """Rows of single steps that are broken: money within it, launches and running nodes of a group."""
    steps = len(problem.terms.money)
    money = np.zeros(steps)
    launch, run = np.zeros((steps, len(problem.most_launches))), np.zeros((steps, len(problem.most_launches)))
    for c, n in taken:
        nodes = n / c.size
        money += n * c.money
        launch[:, problem.groups[c.choice]] += nodes * c.launch
        run[:, problem.groups[c.choice]] += nodes * c.run
    most_usd = np.inf if problem.most_usd is None else problem.most_usd
    broken = {
        "max_usd_per_hour": (money > most_usd + EPS)[:, None],
        "max_step": launch > problem.most_launches + EPS,
        "min_nodes": run < problem.least_running - EPS,
    }
    return [_row_of_step(p, problem, what, k, t) for what, at in broken.items() for k, t in np.argwhere(at.T).tolist()]


def _row_of_step(p: int, problem: Problem, what: str, k: int, t: int) -> Row:
    """What a step allows: the whole pool's money, or launches, or running nodes of its k-th group."""
    if what == "max_usd_per_hour":
        money = np.inf if problem.most_usd is None else float(problem.most_usd[t])
        return Row(f"{what} {p} {k} {t}", money, {p: Weights(spend=np.ones(()))}, at=t)
    mine = (problem.groups == k).astype(float)
    if what == "max_step":
        return Row(f"{what} {p} {k} {t}", float(problem.most_launches[k]), {p: Weights(launch=mine)}, at=t)
    return Row(f"{what} {p} {k} {t}", float(problem.least_running[k]), {p: Weights(run=mine)}, least=True, at=t)
