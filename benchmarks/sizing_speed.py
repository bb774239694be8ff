"""How long it takes to say what tasks should ask for. Prints JSON; seconds are of CPU.

    python -m benchmarks.sizing_speed [--runs 600]

One signature with three numbers and two words known before each run, one of which its peak follows: one task, 10,000 in
a batch, and a run learnt from. Then 10,000 signatures that are met for the first time, one run each, and asked for.
"""

import argparse
import json
import time

import numpy as np

from benchmarks.machine import machine
from preprov.profiles.bank import SizerBank
from preprov.profiles.history import Facts
from preprov.profiles.sizer import Sizer
from preprov.profiles.waste import Price

BATCH, ALONE = 10_000, 200
PRICE = Price(cap=128.0)


def known(rng: np.random.Generator) -> Facts:
    size = float(rng.lognormal(20, 1))
    numbers = {"input": size, "files": float(rng.lognormal(3)), "like": size * float(rng.lognormal(0, 0.5))}
    return Facts(numbers, frozenset({f"S{rng.integers(40)}", f"q{rng.integers(4)}"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=600)
    runs = parser.parse_args().runs
    rng, sizer = np.random.default_rng(0), Sizer(PRICE)
    past, asked = [known(rng) for _ in range(runs)], [known(rng) for _ in range(BATCH)]
    begun = time.process_time()
    for facts in past:
        sizer.learn(1 + facts.numbers["input"] * 3e-9 * float(rng.lognormal(0, 0.1)), 0.2, facts)
    learnt = time.process_time()
    sizer.size(asked)
    together = time.process_time()
    for facts in asked[:ALONE]:
        sizer.size([facts])
    alone = time.process_time()
    bank = SizerBank(PRICE)
    for i in range(BATCH):
        bank.learn(f"tenant/dag/task-{i}", 2.0, 0.1, asked[i])
        bank.size(f"tenant/dag/task-{i}", asked[i])
    new = time.process_time()
    print(
        json.dumps(
            {
                "machine": machine(),
                "runs": runs,
                "learn_ms": (learnt - begun) / runs * 1e3,
                "batch_of_10000_s": together - learnt,
                "one_ms": (alone - together) / ALONE * 1e3,
                "10000_new_signatures_learnt_and_asked_s": new - alone,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
