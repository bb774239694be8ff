"""A scaler as bytes and back: one npz of plain arrays and a JSON header. Nothing in it can run code.

numpy's own container with pickles refused is the whole format: every built-in member is a few arrays (forests as well:
see forest.py for why not skops), LightGBM is its own text, third parties give arrays too. What is read is checked.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from preprov.demand.forecasting import registry
from preprov.demand.forecasting.aggregation import MixSettings
from preprov.demand.forecasting.calibration import CalibrationSettings
from preprov.demand.forecasting.member import FittedMember
from preprov.demand.forecasting.quantiles import GRID
from preprov.demand.forecasting.scaler import ScalerConfig, ScalerModel
from preprov.demand.forecasting.track import Track
from preprov.model.errors import ConfigError, ForecastError, UnsafeModelError

FORMAT: Final = "preprov-scaler/1"
_RETRAIN: Final = "retrain the model, or roll back to an older version"


def to_bytes(model: ScalerModel) -> bytes:
    """The model as bytes; equal models give equal bytes."""
    names = sorted(model.members)
    header = {
        "format": FORMAT,
        "name": model.name,
        "step_seconds": model.step_seconds,
        "seed": model.seed,
        "trained_until": model.trained_until,
        "config": asdict(model.config),
        "members": names,
        "track": list(model.track.names),
        "grid": list(GRID),
        "fallback_reason": model.fallback_reason,
        "left_out": dict(model.left_out),
        "exogenous": list(model.exogenous),
    }
    arrays: dict[str, NDArray[Any]] = {
        "header": np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8),
        "track/origins": model.track.origins,
        "track/said": model.track.said,
        "track/came": model.track.came,
    }
    for number, name in enumerate(names):
        for key, value in model.members[name].state().items():
            arrays[f"member/{number}/{key}"] = np.asarray(value)
    if any(array.dtype.hasobject for array in arrays.values()):
        raise UnsafeModelError("a member's state holds Python objects", where=model.name, hint="plain arrays only")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes, *, sha256: str | None = None, forecasters: registry.Factories | None = None) -> ScalerModel:
    """The model whose bytes these are.

    Args:
        data: as `to_bytes` gave them. sha256: digest recorded when they were stored; another content is refused.
        forecasters: third parties' members that are not installed; one that is missing is left out and said so.

    Raises:
        UnsafeModelError: the digest differs, a pickle is inside, or it is not a scaler.
    """
    if sha256 is not None and digest(data) != sha256:
        raise UnsafeModelError("a stored model's content is not what was written", hint=_RETRAIN)
    arrays = _arrays(data)
    try:
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != FORMAT or header["grid"] != list(GRID):
            raise UnsafeModelError(f"a stored model has format {header['format']!r}, not {FORMAT!r}", hint=_RETRAIN)
        config = _config(header["config"])
        track = _track(tuple(header["track"]), arrays, config.horizon)
        left_out = dict(header["left_out"])
        members = _members(header, arrays, forecasters, left_out)
        return ScalerModel(
            str(header["name"]),
            int(header["step_seconds"]),
            config,
            int(header["seed"]),
            int(header["trained_until"]),
            members,
            track,
            header["fallback_reason"],
            left_out,
            tuple(header["exogenous"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnsafeModelError(f"a stored model is damaged: {error}", hint=_RETRAIN) from error


def digest(data: bytes) -> str:
    """SHA-256 of stored bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _arrays(data: bytes) -> dict[str, NDArray[Any]]:
    # np.load reads a bare .npy or, if allowed, a pickle too: only the zip container is accepted, and pickles never are.
    if not data.startswith(b"PK"):
        raise UnsafeModelError("a stored model is not an npz archive; it is not loaded", hint=_RETRAIN)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: np.asarray(archive[key]) for key in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise UnsafeModelError(f"a stored model cannot be read safely: {error}", hint=_RETRAIN) from error


def _config(raw: Mapping[str, Any]) -> ScalerConfig:
    fields = dict(raw)
    fields["members"] = tuple(fields["members"])
    fields["effort"] = registry.Effort(**fields["effort"])
    fields["mix"] = MixSettings(**fields["mix"])
    fields["calibration"] = CalibrationSettings(**fields["calibration"])
    return ScalerConfig(**fields)


def _track(names: tuple[str, ...], arrays: Mapping[str, NDArray[Any]], horizon: int) -> Track:
    track = Track(names, arrays["track/origins"], arrays["track/said"], arrays["track/came"])
    count = len(track.origins)
    if track.said.shape != (count, len(names), horizon, len(GRID)) or track.came.shape != (count, horizon):
        raise ValueError("its record has other shapes than its header says")
    return track


def _members(
    header: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    forecasters: registry.Factories | None,
    left_out: dict[str, str],
) -> dict[str, FittedMember]:
    out: dict[str, FittedMember] = {}
    for number, name in enumerate(header["members"]):
        prefix = f"member/{number}/"
        state = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
        try:
            offered = registry.members((name,), forecasters, steps_per_day=86_400 // int(header["step_seconds"]))
        except (ConfigError, ForecastError) as error:
            left_out[name] = error.what
            continue
        if offered:
            out[name] = offered[0].restore(state)
        else:
            left_out[name] = "its library is not installed here"
    if not out:
        raise ValueError("none of its members can be restored here")
    return out
