"""[samples] of the configuration: what it says, and that the store which is opened goes by it."""

from pathlib import Path

import pytest

from preprov.app import open_app
from preprov.configfile import parse
from preprov.model.agent import Usage
from preprov.model.errors import ConfigError
from preprov.model.usage import Thinning

DAY = 86_400.0


def built(**values: object) -> Thinning:
    return parse({"samples": values}, "here").samples.build()


def test_the_defaults_are_those_of_the_store() -> None:
    assert built() == Thinning()
    assert built(thin=False) == Thinning(())
    assert built(whole_days=1, thin_seconds=10) == Thinning(((DAY, 10.0), (30 * DAY, 300.0)))


@pytest.mark.parametrize(
    "values",
    [
        {"whole_days": 0},
        {"whole_days": 40},
        {"thin_seconds": 600},
        {"thin_seconds": 70},
        {"thin": "perhaps"},
        {"whole_day": 3},
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        built(**values)


@pytest.mark.parametrize(("line", "left"), [("", 2), ("thin = false", 20), ("thin_seconds = 10", 10)])
def test_what_is_configured_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preprov_home: Path, line: str, left: int
) -> None:
    (tmp_path / "preprov.toml").write_text(f"[samples]\n{line}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("preprov.store.samples.COMPACT_FILES", 2)
    with open_app() as app:
        now = app.ctx.clock.now().timestamp() // 300 * 300
        old = [("c", Usage(now - 100 * DAY + 5 * i, memory=float(i))) for i in range(20)]
        if line == "":
            old = [("c", Usage(now - 100 * DAY + 20 * i, memory=float(i))) for i in range(20)]
        if "10" in line:
            old = [("c", Usage(now - 10 * DAY + 5 * i, memory=float(i))) for i in range(20)]
        app.ctx.ports.samples.append("p", old)
        app.ctx.ports.samples.append("p", [("d", Usage(now))])
        assert len(app.ctx.ports.samples.samples("c")) == left
