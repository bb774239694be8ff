"""How every picture looks: colours, axes, and a figure that becomes PNG or SVG bytes."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


INK: Final = "#1d2733"


DEMAND: Final = "#1f4e8c"


ACTUAL: Final = "#d1495b"


QUIET: Final = "#8a94a3"


FANS: Final = ((0.05, 0.95, 0.18), (0.1, 0.9, 0.22), (0.25, 0.75, 0.28))


SERIES: Final = ("#2a8c6a", "#d1495b", "#1f4e8c", "#e08e2b", "#7d5ba6", "#4f9fb5")


_STYLE: Final[Mapping[str, Any]] = {
    "font.size": 10,
    "axes.edgecolor": "#b7c0cc",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6eaf0",
    "xtick.color": "#4c5866",
    "ytick.color": "#4c5866",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
}


_NO_METADATA: Final = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def legend(ax: "Axes") -> None:
    """Beside the axes, where anything has a label."""
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)


def time_axis(ax: "Axes", zone: str, start: datetime, end: datetime) -> None:
    """Hours of a zone along the bottom, from start to end."""
    from matplotlib import dates

    drawn: Any = dates  # matplotlib's dates are not typed
    tz = ZoneInfo(zone)
    ax.xaxis.set_major_locator(drawn.AutoDateLocator(tz=tz, minticks=4, maxticks=10))
    days = end - start > timedelta(days=2)
    ax.xaxis.set_major_formatter(drawn.DateFormatter("%d %b" if days else "%H:%M", tz=tz))
    left, right = numbers([start, end])
    ax.set_xlim(left, max(right, left + 1 / 1440))
    ax.set_xlabel(f"{start.astimezone(tz):%A %d %B %Y}{' and after' if days else ''}, {zone}")


def clock(at: datetime, zone: str) -> str:
    """Day and time in a zone."""
    return f"{at.astimezone(ZoneInfo(zone)):%d %b %H:%M}"


def held(values: Any) -> list[float]:
    """Values with the last one repeated, so that the last step has its length."""
    return [*map(float, values), float(values[-1])]


def numbers(times: Sequence[datetime]) -> Any:
    """(N,) instants as matplotlib's numbers."""
    from matplotlib import dates

    drawn: Any = dates
    return drawn.date2num(list(times))


def span(start: datetime, end: datetime) -> tuple[float, float]:
    """Where a bar begins and how long it is."""
    a, b = numbers([start, end])
    return a, b - a


@contextmanager
def drawing(name: str, fmt: str, size: tuple[float, float]) -> "Iterator[tuple[Figure, Callable[[], bytes]]]":
    """A figure, and a function that returns its bytes once the `with` is left.

    No figure is registered anywhere, so that pictures can be made in any thread; the same content gives the same bytes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with matplotlib.rc_context(cast("Any", {**_STYLE, "svg.hashsalt": name})):
        figure = Figure(figsize=size, layout="constrained")
        yield figure, out.getvalue
        figure.savefig(out, format=fmt, dpi=110, metadata=_NO_METADATA if fmt == "svg" else None)
