"""image bake|list|rollout|prune: what nodes are to hold, already on the disk they boot from."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption, YesOption

if TYPE_CHECKING:
    from preprov.app import App
    from preprov.contracts import Image
    from preprov.model.pools import Group, Pool

image_app = typer.Typer(help="Machine images with a pool's preload on them.", no_args_is_help=True)
PoolArgument = Annotated[str, typer.Argument(help="Name of the pool.")]
GroupOption = Annotated[str, typer.Option("--group", help="Only this group; all that can be baked if left out.")]


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(image_app, name="image")


def _groups(app: "App", pool: str, group: str) -> "tuple[Pool, tuple[Group, ...]]":
    from preprov.control.baking import baking_groups

    target = app.ctx.pool(pool)
    return target, baking_groups(app.ctx, target, group)


@image_app.command("list")
def image_list(pool: PoolArgument, group: GroupOption = "", output: OutputOption = Output.TABLE) -> None:
    """Show the images of a pool, which of them holds what it preloads now, and who uses them."""
    with common.opened("image list", output) as app:
        from preprov.control.baking import images_of

        target, groups = _groups(app, pool, group)
        found = [(g, *images_of(app.ctx, target, g)) for g in groups]
        if output is Output.JSON:
            rows = [
                {
                    "group": g.name,
                    "images": [_image(i, target) for i in images],
                    "benches": [
                        {"node_id": n.node_id, "phase": str(n.phase), "launched_at": n.created_at} for n in benches
                    ],
                }
                for g, images, benches in found
            ]
            body = {"digest": target.preload.digest, "groups": rows}
            common.print_json(common.envelope("image list", pool, app.ctx.clock.now(), body))
            return
        table = [
            (
                g.name,
                i.image_id,
                i.state,
                f"{i.made_at:%Y-%m-%d %H:%M}Z",
                "yes" if i.digest == target.preload.digest else "",
                ", ".join(i.used_by),
            )
            for g, images, _ in found
            for i in images
        ]
        note = "" if table else "none: `preprov image bake` makes one"
        common.print_table("", ("group", "image", "state", "made", "present preload", "used by"), table, note=note)
        for g, _, benches in found:
            for n in benches:
                common.say(f"{g.name}: {n.node_id} is there to make an image of ({n.phase})")


@image_app.command("bake")
def image_bake(
    pool: PoolArgument,
    group: GroupOption = "",
    rollout: Annotated[bool, typer.Option("--rollout", help="New nodes boot from it as soon as it is ready.")] = False,
    within: Annotated[str, typer.Option("--within", help="A machine that is not verified by then is ended.")] = "1h",
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Launch one machine, wait until it has verified all that the pool preloads, and make an image of it.

    Nothing is launched where there is such an image. A bake that was cut short is gone on with by running it again.
    """
    with common.opened("image bake", output) as app:
        from preprov.control.baking import bake, roll_out

        target, groups = _groups(app, pool, group)
        names = ", ".join(g.name for g in groups)
        common.confirm(f"Launch a machine of {names} and make an image of it?", yes)
        rows: list[dict[str, Any]] = []
        for g in groups:
            seconds = common.parse_span(within).total_seconds()
            done = bake(app.ctx, target, g, within_s=seconds, say=common.say)
            changed = roll_out(app.ctx, target, g, done.image.image_id)[1] if rollout else ()
            image = _image(done.image, target)
            rows.append({"group": g.name, "made": done.made, "image": image, "changed": list(changed)})
            if output is Output.TABLE:
                typer.echo(f"{g.name}: {done.image.image_id}{'' if done.made else ', which was there'}")
                for line in changed:
                    typer.echo(f"  {line}")
        if output is Output.JSON:
            common.print_json(common.envelope("image bake", pool, app.ctx.clock.now(), {"groups": rows}))


@image_app.command("rollout")
def image_rollout(
    pool: PoolArgument,
    group: GroupOption = "",
    image: Annotated[str, typer.Option("--image", help="Another than that of the present preload: go back.")] = "",
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Have new nodes boot from an image: launch template, instance template, or the scale set's model. Others stay."""
    with common.opened("image rollout", output) as app:
        from preprov.control.baking import roll_out

        target, groups = _groups(app, pool, group)
        common.confirm(f"Have new nodes of {', '.join(g.name for g in groups)} boot from another image?", yes)
        rows: list[dict[str, Any]] = []
        for g in groups:
            found, changed = roll_out(app.ctx, target, g, image)
            rows.append({"group": g.name, "image": _image(found, target), "changed": list(changed)})
            if output is Output.TABLE:
                typer.echo("\n".join(changed) or f"{g.name}: new nodes boot from {found.image_id} already")
        if output is Output.JSON:
            common.print_json(common.envelope("image rollout", pool, app.ctx.clock.now(), {"groups": rows}))


@image_app.command("prune")
def image_prune(
    pool: PoolArgument,
    group: GroupOption = "",
    keep: Annotated[int, typer.Option("--keep", min=0, help="Of the newest, so many stay.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete old images. One that is in use, or that holds what the pool preloads now, always stays."""
    with common.opened("image prune", output) as app:
        from preprov.control.baking import prune

        target, groups = _groups(app, pool, group)
        if not dry_run:
            common.confirm(f"Delete images of {', '.join(g.name for g in groups)} but for the newest {keep}?", yes)
        done = [prune(app.ctx, target, g, keep=keep, dry=dry_run) for g in groups]
        if output is Output.JSON:
            rows = [
                {
                    "group": d.group,
                    "deleted": [_image(i, target) for i in d.deleted],
                    "kept": [{"image": _image(i, target), "why": why} for i, why in d.kept],
                    "benches_ended": list(d.closed),
                }
                for d in done
            ]
            body = {"dry_run": dry_run, "groups": rows}
            common.print_json(common.envelope("image prune", pool, app.ctx.clock.now(), body))
            return
        for d in done:
            for i in d.deleted:
                typer.echo(f"{d.group}: {i.image_id} {'would be deleted' if dry_run else 'deleted'}")
            for i, why in d.kept:
                typer.echo(f"{d.group}: {i.image_id} stays: {why}")
            for node_id in d.closed:
                typer.echo(
                    f"{d.group}: {node_id} {'would be ended' if dry_run else 'ended'}: a bake nobody goes on with"
                )


def _image(i: "Image", pool: "Pool") -> dict[str, Any]:
    return {
        "image_id": i.image_id,
        "name": i.name,
        "digest": i.digest,
        "state": i.state,
        "made_at": i.made_at,
        "used_by": list(i.used_by),
        "present": i.digest == pool.preload.digest,
    }
