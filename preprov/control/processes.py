"""Work in several processes, each library in one thread: more threads than cores only get in each other's way."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Final, TypeVar

P = TypeVar("P")
R = TypeVar("R")

_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread a model, in libraries that this process has yet to load, and in processes it starts."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def in_processes(pieces: Sequence[P], work: Callable[[P], R], workers: int) -> Iterator[tuple[P, R]]:
    """Each piece with what came of it, as it is done; in this process if there is one worker or one piece.

    They are begun in their order. If one fails, or nobody asks on, those that were not begun are cancelled.
    """
    with single_threaded():
        if workers <= 1 or len(pieces) <= 1:
            yield from ((piece, work(piece)) for piece in pieces)
            return
        with ProcessPoolExecutor(min(workers, len(pieces))) as pool:
            waiting = {pool.submit(work, piece): piece for piece in pieces}
            try:
                for future in as_completed(waiting):
                    yield waiting[future], future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
