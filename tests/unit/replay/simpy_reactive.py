"""The reactive autoscaler written once more, in SimPy: launch what waits and nothing warms for, end what idles."""

import math
from dataclasses import dataclass, field

import simpy

from preprov.model.worktable import WorkTable

TICK_S = 60.0


@dataclass(eq=False)
class Node:
    number: int
    free: float
    busy_since: int = 0
    tasks: int = 0
    idle_since: float = 0.0


@dataclass
class Model:
    work: WorkTable
    cpu: float
    lead_s: float
    idle_s: float
    begin: float
    starts: dict[int, float] = field(default_factory=dict)
    launches: list[float] = field(default_factory=list)
    hours: float = 0.0

    def run(self, until: float) -> "Model":
        self.env = simpy.Environment(initial_time=self.begin)
        self.nodes: list[Node] = []
        self.born: dict[Node, float] = {}
        self.waiting: list[tuple[float, int]] = []
        self.warming = self.entered = 0
        t = self.work.tasks
        self.ended = [self.env.event() for _ in range(len(t))]
        for i in range(len(t)):
            self.env.process(self.task(i))
        self.env.process(self.ticks())
        self.env.run(until)
        self.hours += sum(until - at for at in self.born.values()) / 3600
        return self

    def task(self, i: int):
        due = float(self.work.runs["due"].to_numpy()[self.work.tasks["run"].to_numpy()[i]])
        yield self.env.timeout(due - self.begin)
        yield self.env.all_of([self.ended[p] for p in self.work.parents[self.work.children == i]])
        self.waiting.append((self.env.now, i))
        self.place()

    def place(self) -> None:
        for entry in sorted(self.waiting):
            need = float(self.work.tasks["cpu"].to_numpy()[entry[1]])
            order = sorted(self.nodes, key=lambda n: (not n.tasks, n.busy_since if n.tasks else n.number))
            node = next((n for n in order if n.free >= need - 1e-9), None)
            if node is not None:
                self.waiting.remove(entry)
                self.env.process(self.serve(entry[1], node, need))
        while self.lacking() > self.warming * self.cpu + 1e-9:
            self.launch(math.ceil(self.lacking() / self.cpu - 1e-9) - self.warming)

    def lacking(self) -> float:
        return float(sum(self.work.tasks["cpu"].to_numpy()[i] for _, i in self.waiting))

    def serve(self, i: int, node: Node, need: float):
        if not node.tasks:
            self.entered += 1
            node.busy_since = self.entered
        node.free, node.tasks = node.free - need, node.tasks + 1
        self.starts[i] = self.env.now
        return self.end(i, node, need)

    def end(self, i: int, node: Node, need: float):
        yield self.env.timeout(float(self.work.tasks["runtime_s"].to_numpy()[i]))
        node.free, node.tasks = node.free + need, node.tasks - 1
        if not node.tasks:
            node.idle_since = self.env.now
        self.ended[i].succeed()
        self.place()

    def launch(self, count: int) -> None:
        for _ in range(count):
            self.warming += 1
            self.launches.append(self.env.now)
            self.env.process(self.boot(len(self.launches)))

    def boot(self, number: int):
        node, at = Node(number, self.cpu), self.env.now
        self.born[node] = at
        yield self.env.timeout(self.lead_s)
        self.warming -= 1
        node.idle_since = self.env.now
        self.nodes.append(node)
        self.place()

    def ticks(self):
        while True:
            if not self.waiting:
                for node in [n for n in self.nodes if not n.tasks and self.env.now - n.idle_since >= self.idle_s]:
                    self.nodes.remove(node)
                    self.hours += (self.env.now - self.born.pop(node)) / 3600
            yield self.env.timeout(TICK_S)
