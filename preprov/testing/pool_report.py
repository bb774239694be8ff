"""A plugin of pytest that ends a run of the contract suite with what each provider declares, and what was skipped.

`pytest -p preprov.testing.pool_report test_mine.py`
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

import pytest

from preprov.contracts import Capabilities

DECLARES: Final = "capabilities"
"""Property of a test's report that holds what the provider declares."""


def declared(can: Capabilities) -> dict[str, str]:
    """Capabilities as text, by their names."""
    return {f.name: _text(getattr(can, f.name)) for f in fields(can)}


def _text(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(str(v) for v in value))
    return "yes" if value else "no"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print both tables."""
    suites: dict[str, dict[str, str]] = {}
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name == DECLARES:
                suites[_suite(report)] = value
    if not suites:
        return
    terminalreporter.section("capabilities")
    for line in table(suites):
        terminalreporter.write_line(line)
    skips = Counter((_suite(r), _why(r)) for r in terminalreporter.stats.get("skipped", ()) if _suite(r) in suites)
    terminalreporter.section("skipped, because it is declared")
    for (suite, why), n in sorted(skips.items()) or [(("none", ""), 0)]:
        terminalreporter.write_line(f"{n:3d}  {suite}: {why}")


def table(suites: dict[str, dict[str, str]]) -> Iterable[str]:
    """A line per capability, a column per provider."""
    names = list(next(iter(suites.values())))
    widths = {s: max(len(s), *(len(v) for v in suites[s].values())) for s in suites}
    label = max(len(n) for n in names)
    yield " " * label + "  " + "  ".join(s.ljust(w) for s, w in widths.items())
    for name in names:
        yield name.ljust(label) + "  " + "  ".join(suites[s].get(name, "").ljust(w) for s, w in widths.items())


def _suite(report: pytest.TestReport) -> str:
    """Name of the test class."""
    parts = report.nodeid.split("::")
    return parts[1].removeprefix("Test") if len(parts) > 2 else parts[0]


def _why(report: pytest.TestReport) -> str:
    longrepr = report.longrepr
    return longrepr[2].removeprefix("Skipped: ") if isinstance(longrepr, tuple) else str(longrepr)
