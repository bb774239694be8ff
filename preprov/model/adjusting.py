"""How what running tasks may use follows what they use."""

from dataclasses import dataclass

from preprov.model.errors import ConfigError
from preprov.model.resources import Resources

SIGNALS = ("SIGUSR1", "SIGUSR2", "SIGTERM", "SIGINT", "SIGHUP")
"""What may tell a task to keep what it has done."""


@dataclass(frozen=True, slots=True)
class Adjusting:
    """How far and how fast allocations of running tasks are changed.

    Attributes:
        increase, decrease: whether they are at all; with neither, tasks are held to what they asked for.
        headroom: share of what is in use that is allocated on top of it.
        tolerance: an allocation that much larger than that is left as it is.
        calm_s: how long a task must have used less before anything is taken from it; doubled each time that was a
            mistake. every_s: between two changes of one task, unless it is about to run out of memory.
        ahead_s: how far ahead its curve and the growth of its memory are looked at.
        most: no task gets more than so many times what it asked for.
        unseen: share of the memory asked for that is left to a task of which no past run says what is to come.
        move: a task that has no room to grow is ended, and goes on elsewhere.
        pending: jobs of people that wait in the pool's cluster ask for what their task was sized to.
        signal: tells a task to keep what it has done before that. grace_s: time for it.
    """

    increase: bool = True
    decrease: bool = True
    headroom: float = 0.25
    tolerance: float = 0.2
    calm_s: float = 60.0
    every_s: float = 10.0
    ahead_s: float = 30.0
    most: float = 4.0
    unseen: float = 0.5
    move: bool = True
    signal: str = "SIGUSR2"
    grace_s: float = 30.0
    pending: bool = False

    def __post_init__(self) -> None:
        if not (self.headroom > 0 and 0 < self.tolerance < 1 and 0 <= self.unseen <= 1 and self.most >= 1):
            raise ConfigError(
                "headroom > 0, 0 < tolerance < 1, 0 <= unseen <= 1 and most >= 1 are wanted", where="[pool.adjust]"
            )
        if self.signal not in SIGNALS:
            raise ConfigError(f"signal {self.signal} is not one of {', '.join(SIGNALS)}", where="[pool.adjust]")


@dataclass(frozen=True, slots=True)
class Adjustable:
    """What an adjuster can change of a task; anything else it refuses.

    Attributes:
        running, pending: the resources, while the task runs and before it does.
        time_limit: how long it may run. checkpoint: it can be told to keep what it has done.
        lasts: what was set stands until it is set anew, so nobody has to renew it.
        booked: somebody else's books hold all that a task asked for as long as it runs, so that less is nobody's gain.
        why_not: what stands in the way of the rest, for people.
    """

    running: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()
    time_limit: bool = False
    checkpoint: bool = False
    lasts: bool = False
    booked: bool = False
    why_not: str = ""


LEAST = Resources(cpu=0.05, memory=1 / 32)
"""No task is held to less, whatever it uses."""
