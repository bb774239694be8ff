"""Images with everything on them: one node is launched, verified, made into an image, and ended; then rolled out.

Each step finds what the one before it left by asking the cloud, so a bake that was cut short is gone on with by running
it again: the launch by its token, the image by the digest of what is on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from preprov.contracts import BakesImages, Image, LaunchRequest
from preprov.control.adopting import record_image
from preprov.control.context import Context
from preprov.control.guarding import check_guards
from preprov.control.observing import observe
from preprov.model.adoption import image_needed
from preprov.model.errors import ConfigError, ConflictError, GuardError, LeaseHeldError, PoolError
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.plans import Action, ActionKind, ActionRecord, stable_id
from preprov.model.pools import Group, Pool

log = structlog.get_logger(__name__)

_LOOK_S: Final = 10.0
_LOOK_IMAGE_S: Final = 30.0  # a cloud takes minutes for one, and every look is four calls
_LEASE_S: Final = 60.0
_IMAGE_S: Final = 3 * 3600.0
_FORGOTTEN: Final = timedelta(hours=4)
"""A bench older than this is nobody's any more."""
_REMEMBERED: Final = timedelta(days=2)
"""For so long no cloud takes the token of an attempt that is over for that of a new one."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Baked:
    """The image of a group. `made`: by this call; else it was there."""

    group: str
    image: Image
    made: bool


@dataclass(frozen=True)
class Pruned:
    """What became of the images of a group: deleted, and kept with the reason. `closed`: forgotten benches ended."""

    group: str
    deleted: tuple[Image, ...]
    kept: tuple[tuple[Image, str], ...]
    closed: tuple[str, ...]


def baking_groups(ctx: Context, pool: Pool, only: str = "") -> tuple[Group, ...]:
    """Groups of the pool whose provider bakes images.

    Raises:
        ConfigError: there is none, or the one that is named cannot.
    """
    asked = (pool.group(only),) if only else pool.groups
    able = tuple(g for g in asked if isinstance(ctx.providers.get(g.provider), BakesImages))
    if not able:
        raise ConfigError(
            f"no image can be baked for {only or pool.name}",
            where=pool.name,
            hint="groups of the providers aws, gcp and azure can",
        )
    return able


def images_of(ctx: Context, pool: Pool, group: Group) -> tuple[tuple[Image, ...], tuple[Node, ...]]:
    """Images of a group, the newest first, and its benches.

    Raises:
        PoolError: the cloud could not be asked.
    """
    provider = _provider(ctx, group)
    return provider.images(pool, group.name), provider.benches(pool, group.name)


def forgotten_benches(ctx: Context, pool: Pool, group: Group) -> tuple[Node, ...]:
    """Benches so old that nobody makes an image of them any more: they are still paid for.

    Raises:
        PoolError: the cloud could not be asked.
    """
    benches, now = _provider(ctx, group).benches(pool, group.name), ctx.clock.now()
    return tuple(replace(n, group=group.name) for n in benches if now - n.created_at > _FORGOTTEN)


def bake(ctx: Context, pool: Pool, group: Group, *, within_s: float = 3600.0, say: Say = log.info) -> Baked:
    """Have an image of what the pool preloads; nothing is launched where there is one.

    Args:
        ctx: the context.
        pool: whose preload.
        group: whose machines it is made from and for.
        within_s: a bench that is not verified by then is ended.
        say: told of each step.

    Raises:
        PoolError: the bench did not verify (it is ended, and no image is made), or a call failed; run it again then.
        GuardError: halted, or a guard forbids the one node.
    """
    provider, digest = _provider(ctx, group), pool.preload.digest
    _nothing_secret_or_empty(pool)
    image = _image(provider, pool, group, digest)
    made = image is None
    if image is None:
        bench = _opened(ctx, pool, group, say)
        _verified(ctx, pool, group, bench, within_s, say)
        say(f"{bench} holds what it should: an image of it is made")
        provider.make_image(pool, group.name, bench, digest)
    image = _finished(ctx, provider, pool, group, digest, say)
    left = [n.node_id for n in provider.benches(pool, group.name) if n.token.startswith(_stem(digest))]
    _close(ctx, pool, group, left, f"image {image.name} is ready")
    if image.state == "failed":
        raise PoolError(f"image {image.image_id} failed", where=f"{pool.name}/{group.name}", hint="preprov image prune")
    if made:
        _note(ctx, pool, group, f"image {image.image_id} of preload {digest} made")
    return Baked(group.name, image, made)


def roll_out(ctx: Context, pool: Pool, group: Group, image_id: str = "") -> tuple[Image, tuple[str, ...]]:
    """Have the group's new nodes boot from an image; "" = that of the present preload. Nodes that exist stay.

    What they booted from is recorded first, and put back when the pool is released.

    Returns:
        The image, and a line per thing changed.

    Raises:
        PoolError: there is no such image, it is not ready, or the group's template is not ours to change.
        GuardError: halted.
    """
    _not_halted(ctx, pool)
    provider = _provider(ctx, group)
    found = provider.images(pool, group.name)
    wanted = [i for i in found if (i.image_id == image_id if image_id else i.digest == pool.preload.digest)]
    ready = next((i for i in wanted if i.state == "ready"), None)
    if ready is None:
        what = f"image {image_id}" if image_id else f"image of the present preload ({pool.preload.digest})"
        state = f"is {wanted[0].state}" if wanted else "does not exist"
        raise PoolError(f"{what} {state}", where=f"{pool.name}/{group.name}", hint="preprov image bake, image list")
    record_image(ctx, pool, group)
    said = provider.roll_out(pool, group.name, ready.image_id)
    for line in said:
        _note(ctx, pool, group, line)
    return ready, said


def prune(ctx: Context, pool: Pool, group: Group, *, keep: int = 2, dry: bool = False) -> Pruned:
    """Delete images of a group but for the newest, that of the present preload, and any that is in use or needed.

    Needed is what the group booted from when it was adopted: it goes back to that.

    Args:
        keep: of the newest that are ready, so many stay. dry: only say what would be done.

    Raises:
        PoolError: a call failed; what was done until then is done.
        GuardError: halted.
    """
    _not_halted(ctx, pool)
    provider = _provider(ctx, group)
    found = provider.images(pool, group.name)
    newest = [i.image_id for i in found if i.state == "ready"][:keep]
    adopted = ctx.ports.adoptions.in_force(pool.name).get(group.name)
    needed = image_needed(adopted.baseline) if adopted else ""
    deleted, kept = [], []
    for image in found:
        why = _why_kept(image, newest, pool.preload.digest, needed)
        if not why and not dry:
            try:
                provider.delete_image(pool, group.name, image.image_id)
                _note(ctx, pool, group, f"image {image.image_id} deleted")
            except ConflictError as e:  # somebody took it into use since it was listed
                why = e.what
        if why:
            kept.append((image, why))
        else:
            deleted.append(image)
    stale = [n.node_id for n in forgotten_benches(ctx, pool, group)]
    if not dry:
        _close(ctx, pool, group, stale, "nobody makes an image of it any more")
    return Pruned(group.name, tuple(deleted), tuple(kept), tuple(stale))


def _why_kept(image: Image, newest: list[str], digest: str, needed: str) -> str:
    if image.used_by:
        return f"used by {', '.join(image.used_by[:3])}"
    if needed and image.image_id.lower() == needed.lower():
        return "is what the group goes back to when it is released"
    if image.state == "making":
        return "is being made"
    if image.state == "ready" and image.digest == digest:
        return "holds the present preload"
    return "among the newest" if image.image_id in newest else ""


# ---- steps


def _provider(ctx: Context, group: Group) -> BakesImages:
    provider: object = ctx.provider(group.provider)
    if not isinstance(provider, BakesImages):
        raise ConfigError(f"provider {group.provider} bakes no images", where=group.name)
    return provider


def _not_halted(ctx: Context, pool: Pool) -> None:
    why = ctx.ports.intent.halted()
    if why:
        raise GuardError(f"halted: {why}", where=pool.name, hint="preprov halt --resume")


def _nothing_secret_or_empty(pool: Pool) -> None:
    if pool.preload == Preload():
        raise ConfigError(
            f"pool {pool.name} preloads nothing", where=pool.name, hint="[pool.preload]; `preprov preload plan --toml`"
        )


def _image(provider: BakesImages, pool: Pool, group: Group, digest: str) -> Image | None:
    return next((i for i in provider.images(pool, group.name) if i.digest == digest and i.state != "failed"), None)


def _stem(digest: str) -> str:
    """How the tokens of a preload's benches begin; each attempt, once its bench was ended, is followed by another."""
    return f"bake-{digest}-"


