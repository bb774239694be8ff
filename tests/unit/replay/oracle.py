"""A slow, plain replay: from the capacity rows of a run, what started when. Shares no code with the engine."""

import pandas as pd

from preprov.model.worktable import WorkTable

SAME = 2e-6  # seconds: two clocks' idea of one instant


class Oracle:
    """One group of equal nodes; first fit over busy nodes by when they became busy, then idle ones."""

    def __init__(self, work: WorkTable, rows: pd.DataFrame, cpu: float, memory: float) -> None:
        self.tasks, self.cpu, self.memory = work.tasks, cpu, memory
        self.parents = [set(work.parents[work.children == i]) for i in range(len(work.tasks))]
        self.priority = work.runs["priority"].to_numpy()[work.tasks["run"].to_numpy()]
        self.due = work.runs["due"].to_numpy()[work.tasks["run"].to_numpy()]
        running = rows[rows.state == "running"]
        self.changes = list(zip(running.ts, running.ready_nodes, strict=True))
        self.busy, self.idle, self.going = [], 0, 0
        self.waiting, self.ends, self.known = [], [], set()
        self.undone = list(work.tasks["instances"])
        self.starts = {i: [] for i in range(len(work.tasks))}

    def end(self, at: float) -> None:
        for end in [e for e in self.ends if e[0] <= at]:
            self.ends.remove(end)
            _, node, i = end
            node[0], node[1], node[2] = node[0] + self.tasks.cpu[i], node[1] + self.tasks.memory[i], node[2] - 1
            self.undone[i] -= 1
            if not node[2]:
                self.busy[:] = [b for b in self.busy if b is not node]
                self.idle += 1

    def count_nodes(self, at: float) -> None:
        while self.changes and self.changes[0][0] <= at + SAME:
            _, n = self.changes.pop(0)
            now = len(self.busy) + self.idle - self.going
            self.idle += max(n - now, 0)
            self.going += max(now - n, 0)

    def arrive(self, at: float) -> None:
        for i, parents in enumerate(self.parents):
            if i not in self.known and self.due[i] <= at + SAME and not any(self.undone[p] for p in parents):
                self.known.add(i)
                self.waiting.append((at, i, int(self.tasks.instances[i])))

    def first_fit(self, i: int) -> list | None:
        cpu, memory = self.tasks.cpu[i] - 1e-9, self.tasks.memory[i] - 1e-9
        node = next((b for b in self.busy if b[0] > cpu and b[1] > memory), None)
        if node is None and self.idle:
            self.idle -= 1
            node = [self.cpu, self.memory, 0]
            self.busy.append(node)
        return node

    def slots(self, i: int) -> int:
        """How many instances of the task all nodes could take now."""
        cpu, memory = self.tasks.cpu[i], self.tasks.memory[i]
        rooms = [(b[0], b[1]) for b in self.busy] + [(self.cpu, self.memory)] * self.idle
        return sum(int(min((c + 1e-9) // cpu, (m + 1e-9) // memory if memory else c // cpu)) for c, m in rooms)

    def start(self, at: float) -> None:
        left = []
        for ready, i, n in sorted(self.waiting, key=lambda w: (-self.priority[w[1]], w[0], w[1])):
            held = self.tasks.gang[i] and self.slots(i) < n
            while n and not held and (node := self.first_fit(i)) is not None:
                node[0], node[1], node[2] = node[0] - self.tasks.cpu[i], node[1] - self.tasks.memory[i], node[2] + 1
                self.ends.append((at + self.tasks.runtime_s[i], node, i))
                self.starts[i].append(at)
                n -= 1
            if n:
                left.append((ready, i, n))
        self.waiting = left

    def run(self) -> dict[int, list[float]]:
        """Task position -> start of each instance."""
        at = min([*self.due, *(t for t, _ in self.changes)])
        while True:
            self.end(at)
            self.count_nodes(at)
            self.arrive(at)
            self.start(at)
            self.idle, self.going = self.idle - self.going, 0  # nodes leave once work has been handed out
            later = [e[0] for e in self.ends] + [t for t, _ in self.changes] + [d for d in self.due if d > at + SAME]
            if not later:
                return self.starts
            at = min(later)
