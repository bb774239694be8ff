"""retrain: watch what was issued, put up a challenger, promote it on evidence."""

from typing import TYPE_CHECKING

from prefect import flow, task

from flows import common

if TYPE_CHECKING:
    from preprov.control.learning import Lesson


@task(name="retrain pool", task_run_name="retrain {pool}", tags=["preprov"])
def retrain_pool(pool: str) -> dict[str, object]:
    """One round of learning for one pool, kept as a table and a text. A pool without history is left out."""
    from preprov.control.learning import retrain as use_case
    from preprov.model.errors import ForecastError

    with common.opened("retrain") as app:
        try:
            lesson = use_case(app.ctx, app.ctx.pool(pool))
        except ForecastError as e:
            common.text(f"retrain {pool} missing", str(e), f"No model of pool {pool}")
            return {"pool": pool, "challenger": None, "why": e.what}
    facts = _facts(lesson)
    common.table(f"model {pool}", [facts], f"Champion and challenger of pool {pool}")
    common.text(f"retrain {pool}", _story(lesson), f"What was learnt for pool {pool}")
    return facts


@flow(name="retrain", task_runner=common.task_runner())
def retrain(pools: list[str] | None = None) -> list[dict[str, object]]:
    """A round of learning for each pool."""
    done = [f.result() for f in retrain_pool.map(common.chosen(pools))]
    common.table("retrain", done, "Champions and challengers of all pools")
    return done


def _facts(lesson: "Lesson") -> dict[str, object]:
    """One row: the decision and what it rests on."""
    made = lesson.challenge
    record = made.record if made else None
    return {
        "pool": lesson.pool,
        "champion": made.champion.version if made else None,
        "challenger": made.challenger.version if made else None,
        "decision": ("promoted" if record.promoted else "kept beside") if record else None,
        "why": record.reason if record else None,
        "p": None if record is None or record.p is None else round(record.p, 4),
        "origins": len(record.origins) if record else 0,
        "backtest": record.backtest_id if record else None,
        "issued_coverage80": lesson.watch.coverage["80"],
        "drift": "; ".join(str(d) for d in lesson.watch.drifts),
        "quarantined": ", ".join(d.day.isoformat() for d in lesson.review.held),
    }


def _story(lesson: "Lesson") -> str:
    """The same in words, with what each origin cost both."""
    lines = [f"# {lesson.pool}", "", f"A challenger was put up: {lesson.cause}."]
    if lesson.challenge:
        record = lesson.challenge.record
        decision = "promoted" if record.promoted else "kept beside the champion"
        lines += ["", f"**{lesson.challenge.challenger.version} {decision}**: {record.reason}.", ""]
        rows = zip(record.origins, record.champion_loss, record.challenger_loss, strict=True)
        lines += ["| origin | champion's loss | challenger's loss |", "|---|---|---|"] if record.origins else []
        lines += [f"| {at:%Y-%m-%d %H:%M}Z | {old:.4g} | {new:.4g} |" for at, old, new in rows]
    watch = lesson.watch
    lines += ["", "## Forecasts issued", ""]
    if watch.forecasts:
        covered = f"80 % intervals covered {watch.coverage['80']:.0%} of {watch.hours} hours"
        lines.append(f"{watch.forecasts} in the last two weeks; {covered}.")
    lines.append(f"Drift: {'; '.join(str(d) for d in watch.drifts) or 'none'}.")
    lines += ["", "## Days kept out of training", ""]
    lines += [f"- {d.day}: {d.reason} ({d.actor})" for d in lesson.review.held] or ["None."]
    lines += [f"- {d.day} is learnt from again: {d.lift_reason}" for d in lesson.review.lifted]
    return "\n".join(lines)