def _token(ctx: Context, pool: Pool, group: Group) -> str:
    stem, since = _stem(pool.preload.digest), ctx.clock.now() - _REMEMBERED
    rows = ctx.ports.audit.records(pool.name, since=since)
    ended = {r.plan_id for r in rows if r.action.group == group.name and r.plan_id.startswith(stem)}
    return f"{stem}{len(ended)}"


def _opened(ctx: Context, pool: Pool, group: Group, say: Say) -> str:
    """The bench of this preload: found, or launched within the guards, under the pool's lease."""
    _not_halted(ctx, pool)
    provider, now = _provider(ctx, group), ctx.clock.now()
    there = provider.benches(pool, group.name)
    mine = next((n for n in there if n.token.startswith(_stem(pool.preload.digest))), None)
    if mine is not None:
        say(f"going on with {mine.node_id}")
        return mine.node_id
    token = _token(ctx, pool, group)
    _close(ctx, pool, group, [n.node_id for n in there], "what it holds is no longer wanted")
    offering = group.offerings[0]
    one = Action(
        stable_id(pool.name, group.name, token), ActionKind.LAUNCH, now, group.name, 1, "bake", offering=offering.key
    )
    until = now + _FORGOTTEN
    request = LaunchRequest(pool, group.name, offering, 1, token, pool.preload, expires_at=until)
    for _ in range(30):
        try:
            with ctx.ports.leases.hold(pool.name, ctx.holder, _LEASE_S, ctx.clock.now()):
                check_guards(ctx, pool, one, observe(ctx, pool))
                found = provider.open_bench(request)
            break
        except LeaseHeldError:
            ctx.clock.sleep(2.0)
    else:
        raise ConflictError(f"pool {pool.name} is busy", where=pool.name, hint="run it again")
    if not found:
        _note(ctx, pool, group, "no bench came of it, or it was ended by somebody", over=token)
        raise ConflictError("no bench came of it, or it was ended by somebody", where=pool.name, hint="run it again")
    bench = found[0]
    _note(ctx, pool, group, f"bench {bench} launched for preload {pool.preload.digest}", (bench,))
    say(f"{bench} was launched")
    return bench


