"""Pictures of single tasks: what sizing wastes."""

from collections.abc import Mapping
from typing import Any

from preprov.figures.canvas import DEMAND, SERIES, drawing


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
            colour = DEMAND if name == "ours" else SERIES[i % len(SERIES)]
            waste.bar(at, [w[name]["gbh"] for w in workflows.values()], width, color=colour, label=name)
            failures.bar(at, [w[name]["failures"] for w in workflows.values()], width, color=colour)
        waste.set_yscale("log")
        waste.set_title("GiB hours wasted (logarithmic)")
        failures.set_title("Failed attempts")
        for ax in (waste, failures):
            ax.set_xticks(range(len(workflows)), list(workflows))
        figure.legend(loc="outside lower center", ncols=len(names), fontsize=8)
    return done()
