"""How a cluster is asked: by its commands or over slurmrestd, never faster than allowed."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from preprov.slurm.accounting import AccountedJob
from preprov.slurm.records import Partition, Reservation, SlurmJob
from preprov.slurm.stepstat import StepStat
from preprov.sources.budget import RequestBudget

T = TypeVar("T")


class Answers(Protocol):
    """What of a cluster is asked for: `slurm.commands.SlurmCommands` and `slurm.rest.SlurmRest` answer."""

    @property
    def jobs_a_question(self) -> int:
        """Of how many jobs `of_jobs` tells by one question to Slurm."""
        ...

    @property
    def looks_a_question(self) -> int:
        """Of how many running jobs `usage` tells by one question to Slurm; 0 = of none at all."""
        ...

    def jobs(self) -> tuple[SlurmJob, ...]:
        """Jobs the controller still knows."""
        ...

    def ended(self, since: datetime, until: datetime) -> tuple[AccountedJob, ...]:
        """Jobs that ended in [since, until]."""
        ...

    def of_jobs(self, jobs: Sequence[int]) -> tuple[AccountedJob, ...]:
        """These jobs, whenever they were; elements of an array by the number of the array."""
        ...

    def submit_lines(self, jobs: Sequence[int]) -> Mapping[int, str]:
        """Commands by which jobs were submitted, where Slurm keeps them."""
        ...

    def partitions(self) -> tuple[Partition, ...]:
        """All partitions."""
        ...

    def reservations(self) -> tuple[Reservation, ...]:
        """Reservations in force or to come."""
        ...

    def usage(self, jobs: Sequence[int]) -> tuple[StepStat, ...]:
        """What the steps of running jobs have used so far; jobs without a step, or that have ended, are left out."""
        ...

    def hidden(self) -> tuple[str, ...]:
        """Kinds of things of which this user sees but its own, such as `jobs`, as far as that is told."""
        ...

    def counted(self) -> int | None:
        """Jobs that waited or ran a moment ago, those counted that this user does not see; None = not told."""
        ...

    def version(self) -> str:
        """Of Slurm."""
        ...

    def clock(self) -> float | None:
        """What time it is for the controller, epoch seconds; None = it does not say."""
        ...


class SlurmReader:
    """Asks within a budget.

    Args:
        answers: who is asked. budget: one turn for each question.
    """

    def __init__(self, answers: Answers, budget: RequestBudget) -> None:
        self._answers = answers
        self._budget = budget

    def jobs(self) -> tuple[SlurmJob, ...]:
        """The queue."""
        return self._asked(self._answers.jobs)

    def ended(self, since: datetime, until: datetime) -> tuple[AccountedJob, ...]:
        """What ended in [since, until]."""
        return self._asked(lambda: self._answers.ended(since, until))

    def of_jobs(self, jobs: Sequence[int]) -> tuple[AccountedJob, ...]:
        """These, whenever they were."""
        out: list[AccountedJob] = []
        many = self._answers.jobs_a_question
        for i in range(0, len(jobs), many):
            out += self._asked(lambda part=tuple(jobs[i : i + many]): self._answers.of_jobs(part))  # type: ignore[misc]
        return tuple(out)

    def submit_lines(self, jobs: Sequence[int]) -> Mapping[int, str]:
        """Their commands."""
        return self._asked(lambda: self._answers.submit_lines(jobs))

    def partitions(self) -> tuple[Partition, ...]:
        """All partitions."""
        return self._asked(self._answers.partitions)

    def reservations(self) -> tuple[Reservation, ...]:
        """Reservations."""
        return self._asked(self._answers.reservations)

    def usage(self, jobs: Sequence[int]) -> tuple[StepStat, ...]:
        """What these running jobs have used so far; nothing where that cannot be asked."""
        out: list[StepStat] = []
        many = self._answers.looks_a_question
        for i in range(0, len(jobs) if many else 0, many or 1):
            out += self._asked(lambda part=tuple(jobs[i : i + many]): self._answers.usage(part))  # type: ignore[misc]
        return tuple(out)

    @property
    def looks(self) -> int:
        """Of how many running jobs one question tells what they use; 0 = that cannot be asked."""
        return self._answers.looks_a_question

    def hidden(self) -> tuple[str, ...]:
        """Of what this user sees but its own."""
        return self._asked(self._answers.hidden)

    def counted(self) -> int | None:
        """Jobs that waited or ran a moment ago, whoever may see them."""
        return self._asked(self._answers.counted)

    def version(self) -> str:
        """Of Slurm."""
        return self._asked(self._answers.version)

    def clock(self) -> float | None:
        """What time it is there, epoch seconds; None = it does not say."""
        return self._asked(self._answers.clock)

    def _asked(self, call: Callable[[], T]) -> T:
        began = self._budget.take()
        try:
            return call()
        finally:
            self._budget.answered(began)
