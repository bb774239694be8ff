"""How long it takes to say what tasks should ask for. Prints JSON; seconds are of CPU.

    python -m benchmarks.sizing_speed [--runs 600]

One signature with three numbers and two words known before each run, one of which its peak follows: one task, 10,000 in
a batch, and a run learnt from. Then 10,000 signatures that are met for the first time, one run each, and asked for.
Then use over time: 64 runs of one task learnt from, and a curve of its memory asked for 64 inputs (no sequence model).
"""

import argparse
import json
import time

import numpy as np

from benchmarks.machine import machine
from preprov.model.usage import UsageRun
from preprov.profiles.aligned import features
from preprov.profiles.bank import SizerBank
from preprov.profiles.curve_sizer import CurveSizer
from preprov.profiles.history import Facts
from preprov.profiles.sizer import Sizer
from preprov.profiles.waste import Price

BATCH, ALONE, CURVES = 10_000, 200, 64
PRICE = Price(cap=128.0)


def known(rng: np.random.Generator) -> Facts:
    size = float(rng.lognormal(20, 1))
    numbers = {"input": size, "files": float(rng.lognormal(3)), "like": size * float(rng.lognormal(0, 0.5))}
    return Facts(numbers, frozenset({f"S{rng.integers(40)}", f"q{rng.integers(4)}"}))


def watched(rng: np.random.Generator, number: int) -> UsageRun:
    """Some ten minutes, a sample every six seconds, memory rising to what the input asks for."""
    size, seconds = float(rng.lognormal(21, 0.5)), 600 * float(rng.lognormal(0, 0.1))
    top = size * 1e-9 * float(rng.lognormal(0, 0.1))
    rise = np.linspace(0.1, 1.0, 100)
    return UsageRun("W", "P", float(number), seconds, rise * seconds * 0.99, rise * top, np.ones(100), 8.0, size, 2.0)


def curves(rng: np.random.Generator) -> dict[str, float]:
    """ms of CPU: a run learnt from, and a curve."""
    sizer, runs = CurveSizer(4, PRICE.cap), [watched(rng, i) for i in range(2 * CURVES)]
    begun = time.process_time()
    for run in runs[:CURVES]:
        sizer.learn(run)
    learnt = time.process_time()
    for run in runs[CURVES:]:
        sizer.curve(features(run), "memory")
    told = time.process_time()
    return {"curve_learn_ms": (learnt - begun) / CURVES * 1e3, "curve_one_ms": (told - learnt) / CURVES * 1e3}


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
                **curves(rng),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
