"""Work on a node that preprov has not started."""

from dataclasses import dataclass
from datetime import datetime

from preprov.model.resources import Resources


@dataclass(frozen=True, slots=True)
class Foreign:
    """What one piece of work holds of a node that somebody else has put there.

    Attributes:
        amount: as whoever put it there counts it.
        since: when it began; None = nobody says.
    """

    amount: Resources
    since: datetime | None = None
