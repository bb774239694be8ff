"""Courses put together under what is scarce: an integer programme over columns, solved by HiGHS.

A column is a course of one level of a band with one offering. How many levels of each band take which column is chosen
at least cost within the rows (quotas, budgets, ramps, minima), of one pool or of several that share them. New columns
are priced out by the dynamic programme until none is worth having (Dantzig and Wolfe), then counts are made whole.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from preprov.planning.courses import Courses, Prices, Terms, cheapest, usage
from preprov.planning.levels import REFUSED, Levels

Array: TypeAlias = NDArray[Any]

ROUNDS: Final = 8
CUTS: Final = 4
_CUTS_AT_ONCE: Final = 60
UNSERVED: Final = -1
"""Choice of the column that leaves a level to its fate."""
_ROW_USD: Final = 1e4
"""Price of going beyond a row that cannot be kept: it has been broken already."""
MIP_NODES: Final = 50
"""Work is bounded by counts, so that equal inputs make equal plans; the clock is the last resort."""
MIP_GAP: Final = 2e-3
"""A plan that is made again in minutes need not be better than this."""
_EPS: Final = 1e-7


@dataclass(frozen=True)
class Weights:
    """How much of a row one unit of a course of a pool takes; what is None takes nothing.

    Attributes:
        spend: (T,) per dollar. run: (T, G) per running node. launch: (T, G) per launch. levels: (G,) per node.
    """

    spend: Array | None = None
    run: Array | None = None
    launch: Array | None = None
    levels: Array | None = None


@dataclass(frozen=True)
class Row:
    """At most (or, with `least`, at least) `limit` of something. parts: index of the pool -> its weights."""

    name: str
    limit: float
    parts: Mapping[int, Weights]
    least: bool = False


@dataclass
class Column:
    """A course of one level.

    Attributes:
        use: row name -> amount.
    """

    pool: int
    band: int
    choice: int
    states: Array
    cost: float
    money: Array
    run: Array
    launch: Array
    use: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """One pool's part.

    Attributes:
        most_usd: (T,) to be spent within each step; None = no limit.
        groups: (G,) index of the group of each choice.
        most_launches: (groups,) launches within one step. least_running: (groups,) that always run.
    """

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
        taken: (column, levels) per pool. cost: USD in all. bound: no plan of these bands costs less.
        binding: names of the rows that hold something back. solver: "highs", or "dynamic programme" where nothing is
        scarce and each level's own best course is the best of all.
    """

    taken: tuple[tuple[tuple[Column, int], ...], ...]
    cost: float
    bound: float
    solver: str
    seconds: float
    binding: tuple[str, ...] = ()

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
    for _ in range(CUTS):
        broken = master.cut(taken)
        if not broken or perf_counter() - began > time_limit_s:
            break
        solver = "highs"
        bound = master.converge(began + time_limit_s / 2)
        taken, cost = master.whole(max(time_limit_s - (perf_counter() - began), 0.2))
    return Solution(
        _by_pool(taken, len(problems)), cost, min(bound, cost), solver, perf_counter() - began, tuple(master.rows)
    )


def _by_pool(taken: list[tuple[Column, int]], pools: int) -> tuple[tuple[tuple[Column, int], ...], ...]:
    return tuple(tuple((c, n) for c, n in taken if c.pool == p) for p in range(pools))


@dataclass(frozen=True)
class _Relaxed:
    """Value and duals of the linear programme: per row (>= 0, a price) and per band."""

    value: float
    rows: dict[str, float]
    bands: Array


