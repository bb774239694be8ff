"""Pictures of single tasks: what sizing wastes, what they ask for, what they use over time."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from preprov.figures.canvas import ACTUAL, DEMAND, FANS, SERIES, drawing, legend
from preprov.model.usage import ResourceCurve, UsageRun, unit

_LEAST_GBH: Final = 1e-3
"""What wastes less is drawn as this."""


def sizing_backtest(report: Mapping[str, Any], *, fmt: str = "png") -> bytes:
    """GiB hours wasted, and failed attempts, of ours and each peer by workflow.

    Args:
        report: of `control.backtest_sizing`. fmt: "png" or "svg".
    """
    workflows = report["workflows"]
    names = list(next(iter(workflows.values())))
    width = 0.8 / len(names)
    with drawing("sizing_backtest", fmt, (10.0, 3.8)) as (figure, done):
        waste, failures = figure.subplots(1, 2)
        for i, name in enumerate(names):
            at = [x + (i - (len(names) - 1) / 2) * width for x in range(len(workflows))]
            colour = _colour(names, name)
            waste.bar(at, [w[name]["gbh"] for w in workflows.values()], width, color=colour, label=name)
            failures.bar(at, [w[name]["failures"] for w in workflows.values()], width, color=colour)
        waste.set_yscale("log")
        waste.set_title("GiB hours wasted (logarithmic)")
        failures.set_title("Failed attempts")
        for ax in (waste, failures):
            ax.set_xticks(range(len(workflows)), list(workflows))
        figure.legend(loc="outside lower center", ncols=len(names), fontsize=8)
    return done()


def _colour(names: Sequence[str], name: str) -> str:
    """Ours in the colour of what we say, peers in those that are left."""
    others = [c for c in SERIES if c != DEMAND]
    return DEMAND if name == "ours" else others[names.index(name) % len(others)]


def curves_backtest(report: Mapping[str, Any], *, fmt: str = "png") -> bytes:
    """GiB hours wasted by process, the largest first, and what was foretold badly, of ours and each peer.

    Args:
        report: of `control.backtest_curves`. fmt: "png" or "svg".
    """
    names = list(report["methods"])
    processes = sorted(report["processes"].items(), key=lambda p: -max(s["gbh"] for s in p[1].values()))
    rows = [p.rpartition("/")[2] for p, _ in processes]
    with drawing("curves_backtest", fmt, (11.0, 4.2)) as (figure, done):
        waste, loss = figure.subplots(1, 2, width_ratios=(3, 1))
        for i, name in enumerate(names):
            width, colour = 0.8 / len(names), _colour(names, name)
            beside = (i - (len(names) - 1) / 2) * width
            gbh = [max(scores[name]["gbh"], _LEAST_GBH) for _, scores in processes]
            waste.bar([x + beside for x in range(len(rows))], gbh, width, color=colour, label=name)
            said = [report["methods"][name][f"wql_{r}"] for r in ("memory", "cpu")]
            loss.bar([x + beside for x in range(2)], said, width, color=colour)
        waste.set_yscale("log")
        waste.set_title("GiB hours wasted (logarithmic)")
        waste.set_xticks(range(len(rows)), rows, rotation=40, ha="right", fontsize=8)
        loss.set_title("Loss of what was foretold")
        loss.set_xticks(range(2), ["memory", "CPU"])
        figure.legend(loc="outside lower center", ncols=len(names), fontsize=8)
    return done()


def task_requests(report: Mapping[str, Any], *, most: int = 16, fmt: str = "png") -> bytes:
    """Memory and cores of the tasks that would free the most: asked for, used, to be asked for.

    Args:
        report: of `control.rightsizing`. most: tasks drawn. fmt: "png" or "svg".
    """
    tasks = list(reversed(report["tasks"][:most]))
    names = [f"{t['dag']}/{t['task']}" for t in tasks]
    rows = range(len(tasks))
    with drawing("task_requests", fmt, (10.0, 1.4 + 0.32 * max(len(tasks), 3))) as (figure, done):
        for ax, kind, unit in zip(figure.subplots(1, 2, sharey=True), ("memory", "cpu"), ("GiB", "cores"), strict=True):
            ax.barh(rows, [t[f"asked_{kind}"] for t in tasks], 0.7, color="#dde3ea", label="asked for")
            ax.barh(rows, [t[f"{kind}_p99"] for t in tasks], 0.4, color=DEMAND, label="used (p99)")
            ax.plot([t[f"ask_{kind}"] for t in tasks], list(rows), "D", ms=5, color=ACTUAL, label="to be asked for")
            ax.set_title(f"{kind}, {unit}")
            ax.set_yticks(list(rows), names, fontsize=8)
            ax.set_xlim(left=0)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return done()


def task_curves(curves: Mapping[str, ResourceCurve], actual: UsageRun | None, *, title: str, fmt: str = "png") -> bytes:
    """Use over time with its quantile bands; what a run really used over it.

    Args:
        curves: by resource. actual: a run of the task. title: above it. fmt: "png" or "svg".
    """
    names = list(curves) or list(actual.resources if actual is not None else ())
    with drawing("task_curves", fmt, (9.0, 2.6 * max(len(names), 1))) as (figure, done):
        for ax, name in zip(
            figure.subplots(max(len(names), 1), 1, sharex=True, squeeze=False)[:, 0], names, strict=False
        ):
            curve = curves.get(name)
            if curve is not None:
                at = dict(zip(curve.levels.tolist(), curve.values.T, strict=True))
                for low, high, shade in FANS:
                    ax.fill_between(curve.at, at[low], at[high], color=DEMAND, alpha=shade, lw=0)
                ax.plot(curve.at, at[0.5], color=DEMAND, lw=1.6, label="expected (median, 50, 80, 90 %)")
            if actual is not None:
                used = actual.used(name)
                ax.plot(actual.at, used, color=ACTUAL, lw=1.4, marker=".", ms=3, label="this run")
            ax.set_ylabel(unit(name))
            ax.set_ylim(bottom=0)
            ax.set_title(f"{title}: {name}")
            legend(ax)
        ax.set_xlabel("seconds since its start")
    return done()
