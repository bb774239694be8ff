"""What Slurm's refusals mean to whoever asks for nodes: one table."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from preprov.model.errors import ConflictError, NotAuthorisedError, NotFoundError, PoolError, ThrottledError
from preprov.slurm.errors import SlurmError, Trouble

_MEANS: Final[dict[Trouble, tuple[type[PoolError], str]]] = {
    Trouble.UNREACHABLE: (ThrottledError, "is slurmctld up? `scontrol ping`"),
    Trouble.TOO_MUCH: (ThrottledError, "are slurmctld and slurmdbd overloaded? `sdiag`"),
    Trouble.DENIED: (NotAuthorisedError, "run preprov as SlurmUser, root or a Slurm administrator"),
    Trouble.NOT_FOUND: (NotFoundError, "observe again"),
    Trouble.CONFLICT: (ConflictError, "observe again, then decide again"),
    Trouble.MISSING: (PoolError, "install Slurm's client commands on this machine"),
    Trouble.UNSUPPORTED: (PoolError, "Slurm 22.05 or newer is needed"),
}


@contextmanager
def as_pool_errors(where: str) -> Iterator[None]:
    """Inside the `with`, Slurm's refusals are raised as PoolError and its kinds."""
    try:
        yield
    except SlurmError as e:
        kind, hint = _MEANS.get(e.trouble, (PoolError, ""))
        raise kind(f"{e.where or 'slurm'}: {e.said}", where=where, hint=hint) from e
