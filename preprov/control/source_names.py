"""Take back what a source told, or give it another name: after its [[source]] was removed or renamed."""

from collections.abc import Iterator
from contextlib import contextmanager

from preprov.control.context import Context
from preprov.model.errors import LeaseHeldError, SourceError

_LEASE_S = 600.0


def remove_source(ctx: Context, name: str) -> int:
    """Drop all that a source told, its history too; returns how many runs.

    Raises:
        SourceError: nothing is held of it. LeaseHeldError: it is being read.
    """
    _known(ctx, name)
    with _alone(ctx, name):
        return ctx.ports.sources.forget(name)


def rename_source(ctx: Context, old: str, new: str) -> None:
    """Give all that a source told another name; it is read again from the beginning, and nothing is kept twice.

    Raises:
        SourceError: nothing is held of it. LeaseHeldError: it is being read.
        StoreError: something is held under the new name already.
    """
    _known(ctx, old)
    with _alone(ctx, old), _alone(ctx, new):
        ctx.ports.sources.rename(old, new)


def _known(ctx: Context, name: str) -> None:
    known = [s.source for s in ctx.ports.sources.statuses()]
    if name not in known:
        named = ", ".join(s for s in known if not s.startswith(":")) or "none"
        raise SourceError(f"no source was ever read under the name {name!r}", hint=f"there is something of: {named}")


@contextmanager
def _alone(ctx: Context, name: str) -> Iterator[None]:
    try:
        with ctx.ports.leases.hold(f"source:{name}", ctx.holder, _LEASE_S, ctx.clock.now()):
            yield
    except LeaseHeldError as held:
        hint = "stop the `preprov up` that reads it; the change of preprov.toml is for its next start"
        raise LeaseHeldError(f"source {name} is being read by another process", where=held.where, hint=hint) from held
