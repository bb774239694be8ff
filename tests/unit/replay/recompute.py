"""Waits from what `preprov replay --export-capacity` wrote: TRACE.csv CAPACITY.parquet CPU MEMORY. pandas alone."""

import sys

import pandas as pd


def tasks(trace: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, list[set[int]]]:
    """The tasks, when each was submitted (epoch s), and the positions of its parents."""
    t = trace.reset_index(drop=True)
    submit = (pd.to_datetime(t.submit) - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    row = {(r, k): i for i, (r, k) in enumerate(zip(t.run_id, t.task, strict=True))}
    needs = [
        {row[r, p] for p in str(ps).split("|")} if isinstance(ps, str) else set()
        for r, ps in zip(t.run_id, t.parents, strict=True)
    ]
    return t, submit, needs


def waits(trace: pd.DataFrame, capacity: pd.DataFrame, cpu: float, memory: float) -> pd.DataFrame:
    """One row a task: run_id, task, ready, start. First fit on busy nodes by when they became so, then an idle one."""
    running = capacity[capacity.state == "running"].sort_values("ts")
    seconds = (running.ts - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    changes = list(zip(seconds, running.ready_nodes, strict=True))
    t, submit, needs = tasks(trace)
    ready, start, ended = {}, {}, set()
    busy, ends, idle, now = [], [], 0, min(submit.min(), changes[0][0])
    while len(ended) < len(t) and now < float("inf"):
        for end, i, node in [e for e in ends if e[0] <= now + 2e-6]:  # what ends makes room
            ends.remove((end, i, node))
            ended.add(i)
            node[0], node[1], node[2] = node[0] + t.cpu[i], node[1] + t.memory_gib[i], node[2] - 1
            if not node[2]:
                busy[:] = [b for b in busy if b is not node]
                idle += 1
        going = 0
        while changes and changes[0][0] <= now + 2e-6:  # nodes come at once, and go when work has been handed out
            change = changes.pop(0)[1] - (len(busy) + idle - going)
            idle, going = idle + max(change, 0), going + max(-change, 0)
        for i in range(len(t)):
            if i not in ready and submit[i] <= now + 2e-6 and needs[i] <= ended:
                ready[i] = now
        for i in sorted((i for i in ready if i not in start), key=lambda i: (ready[i], i)):
            rooms = [*busy, *[[cpu, memory, 0]] * bool(idle)]
            node = next((b for b in rooms if b[0] > t.cpu[i] - 1e-9 and b[1] > t.memory_gib[i] - 1e-9), None)
            if node is not None and not node[2]:
                idle -= 1
                busy.append(node)
            if node is not None:
                node[0], node[1], node[2] = node[0] - t.cpu[i], node[1] - t.memory_gib[i], node[2] + 1
                start[i] = now
                ends.append((now + t.runtime_s[i], i, node))
        idle -= going
        later = [e[0] for e in ends] + [c[0] for c in changes] + [s for s in submit if s > now + 2e-6]
        now = min(later, default=float("inf"))
    return t.assign(ready=pd.Series(ready), start=pd.Series(start))[["run_id", "task", "ready", "start"]]


if __name__ == "__main__":
    found = waits(pd.read_csv(sys.argv[1]), pd.read_parquet(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
    sys.stdout.write(found.to_csv(index=False))
