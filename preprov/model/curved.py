"""How reservations follow what tasks are expected to use, and when it pays to try one beforehand."""

from dataclasses import dataclass

from preprov.model.errors import ConfigError

MEMORY_STRICTER = 10.0
"""Memory may be exceeded that many times less often than cores: the one kills, the other slows down."""
MEMORY_QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class CurvePacking:
    """Tasks whose peaks do not meet may share a node.

    Attributes:
        quantile: of the expected use of cores that a reservation is never below; of memory .99, or this if more.
        meeting: bound on the chance, at each placement, that the tasks of a node come to use more cores than it has
            while the new one runs; of memory a tenth of it. 0 = tasks are packed by their requests.
        margin: share of the curve that is reserved on top of it.
        steps: segments of a reservation. runs: watched runs of the very same code that a curve is trusted from.
        late_s: how late a start is, on average (exponential).
    """

    quantile: float = 0.9
    meeting: float = 0.01
    margin: float = 0.1
    steps: int = 4
    runs: int = 8
    late_s: float = 5.0

    def __post_init__(self) -> None:
        if not (0.5 <= self.quantile < 1 and 0 <= self.meeting < 0.5 and self.margin >= 0):
            raise ConfigError(
                "0.5 <= quantile < 1, 0 <= meeting < 0.5 and margin >= 0 are wanted", where="[pool.curves]"
            )
        if self.steps < 1 or self.runs < 3 or self.late_s < 0:
            raise ConfigError("steps >= 1, runs >= 3 and late >= 0 are wanted", where="[pool.curves]")

    @property
    def memory_quantile(self) -> float:
        """Of memory."""
        return max(self.quantile, MEMORY_QUANTILE)

    @property
    def meeting_in_memory(self) -> float:
        """Of memory."""
        return self.meeting / MEMORY_STRICTER


@dataclass(frozen=True, slots=True)
class Probing:
    """What probe runs are weighed by.

    Attributes:
        failure: how much a failed attempt counts against memory that was not needed; 1 = what it cost.
        worth: a probe must be worth so many times what it costs.
    """

    failure: float = 2.0
    worth: float = 1.0

    def __post_init__(self) -> None:
        if self.failure < 0 or self.worth < 0:
            raise ConfigError("failure >= 0 and worth >= 0 are wanted", where="[pool.probe]")