def _verified(ctx: Context, pool: Pool, group: Group, bench: str, within_s: float, say: Say) -> None:
    """Wait until it says that it holds everything; one that fails to, or does not in time, is ended."""
    provider, until, heard = _provider(ctx, group), ctx.clock.now() + timedelta(seconds=within_s), ""
    while True:
        node = next((n for n in provider.benches(pool, group.name) if n.node_id == bench), None)
        if (node is not None and _holds(node, pool.preload)) or (node is not None and node.phase is Phase.STOPPED):
            return
        why = _given_up(node, over=ctx.clock.now() >= until, within_s=within_s)
        if why:
            _close(ctx, pool, group, [bench], why)
            raise PoolError(
                f"no image is made, {bench} {why}", where=f"{pool.name}/{group.name}", hint="correct [pool.preload]"
            )
        now = f"{bench} is {node.phase}{': ' + node.reason if node.reason else ''}" if node else ""
        if now and now != heard:
            say(now)
            heard = now
        ctx.clock.sleep(_LOOK_S)


def _holds(node: Node, preload: Preload) -> bool:
    awake = node.phase in (Phase.READY, Phase.DRAINING) and not node.settling
    return awake and node.ready_at is not None and preload.keys <= node.preloaded


def _given_up(node: Node | None, *, over: bool, within_s: float) -> str:
    """Why there is nothing to wait for; "" if there is."""
    if node is None:
        return "is gone"
    if node.phase in (Phase.FAILED, Phase.LOST):
        return f"is {node.phase}: {node.reason}"
    return f"was not verified within {within_s:.0f} s ({node.phase}: {node.reason})" if over else ""


def _finished(ctx: Context, provider: BakesImages, pool: Pool, group: Group, digest: str, say: Say) -> Image:
    """Wait until the image is whole or has failed."""
    until, told = ctx.clock.now() + timedelta(seconds=_IMAGE_S), False
    while True:
        found = [i for i in provider.images(pool, group.name) if i.digest == digest]
        if found and found[0].state != "making":
            return found[0]
        if ctx.clock.now() >= until:
            raise ConflictError("the image is not there after three hours", where=pool.name, hint="run it again")
        if found and not told:
            say(f"image {found[0].image_id} is being made")
            told = True
        ctx.clock.sleep(_LOOK_IMAGE_S)


def _close(ctx: Context, pool: Pool, group: Group, benches: list[str], why: str) -> None:
    if not benches:
        return
    try:
        _provider(ctx, group).close_benches(pool, group.name, benches)
    except PoolError as e:
        log.error("a bench could not be ended and is still paid for", pool=pool.name, nodes=benches, why=str(e))
        raise
    over = _token(ctx, pool, group)
    _note(ctx, pool, group, f"bench {', '.join(benches)} ended: {why}", tuple(benches), over=over)


def _note(ctx: Context, pool: Pool, group: Group, said: str, nodes: tuple[str, ...] = (), *, over: str = "") -> None:
    """A row of the audit, nothing that a pass repeats. `over`: token of an attempt that is over."""
    now = ctx.clock.now()
    action = Action(stable_id(pool.name, said, now.isoformat()), ActionKind.HOLD, now, group.name, 0, said)
    ctx.ports.audit.record(ActionRecord(action, pool.name, over, ctx.actor, now, "done", said, nodes))