class _Master:
    def __init__(self, problems: Sequence[Problem], rows: Sequence[Row]) -> None:
        self.problems = problems
        self.asked = {r.name: r for r in rows}
        self.rows: dict[str, Row] = {}
        self.columns: list[Column] = []
        self._known: set[tuple[int, int, int, bytes]] = set()
        self.widths = [np.asarray(p.levels.width, dtype=float) for p in problems]
        self.offset = np.cumsum([0, *(len(w) for w in self.widths)])
        self._best: list[Column] = []
        self._fractions = np.zeros(0)

    # ------------------------------------------------------------------ columns

    def price_out(self, relaxed: _Relaxed | None) -> tuple[int, float]:
        """Add the columns worth having at the duals; how many there were, and the Lagrangian bound."""
        found, bound = 0, 0.0
        for p, problem in enumerate(self.problems):
            courses = cheapest(problem.terms, problem.levels, self._prices(p, relaxed))
            cost = courses.cost if relaxed is None else courses.cost + self._per_level(p, relaxed)
            if relaxed is None:
                self._first(p, problem, courses)
                continue
            dual = relaxed.bands[self.offset[p] : self.offset[p + 1]]
            best = np.minimum(cost.min(axis=0), problem.terms.unserved)
            bound += float(best @ self.widths[p])
            for g, b in zip(*np.nonzero(cost < dual - 1e-6 * (1 + abs(dual))), strict=True):
                found += self._add(p, int(b), int(g), courses.states[g, b])
        if relaxed is not None:
            signed = sum((1 if r.least else -1) * relaxed.rows[n] * r.limit for n, r in self.rows.items())
            bound += signed
        return found, bound

    def _first(self, p: int, problem: Problem, courses: Courses) -> None:
        finite = np.isfinite(courses.cost)
        unserved = problem.terms.unserved
        steps = courses.states.shape[2]
        for b in range(courses.cost.shape[1]):
            for g in np.flatnonzero(finite[:, b]).tolist():
                self._add(p, b, g, courses.states[g, b])
            nothing = np.zeros(steps)
            gone = np.full(steps, REFUSED, dtype=np.int8)
            left = Column(p, b, UNSERVED, gone, float(unserved[b]), nothing, nothing, nothing)
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
        money, run, launch, cost = usage(problem.terms, problem.levels, g, b, states)
        column = Column(p, b, g, states, cost, money, run, launch)
        for row in self.rows.values():
            self._note(column, row)
        self.columns.append(column)
        return 1

    def own_best(self) -> list[tuple[Column, int]]:
        """Each level's own best course."""
        return [(c, int(self.widths[c.pool][c.band])) for c in self._best]

    def converge(self, until: float) -> float:
        """Price out columns until none is worth having; the best bound seen."""
        bound = -np.inf
        for _ in range(ROUNDS):
            relaxed = self.relax(max(until - perf_counter(), 0.1))
            found, lagrangian = self.price_out(relaxed)
            bound = max(bound, lagrangian)
            if not found or perf_counter() > until:
                break
        return bound

    # ------------------------------------------------------------------ rows

    def cut(self, taken: Sequence[tuple[Column, int]]) -> int:
        """Take up the rows that these counts break; how many there were."""
        broken = [r for n, r in self.asked.items() if n not in self.rows and self._breaks(r, taken)]
        for p, problem in enumerate(self.problems):
            own = [(c, n) for c, n in taken if c.pool == p and c.choice != UNSERVED]
            broken.extend(r for r in _steps_broken(p, problem, own) if r.name not in self.rows)
        for row in broken[: max(_CUTS_AT_ONCE, len(self.asked))]:
            self.rows[row.name] = row
            for c in self.columns:
                self._note(c, row)
        return len(broken)

    def _breaks(self, row: Row, taken: Sequence[tuple[Column, int]]) -> bool:
        total = sum(
            n * _use(row.parts[c.pool], c, float(self.problems[c.pool].terms.size[c.choice]))
            for c, n in taken
            if c.choice != UNSERVED and c.pool in row.parts
        )
        return total < row.limit - _EPS if row.least else total > row.limit + _EPS

    def _note(self, c: Column, row: Row) -> None:
        if c.choice != UNSERVED and c.pool in row.parts:
            c.use[row.name] = _use(row.parts[c.pool], c, float(self.problems[c.pool].terms.size[c.choice]))

    def _prices(self, p: int, relaxed: _Relaxed | None) -> Prices | None:
        if relaxed is None:
            return None
        t, g = self.problems[p].terms.money.shape[:2]
        spend, run, launch = np.zeros(t), np.zeros((t, g)), np.zeros((t, g))
        for name, row in self.rows.items():
            dual = relaxed.rows[name] * (-1 if row.least else 1)
            w = row.parts.get(p)
            if w is None or dual == 0:
                continue
            spend += 0 if w.spend is None else dual * w.spend
            run += 0 if w.run is None else dual * w.run
            launch += 0 if w.launch is None else dual * w.launch
        return Prices(spend, run, launch)

    def _per_level(self, p: int, relaxed: _Relaxed) -> Array:
        """(G, 1) price of a level with each choice, from rows that count nodes."""
        terms = self.problems[p].terms
        out = np.zeros(len(terms.size))
        for name, row in self.rows.items():
            w = row.parts.get(p)
            if w is not None and w.levels is not None:
                out += relaxed.rows[name] * (-1 if row.least else 1) * w.levels / terms.size
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
        self._fractions = np.asarray(got.x)[: len(self.columns)]
        return _Relaxed(
            float(got.fun),
            dict(zip(self.rows, (-got.ineqlin.marginals).clip(0.0).tolist(), strict=True)),
            np.asarray(got.eqlin.marginals),
        )

    def whole(self, time_limit_s: float) -> tuple[list[tuple[Column, int]], float]:
        """Whole counts of the columns there are: what is taken, and its cost.

        What the linear programme gives whole stays; only the levels that it splits are decided anew.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp

        n = len(self.columns)
        sure = np.floor(np.append(self._fractions, np.zeros(n - len(self._fractions))) + 1e-7)
        cost, a_ub, b_ub, a_eq, b_eq = self._matrices()
        left = b_eq - a_eq[:, :n] @ sure
        open_ = np.flatnonzero(
            np.isin([int(self.offset[c.pool]) + c.band for c in self.columns], np.flatnonzero(left > 0.5))
        )
        if not len(open_):
            return self._taken(sure)
        got = milp(
            cost[open_],
            integrality=np.ones(len(open_)),
            bounds=Bounds(0, np.inf),
            constraints=[
                LinearConstraint(a_ub[:, open_], ub=b_ub - a_ub[:, :n] @ sure + 1e-7),
                LinearConstraint(a_eq[:, open_], left, left),
            ],
            options={"time_limit": time_limit_s, "mip_rel_gap": MIP_GAP, "node_limit": MIP_NODES},
        )
        if got.x is None:
            raise SolverError(got.message)
        sure[open_] += np.rint(got.x)
        return self._taken(sure)

    def _taken(self, counts: Array) -> tuple[list[tuple[Column, int]], float]:
        taken = [(c, int(n)) for c, n in zip(self.columns, counts.tolist(), strict=True) if n > 0]
        return taken, sum(c.cost * n for c, n in taken)

    def _matrices(self) -> tuple[Array, Any, Array, Any, Array]:
        """Costs, rows (<=) and widths (=) over the columns and one slack a row."""
        from scipy.sparse import csr_matrix

        n, names = len(self.columns), list(self.rows)
        place = {name: i for i, name in enumerate(names)}
        cost = np.array([c.cost for c in self.columns] + [_ROW_USD] * len(names))
        sign = [-1.0 if self.rows[name].least else 1.0 for name in names]
        at = [(place[k], j, v * sign[place[k]]) for j, c in enumerate(self.columns) for k, v in c.use.items() if v]
        at += [(i, n + i, -1.0) for i in range(len(names))]
        a_ub = _sparse(at, (len(names), n + len(names)), csr_matrix)
        b_ub = np.array([self.rows[name].limit * sign[place[name]] for name in names])
        bands = [(int(self.offset[c.pool]) + c.band, j, 1.0) for j, c in enumerate(self.columns)]
        a_eq = _sparse(bands, (int(self.offset[-1]), n + len(names)), csr_matrix)
        return cost, a_ub, b_ub, a_eq, np.concatenate(self.widths)


def _steps_broken(p: int, problem: Problem, taken: Sequence[tuple[Column, int]]) -> list[Row]:
    """Rows of single steps that are broken: money within it, launches and running nodes of a group."""
    steps = len(problem.terms.money)
    money = np.zeros(steps)
    launch, run = np.zeros((steps, len(problem.most_launches))), np.zeros((steps, len(problem.most_launches)))
    for c, n in taken:
        nodes = n / float(problem.terms.size[c.choice])
        money += n * c.money
        launch[:, problem.groups[c.choice]] += nodes * c.launch
        run[:, problem.groups[c.choice]] += nodes * c.run
    out = []
    if problem.most_usd is not None:
        for t in np.flatnonzero(money > problem.most_usd + _EPS).tolist():
            one = np.zeros(steps)
            one[t] = 1.0
            out.append(Row(f"max_usd_per_hour {p} {t}", float(problem.most_usd[t]), {p: Weights(spend=one)}))
    for t, k in np.argwhere(launch > problem.most_launches + _EPS).tolist():
        one = _one(steps, problem.groups, t, k)
        out.append(Row(f"max_step {p} {k} {t}", float(problem.most_launches[k]), {p: Weights(launch=one)}))
    for t, k in np.argwhere(run < problem.least_running - _EPS).tolist():
        one = _one(steps, problem.groups, t, k)
        out.append(Row(f"min_nodes {p} {k} {t}", float(problem.least_running[k]), {p: Weights(run=one)}, least=True))
    return out


def _one(steps: int, groups: Array, t: int, k: int) -> Array:
    """(T, G) 1 at one step for the choices of one group."""
    out = np.zeros((steps, len(groups)))
    out[t, groups == k] = 1.0
    return out


def _sparse(at: list[tuple[int, int, float]], shape: tuple[int, int], make: Callable[..., Any]) -> Any:
    rows, columns, values = zip(*at, strict=True) if at else ((), (), ())
    return make((values, (rows, columns)), shape=shape)


def _use(w: Weights, c: Column, size: float) -> float:
    total = 0.0
    if w.spend is not None:
        total += float(w.spend @ c.money)
    if w.run is not None:
        total += float(w.run[:, c.choice] @ c.run) / size
    if w.launch is not None:
        total += float(w.launch[:, c.choice] @ c.launch) / size
    if w.levels is not None:
        total += float(w.levels[c.choice]) / size
    return total
