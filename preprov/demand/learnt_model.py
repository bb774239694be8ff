"""A fitted model of unannounced demand, as it is kept."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from preprov.demand.forecasting.scaler import ScalerModel
from preprov.demand.forecasting.storage import from_bytes as scaler_from
from preprov.demand.forecasting.storage import to_bytes as scaler_bytes
from preprov.model.errors import UnsafeModelError
from preprov.model.resources import KINDS

FORMAT: Final = "preprov-learnt/1"


@dataclass(frozen=True)
class LearntModel:
    """A fitted model of unannounced demand.

    Attributes:
        scaler: of the hourly means of one resource; None if there was nothing to learn from, then `reason` says why.
        kind: that resource. source: "runs" if learnt from runs, "series" if from an ingested series.
        version: under which it is stored, "" if it is not.
    """

    scaler: ScalerModel | None
    kind: str = "cpu"
    source: str = "runs"
    reason: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    version: str = ""

    @property
    def format(self) -> str:
        """Name of the stored form."""
        return FORMAT

    def to_bytes(self) -> bytes:
        """A line of JSON, then the scaler in its own safe form."""
        header = {
            "format": FORMAT,
            "kind": self.kind,
            "source": self.source,
            "reason": self.reason,
            "metrics": dict(self.metrics),
        }
        body = b"" if self.scaler is None else scaler_bytes(self.scaler)
        return json.dumps(header, sort_keys=True).encode() + b"\n" + body

    @classmethod
    def from_bytes(cls, blob: bytes, version: str = "") -> "LearntModel":
        """What `to_bytes` wrote.

        Raises:
            UnsafeModelError: it is something else, or damaged.
        """
        line, _, body = blob.partition(b"\n")
        try:
            header = json.loads(line)
            if header["format"] != FORMAT or header["kind"] not in KINDS:
                raise ValueError(f"format {header['format']!r}, resource {header['kind']!r}")
            metrics = {str(k): float(v) for k, v in header["metrics"].items()}
            texts = {k: str(header[k]) for k in ("kind", "source", "reason")}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnsafeModelError(f"not a model of learnt demand: {error}", hint="preprov forecast run") from error
        scaler = scaler_from(body) if body else None
        return cls(scaler, metrics=metrics, version=version, **texts)
