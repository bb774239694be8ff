"""Our way of sizing as it is judged on a trace: a sizer per process, told of a task what `Task` says of it."""

import numpy as np

from preprov.profiles.bank import SizerBank
from preprov.profiles.trial import Ended, Task
from preprov.profiles.waste import Price


class Ours:
    """A bank of sizers as a `trial.Method`.

    Args:
        price: what a failure is held to cost. seed: of the forests.
    """

    def __init__(self, price: Price, seed: int = 0) -> None:
        self._bank = SizerBank(price, seed)

    def ask(self, task: Task) -> float:
        """GiB: of least expected waste; what is asked for, else a node, where nothing has ended yet."""
        sized = self._bank.size(task.process, task.facts)
        if sized is not None:
            return sized.allocation
        return task.request if np.isfinite(task.request) else self._bank.price.cap

    def retry(self, task: Task, given: float) -> float:
        """Up the ladder."""
        return given * self._bank.price.ladder

    def learn(self, ended: Ended) -> None:
        """A task has ended."""
        self._bank.learn(ended.task.process, ended.peak, ended.hours, ended.task.facts)
