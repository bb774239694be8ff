"""What is stored is plain arrays; anything else is refused before it can do anything."""

import io
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from preprov.demand.forecasting import registry
from preprov.demand.forecasting.scaler import ScalerModel
from preprov.demand.forecasting.storage import digest, from_bytes, to_bytes
from preprov.model.errors import ConfigError, ForecastError, UnsafeModelError
from preprov.model.series import SeriesHistory
from tests.unit.demand.forecasting.series_samples import CONFIG, daily, history

KNOWN = history(daily(12))


class Planted:
    """Writes a file when unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.file}",)


class Steady:
    """A third party's member: the mean of what it saw."""

    name = "steady"
    min_steps = 24

    class Fitted:
        def __init__(self, level: float) -> None:
            self.level = level

        def predict(self, history: SeriesHistory, horizon: int, quantiles: Sequence[float]) -> np.ndarray:
            assert len(history)
            return np.tile(self.level * (0.5 + np.asarray(quantiles)), (horizon, 1))

        def state(self) -> Mapping[str, np.ndarray]:
            return {"level": np.array(self.level)}

    def fit(self, history: SeriesHistory, *, seed: int) -> "Steady.Fitted":
        return self.Fitted(float(np.nanmean(history.values)))

    def restore(self, state: Mapping[str, np.ndarray]) -> "Steady.Fitted":
        return self.Fitted(float(state["level"]))


def small() -> ScalerModel:
    return ScalerModel.fit(KNOWN, CONFIG)


def repacked(**change: np.ndarray) -> bytes:
    with np.load(io.BytesIO(to_bytes(small()))) as archive:
        arrays = {**{key: archive[key] for key in archive.files}, **change}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize("inside", [False, True])
def test_a_planted_pickle_is_refused_and_never_runs(tmp_path: Path, inside: bool) -> None:
    target = tmp_path / "ran"
    planted = Planted(target)
    data = repacked(header=np.array([planted], dtype=object)) if inside else pickle.dumps(planted)
    with pytest.raises(UnsafeModelError):
        from_bytes(data)
    assert not target.exists()


def test_other_content_than_was_recorded_is_refused() -> None:
    data = to_bytes(small())
    assert from_bytes(data, sha256=digest(data)).name == "pool"
    with pytest.raises(UnsafeModelError, match="not what was written"):
        from_bytes(data, sha256=digest(data + b" "))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 nothing", b"\x93NUMPY", to_bytes(small())[:-200]])
def test_a_broken_file_is_refused(data: bytes) -> None:
    with pytest.raises(UnsafeModelError):
        from_bytes(data)


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(UnsafeModelError, match="damaged"):
        from_bytes(repacked(**{"track/came": np.zeros((1, 1))}))
    with pytest.raises(UnsafeModelError, match="damaged"):
        from_bytes(repacked(header=np.frombuffer(b"{}", dtype=np.uint8)))
    with pytest.raises(UnsafeModelError, match="format"):
        from_bytes(repacked(header=np.frombuffer(b'{"format": "other/1", "grid": []}', dtype=np.uint8)))


def test_a_third_partys_member_joins_is_weighed_and_stored() -> None:
    config = replace(CONFIG, members=("last", "steady"), learn_days=5.0)
    offered = {"steady": Steady}
    model = ScalerModel.fit(KNOWN, config, forecasters=offered)
    forecast = model.predict(KNOWN)
    assert set(forecast.weights) == {"last", "steady"}
    again = from_bytes(to_bytes(model), forecasters=offered)
    np.testing.assert_array_equal(again.predict(KNOWN).values, forecast.values)


def test_a_member_that_is_no_longer_installed_is_left_out_and_said_so() -> None:
    config = replace(CONFIG, members=("last", "steady"), learn_days=5.0)
    data = to_bytes(ScalerModel.fit(KNOWN, config, forecasters={"steady": Steady}))
    without = from_bytes(data)
    assert "steady" in without.left_out
    forecast = without.predict(KNOWN)
    assert forecast.weights["last"] == 1.0
    assert np.isfinite(forecast.values).all()


def test_objects_in_a_members_state_are_refused_when_storing() -> None:
    class Careless(Steady):
        class Fitted(Steady.Fitted):
            def state(self) -> Mapping[str, np.ndarray]:
                return {"level": np.array([self], dtype=object)}

    config = replace(CONFIG, members=("last", "steady"), learn_days=5.0)
    with pytest.raises(UnsafeModelError, match="Python objects"):
        to_bytes(ScalerModel.fit(KNOWN, config, forecasters={"steady": Careless}))


def test_an_unknown_member_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no forecaster is called 'oracle'"):
        registry.members(("oracle",))


class Point:
    """An entry point that loads to `value`, or raises it."""

    def __init__(self, name: str, value: object) -> None:
        self.name, self.value = name, "somewhere:it"
        self._value = value

    def load(self) -> object:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


def test_an_installed_member_is_found_by_its_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, members=("last", "steady"), learn_days=5.0)
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point("steady", Steady)])
    data = to_bytes(ScalerModel.fit(KNOWN, config))
    assert from_bytes(data).predict(KNOWN).weights["steady"] > 0
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point("steady", ImportError("half installed"))])
    assert "half installed" in from_bytes(data).left_out["steady"]


def test_entry_points_are_discovered_and_a_broken_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point("steady", Steady)])
    assert registry.discover() == {"steady": Steady}
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point("bad", ImportError("no such module"))])
    with pytest.raises(ForecastError, match="'bad' cannot be loaded"):
        registry.discover()
