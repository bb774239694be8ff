"""How far an Airflow was read, in its own time."""

import json
from dataclasses import asdict, dataclass
from typing import Final

from preprov.sources.instants import NAN

OVERLAP_S: Final = 120.0
"""How far a pass looks back behind the last one: for what was written late, by a clock that is a little behind."""


@dataclass
class Cursor:
    """Instants in epoch seconds of Airflow's clock, NaN = not yet.

    Attributes:
        since: runs that ended before were read. back: so were those that ended after this, of the time before the
            first pass. floor: as far back as is wanted.
    """

    since: float = NAN
    back: float = NAN
    floor: float = NAN

    @classmethod
    def load(cls, text: str) -> "Cursor":
        """What `dump` wrote; a new one from anything else."""
        try:
            found = json.loads(text)
            return cls(**{k: NAN if v is None else float(v) for k, v in found.items()})
        except (ValueError, TypeError, AttributeError):
            return cls()

    def dump(self) -> str:
        """As text."""
        return json.dumps({k: None if v != v else round(v, 3) for k, v in asdict(self).items()})
