"""Pictures that compare: forecasters, policies, waits."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from preprov.figures.canvas import DEMAND, INK, QUIET, SERIES, drawing, legend

if TYPE_CHECKING:
    pass


_RATIOS: Final = (0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)


def wait_histogram(waits: Mapping[str, Sequence[float]], *, fmt: str = "png") -> bytes:
    """Provision wait of task instances: for each policy, the share that started within so many seconds.

    Args:
        waits: policy -> seconds of each instance. fmt: "png" or "svg".
    """
    with drawing("waits", fmt, (9.0, 3.4)) as (figure, done):
        ax = figure.subplots()
        longest = max((max(w) for w in waits.values() if len(w)), default=0.0)
        right = max(longest * 1.05, 10.0)
        for i, (name, seconds) in enumerate(waits.items()):
            if not len(seconds):
                continue
            x = np.sort(np.asarray(seconds, dtype=float))
            y = np.arange(1, len(x) + 1) / len(x)
            ax.step(
                [0.0, *x, right], [0.0, *y, 1.0], where="post", lw=1.8, color=SERIES[i % len(SERIES)], label=name,
                ls=("-", "--", "-.", ":")[i % 4],
            )  # fmt: skip
        ax.set_xlim(0, right)
        ax.set_ylim(0, 1.03)
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
        ax.set_xlabel("seconds ready, but without a node")
        ax.set_ylabel("task instances started")
        ax.set_title("Provision wait")
        legend(ax)
    return done()


def demand_backtest(report: Mapping[str, Any], *, fmt: str = "png") -> bytes:
    """Loss of the joined curve and of its peers by how far ahead, and how often demand lay in the 80 % interval.

    Args:
        report: of `control.backtest_demand`. fmt: "png" or "svg".
    """
    horizons = report["horizons"]
    at = range(len(horizons))
    with drawing("demand_backtest", fmt, (9.0, 3.6)) as (figure, done):
        loss, cover = figure.subplots(1, 2, width_ratios=(3, 2))
        names = sorted({name for h in horizons.values() for name in h["peers"]})
        for i, name in enumerate(names):
            wql = [100 * h["peers"].get(name, {}).get("wql", np.nan) for h in horizons.values()]
            style = {"ls": ("--", ":", "-.")[i % 3], "marker": "o", "ms": 3, "lw": 1.2}
            loss.plot(at, wql, color=SERIES[i % len(SERIES)], label=name, **style)
        loss.plot(at, [100 * h["wql"] for h in horizons.values()], color=DEMAND, marker="o", lw=2.4, label="preprov")
        loss.set_ylabel("weighted quantile loss, % of demand")
        loss.set_ylim(bottom=0)
        loss.set_title(f"{report['trace']}, schedules {report['schedules']}")
        cover.axhline(80, color=QUIET, lw=1, ls="--")
        cover.plot(at, [100 * h["coverage80"] for h in horizons.values()], color=DEMAND, marker="o", lw=2.4)
        cover.set_ylim(0, 100)
        cover.set_title("Steps inside the 80 % interval, %")
        for ax in (loss, cover):
            ax.set_xticks(
                list(at), [f"{int(h) // 60} min" if int(h) < 3600 else f"{int(h) // 3600} h" for h in horizons]
            )
            ax.set_xlabel("ahead, up to")
        loss.legend(fontsize=8, ncols=2)
    return done()


def forecast_backtest(report: Mapping[str, Any], *, fmt: str = "png") -> bytes:
    """A row a series: the weighted quantile loss of every peer over ours, and how often we covered what came.

    Args:
        report: of `control.backtest_forecast`. fmt: "png" or "svg".
    """
    rows = report["series"]
    at = range(len(rows))
    with drawing("forecast_backtest", fmt, (11.0, 2.2 + 0.32 * len(rows))) as (figure, done):
        loss, cover = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        for i, peer in enumerate(sorted({peer for row in rows.values() for peer in row["peers"]})):
            ratio = [_over(row["peers"].get(peer, {}).get("wql"), row["wql"]) for row in rows.values()]
            mark = "osD^v"[i // len(SERIES) % 5]
            shown = np.clip(ratio, _RATIOS[0], _RATIOS[-1])
            loss.scatter(shown, at, s=26, marker=mark, color=SERIES[i % len(SERIES)], label=peer, alpha=0.85)
        loss.axvline(1.0, color=INK, lw=1.4)
        loss.set_xscale("log")
        loss.set_xticks(_RATIOS, [f"{r:g}" for r in _RATIOS[:-1]] + [f"{_RATIOS[-1]:g} or more"])
        loss.minorticks_off()
        loss.set_yticks(list(at), list(rows))
        loss.invert_yaxis()
        loss.set_title("Loss of each peer over ours: left of the line it is better")
        cover.axvspan(72, 88, color=QUIET, alpha=0.15, lw=0)
        cover.axvline(80, color=QUIET, lw=1, ls="--")
        cover.scatter([_percent(row["coverage80"]) for row in rows.values()], at, color=DEMAND, s=26)
        cover.set_xlim(40, 100)
        cover.set_title("In our 80 % interval, %")
        if loss.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=6, fontsize=8)
    return done()


def frontiers(
    policies: Mapping[str, Sequence[Mapping[str, Any]]],
    bound: Sequence[Mapping[str, float]] = (),
    *,
    fmt: str = "png",
    title: str = "Cost against provision wait",
) -> bytes:
    """Cost against mean provision wait, a line a policy through its settings; below, what nobody can pay less than.

    Args:
        policies: policy -> rows with wait_mean_s and cost_usd, and queue_wait_mean_s where a limit makes work wait.
        bound: rows mean_wait_s (waits for limits among it), cost_usd, by rising wait.
        fmt: "png" or "svg". title: of the picture.
    """
    with drawing("frontiers", fmt, (9.0, 4.6)) as (figure, done):
        ax = figure.subplots()
        for i, (name, rows) in enumerate(policies.items()):
            known = [r for r in rows if r["cost_usd"] is not None and r["wait_mean_s"] is not None]
            at = sorted((float(r["wait_mean_s"]), float(r["cost_usd"])) for r in known)
            if at:
                ours = name == "preprov"
                ax.plot(
                    *zip(*at, strict=True), marker="o", ms=5 if ours else 3.5, lw=2.4 if ours else 1.2, label=name,
                    color=SERIES[i % len(SERIES)], ls=("-", "--", "-.", ":")[i // len(SERIES) % 4],
                    zorder=3 if ours else 2,
                )  # fmt: skip
        if bound:
            x, y = _out_of_reach(bound, policies)
            ax.fill_between(x, 0, y, step="pre", color=QUIET, alpha=0.18, lw=0, label="below the bound")
        waits = [float(r["wait_mean_s"]) for rows in policies.values() for r in rows if r["wait_mean_s"] is not None]
        ax.set_xlim(0, max(waits, default=1.0) * 1.04 + 1e-3)
        ax.set_ylim(bottom=0)
        ax.set_xlabel("mean provision wait, s")
        ax.set_ylabel("cost, USD")
        ax.set_title(title)
        legend(ax)
    return done()


def _out_of_reach(
    bound: Sequence[Mapping[str, float]], policies: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[list[float], list[float]]:
    """The bound at each provision wait, true for all that are drawn: those that wait longest for a limit may do best.

    Between two points the later one's cost holds, and the last one's beyond it.
    """
    limits = max((float(r.get("queue_wait_mean_s") or 0.0) for rows in policies.values() for r in rows), default=0.0)
    rows = [b for b in bound if b["mean_wait_s"] >= limits] or list(bound[-1:])
    x = [0.0, *(max(float(b["mean_wait_s"]) - limits, 0.0) for b in rows)]
    y = [float(b["cost_usd"]) for b in (rows[0], *rows)]
    return [*x, max(x[-1], 1e9)], [*y, y[-1]]


def _over(theirs: float | None, ours: float | None) -> float:
    return theirs / ours if theirs and ours else float("nan")


def _percent(share: float | None) -> float:
    return float("nan") if share is None else 100 * share
