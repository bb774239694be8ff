"""The dashboard as code.

    python -m dashboards.build [--check]

Writes dashboards/preprov.json, which Grafana imports as it is; with --check it only says whether that is up to date.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard, gauge, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import StackingConfig
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import StackingMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, GridPos
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

FILE: Final = Path(__file__).with_name("preprov.json")
DATASOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_HALF, _THIRD, _WIDE = 12, 8, 24


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        queries: legend -> PromQL. unit: as Grafana names it. kind: lines, stacked, number, dial or heat.
    """

    title: str
    about: str
    queries: dict[str, str]
    unit: str
    kind: str = "lines"
    width: int = _HALF
    height: int = 8


def _of(metric: str, more: str = "") -> str:
    return f'{metric}{{pool=~"$pool"{more}}}'


THERE: Final = ', phase=~"warming|ready|draining"'
WAITS: Final = _of("preprov_provision_wait_seconds_bucket")
ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Is it worth it": (
        Panel(
            "Warm hits",
            "Task instances that a ready node took at once.",
            {
                "": f"sum(increase({_of('preprov_warm_hits_total')}[$__range]))"
                f" / sum(increase({_of('preprov_provision_wait_seconds_count')}[$__range]))"
            },
            "percentunit",
            "dial",
            _THIRD,
        ),
        Panel(
            "Provision wait, 95 %",
            "How long a task was ready while no node had room.",
            {"": f"histogram_quantile(0.95, sum by (le) (increase({WAITS}[$__range])))"},
            "s",
            "number",
            _THIRD,
        ),
        Panel(
            "Money that nobody used",
            "Of nodes that ran and had no work, in the time shown.",
            {
                "idle": f"sum(increase({_of('preprov_idle_cost_dollars_total')}[$__range]))",
                "all": f"sum(increase({_of('preprov_cost_dollars_total')}[$__range]))",
            },
            "currencyUSD",
            "number",
            _THIRD,
        ),
    ),
    "Nodes": (
        Panel(
            "Nodes by phase",
            "As the last pass saw them.",
            {"{{pool}} {{phase}}": f"sum by (pool, phase) ({_of('preprov_nodes')})"},
            "short",
            "stacked",
        ),
        Panel(
            "Wanted and there",
            "Running nodes that the plan wanted, and those that are ready or on their way.",
            {
                "{{pool}} wanted": _of("preprov_target_nodes"),
                "{{pool}} there": f"sum by (pool) ({_of('preprov_nodes', THERE)})",
            },
            "short",
        ),
        Panel(
            "Cores",
            "Of ready nodes, what work claims of them, and what waits for a node.",
            {
                "{{pool}} ready": _of("preprov_allocatable_cores"),
                "{{pool}} used": _of("preprov_used_cores"),
                "{{pool}} waiting": _of("preprov_waiting_cores"),
            },
            "short",
        ),
        Panel(
            "Cost",
            "Of all that exists.",
            {"{{pool}}": _of("preprov_cost_dollars_per_hour")},
            "currencyUSD",
        ),
    ),
    "Work": (
        Panel(
            "Provision wait",
            "Task instances that started, by how long they waited for a node.",
            {"{{le}}": f"sum by (le) (increase({WAITS}[$__rate_interval]))"},
            "s",
            "heat",
        ),
        Panel(
            "Cores bound, by tenant",
            "Committed reservations.",
            {"{{pool}} {{tenant}}": f"sum by (pool, tenant) ({_of('preprov_held_cores')})"},
            "short",
            "stacked",
        ),
        Panel(
            "Reservations",
            "Live ones that are no task's.",
            {"{{pool}} {{purpose}} {{state}}": f"sum by (pool, purpose, state) ({_of('preprov_reservations')})"},
            "short",
        ),
    ),
    "Can it be trusted": (
        Panel(
            "Forecast coverage",
            "Hours of two weeks in which demand lay in its interval: right if as many as the interval says.",
            {"{{pool}} {{interval}}": _of("preprov_forecast_coverage_ratio")},
            "percentunit",
        ),
        Panel(
            "Seconds since a pool was looked at",
            "It rises where the controller is down.",
            {"{{pool}}": _of("preprov_snapshot_age_seconds")},
            "s",
        ),
    ),
}


def build() -> str:
    """The dashboard as JSON."""
    made = (
        dashboard.Dashboard("preprov")
        .uid("preprov")
        .description("What preprov keeps warm, what for, and what it costs.")
        .tags(["preprov", "capacity"])
        .refresh("30s")
        .time("now-24h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("pool")
            .label("Pool")
            .datasource(DATASOURCE)
            .query("label_values(preprov_snapshot_age_seconds, pool)")
            .multi(True)
            .include_all(True)
            .all_value(".*")
        )
    )
    y, ids = 0, count(1)
    for title, panels in ROWS.items():
        made = made.with_row(dashboard.Row(title).id(next(ids)).grid_pos(GridPos(h=1, w=_WIDE, x=0, y=y)))
        y, x = y + 1, 0
        for panel in panels:
            if x + panel.width > _WIDE:
                x, y = 0, y + panel.height
            made = made.with_panel(
                _panel(panel).id(next(ids)).grid_pos(GridPos(h=panel.height, w=panel.width, x=x, y=y))
            )
            x += panel.width
        y += panels[-1].height
    return (
        json.dumps(JSONEncoder(sort_keys=True).default(made.build()), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
    )


def _panel(p: Panel) -> Any:
    kinds: dict[str, Any] = {
        "lines": timeseries.Panel,
        "stacked": timeseries.Panel,
        "number": stat.Panel,
        "dial": gauge.Panel,
        "heat": heatmap.Panel,
    }
    made = kinds[p.kind]().title(p.title).description(p.about).unit(p.unit).datasource(DATASOURCE)
    if p.kind == "stacked":
        made = made.fill_opacity(40).stacking(StackingConfig().mode(StackingMode.NORMAL))
    if p.kind == "dial":
        made = made.min(0).max(1)
    for legend, query in p.queries.items():
        target = prometheus.Dataquery().expr(query).legend_format(legend or "__auto")
        made = made.with_target(target.format(PromQueryFormat.HEATMAP) if p.kind == "heat" else target)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write it, or look whether it is written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if the file is out of date")
    args = parser.parse_args(argv)
    text = build()
    if args.check:
        same = FILE.is_file() and FILE.read_text() == text
        print(f"{FILE.name} is {'up to date' if same else 'out of date: make dashboards'}")
        return 0 if same else 1
    FILE.write_text(text)
    print(f"{FILE.name}: {sum(map(len, ROWS.values()))} panels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
