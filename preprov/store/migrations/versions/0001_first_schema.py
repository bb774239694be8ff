"""The first schema."""

import sqlalchemy as sa
from alembic import op

from preprov.store.types import BigKey, EpochSeconds, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "action",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("action_id", sa.String(), nullable=False),
        sa.Column("plan_id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("group", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("result", sa.String(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_action")),
    )
    op.create_index(op.f("ix_action_action_id"), "action", ["action_id"], unique=False)
    op.create_index(op.f("ix_action_plan_id"), "action", ["plan_id"], unique=False)
    op.create_index("ix_action_pool_at", "action", ["pool", "at"], unique=False)
    op.create_table(
        "dag_template",
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("dag_id", sa.String(), nullable=False),
        sa.Column("spec", sa.String(), nullable=False),
        sa.Column("saved_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("pool", "dag_id", name=op.f("pk_dag_template")),
    )
    op.create_table(
        "demand_series",
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("header", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_demand_series")),
    )
    op.create_table(
        "drain",
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("pool", "node_id", name=op.f("pk_drain")),
    )
    op.create_table(
        "floor_override",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("floor", sa.Integer(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_floor_override")),
    )
    op.create_index(op.f("ix_floor_override_pool"), "floor_override", ["pool"], unique=False)
    op.create_table(
        "forecast",
        sa.Column("forecast_id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("issued_at", UtcDateTime(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("header", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("forecast_id", name=op.f("pk_forecast")),
        sa.UniqueConstraint("pool", "issued_at", "kind", name=op.f("uq_forecast_pool_issued_at_kind")),
    )
    op.create_table(
        "halt",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_halt")),
    )
    op.create_table(
        "intake",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.Column("rejects", sa.Integer(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("notes", sa.String(), nullable=False),
        sa.Column("imputed", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_intake")),
    )
    op.create_index(
        "uq_intake_pool_digest",
        "intake",
        ["pool", "digest"],
        unique=True,
        sqlite_where=sa.text("digest <> ''"),
        postgresql_where=sa.text("digest <> ''"),
    )
    op.create_table(
        "lead_observation",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("group", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("instance_type", sa.String(), nullable=False),
        sa.Column("image", sa.String(), nullable=False),
        sa.Column("came_from", sa.String(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("stages", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lead_observation")),
        sa.UniqueConstraint("node_id", "came_from", "at", name=op.f("uq_lead_observation_node_id_came_from_at")),
    )
    op.create_index("ix_lead_observation_provider_at", "lead_observation", ["provider", "at"], unique=False)
    op.create_table(
        "live_run",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("dag_id", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("trigger", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("cron", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("submitted_at", UtcDateTime(), nullable=False),
        sa.Column("scheduled_for", UtcDateTime(), nullable=True),
        sa.Column("due", UtcDateTime(), nullable=True),
        sa.Column("land_by", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("task_count", sa.Integer(), nullable=False),
        sa.Column("folded", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_live_run")),
        sa.UniqueConstraint("run_id", name=op.f("uq_live_run_run_id")),
    )
    op.create_index(
        "ix_live_run_open",
        "live_run",
        ["pool"],
        unique=False,
        sqlite_where=sa.text("state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')"),
        postgresql_where=sa.text("state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')"),
    )
    op.create_index("ix_live_run_pool_submitted_at", "live_run", ["pool", "submitted_at"], unique=False)
    op.create_index(
        "ix_live_run_unfolded",
        "live_run",
        ["pool", "submitted_at"],
        unique=False,
        sqlite_where=sa.text("NOT folded"),
        postgresql_where=sa.text("NOT folded"),
    )
    op.create_index(
        "uq_live_run_turn",
        "live_run",
        ["pool", "dag_id", "scheduled_for"],
        unique=True,
        sqlite_where=sa.text("scheduled_for IS NOT NULL"),
        postgresql_where=sa.text("scheduled_for IS NOT NULL"),
    )
    op.create_table(
        "model_version",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("format", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("champion", sa.Boolean(), nullable=False),
        sa.Column("metrics", sa.String(), nullable=False),
        sa.Column("backtest_id", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_version")),
        sa.UniqueConstraint("version", name=op.f("uq_model_version_version")),
    )
    op.create_index(
        "uq_model_version_champion",
        "model_version",
        ["pool", "kind"],
        unique=True,
        sqlite_where=sa.text("champion"),
        postgresql_where=sa.text("champion"),
    )
    op.create_table(
        "plan",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("plan_id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("issued_at", UtcDateTime(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan")),
        sa.UniqueConstraint("plan_id", name=op.f("uq_plan_plan_id")),
    )
    op.create_index("ix_plan_pool_issued_at", "plan", ["pool", "issued_at"], unique=False)
    op.create_table(
        "pool_lease",
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_pool_lease")),
    )
    op.create_table(
        "pool_mode",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=True),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pool_mode")),
    )
    op.create_index(op.f("ix_pool_mode_pool"), "pool_mode", ["pool"], unique=False)
    op.create_table(
        "pool_snapshot",
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("pool", "at", name=op.f("pk_pool_snapshot")),
    )
    op.create_table(
        "reservation",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("reservation_id", sa.String(), nullable=False),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("claimant", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("start", UtcDateTime(), nullable=False),
        sa.Column("end", UtcDateTime(), nullable=False),
        sa.Column("segments", sa.String(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=True),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservation")),
        sa.UniqueConstraint("reservation_id", name=op.f("uq_reservation_reservation_id")),
    )
    op.create_index(
        "ix_reservation_node",
        "reservation",
        ["pool", "node_id"],
        unique=False,
        sqlite_where=sa.text("state = 'committed'"),
        postgresql_where=sa.text("state = 'committed'"),
    )
    op.create_index("ix_reservation_pool_start", "reservation", ["pool", "start"], unique=False)
    op.create_index(
        "uq_reservation_live",
        "reservation",
        ["pool", "claimant"],
        unique=True,
        sqlite_where=sa.text("state IN ('soft', 'committed')"),
        postgresql_where=sa.text("state IN ('soft', 'committed')"),
    )
    op.create_table(
        "scale_down_vote",
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("pool", "node_id", name=op.f("pk_scale_down_vote")),
    )
    op.create_table(
        "schedule",
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("dag_id", sa.String(), nullable=False),
        sa.Column("cron", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("max_active_runs", sa.Integer(), nullable=True),
        sa.Column("land_by_s", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("pool", "dag_id", name=op.f("pk_schedule")),
    )
    op.create_table(
        "action_node",
        sa.Column("action", BigKey, autoincrement=False, nullable=False),
        sa.Column("node_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["action"], ["action.id"], name=op.f("fk_action_node_action_action")),
        sa.PrimaryKeyConstraint("action", "node_id", name=op.f("pk_action_node")),
    )
    op.create_index(op.f("ix_action_node_node_id"), "action_node", ["node_id"], unique=False)
    op.create_table(
        "history_block",
        sa.Column("id", BigKey, nullable=False),
        sa.Column("intake_id", BigKey, nullable=True),
        sa.Column("pool", sa.String(), nullable=False),
        sa.Column("first_submit", EpochSeconds(), nullable=False),
        sa.Column("last_submit", EpochSeconds(), nullable=False),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("task_count", sa.Integer(), nullable=False),
        sa.Column("runs", sa.LargeBinary(), nullable=False),
        sa.Column("tasks", sa.LargeBinary(), nullable=False),
        sa.Column("edges", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["intake_id"], ["intake.id"], name=op.f("fk_history_block_intake_id_intake")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_history_block")),
    )
    op.create_index("ix_history_block_pool_last_submit", "history_block", ["pool", "last_submit"], unique=False)
    op.create_table(
        "live_task",
        sa.Column("run", BigKey, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("spec", sa.String(), nullable=False),
        sa.Column("parents", sa.String(), nullable=False),
        sa.Column("instances", sa.BigInteger(), nullable=False),
        sa.Column("cpu", sa.Float(), nullable=False),
        sa.Column("memory", sa.Float(), nullable=False),
        sa.Column("gpu", sa.Float(), nullable=False),
        sa.Column("disk_io", sa.Float(), nullable=False),
        sa.Column("network", sa.Float(), nullable=False),
        sa.Column("gang", sa.Boolean(), nullable=False),
        sa.Column("hint_s", sa.Float(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("ready_at", UtcDateTime(), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("done", sa.String(), nullable=False),
        sa.Column("provision_wait_s", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["live_run.id"], name=op.f("fk_live_task_run_live_run")),
        sa.PrimaryKeyConstraint("run", "position", name=op.f("pk_live_task")),
        sa.UniqueConstraint("run", "task_id", name=op.f("uq_live_task_run_task_id")),
    )


def downgrade() -> None:
    op.drop_table("live_task")
    op.drop_index("ix_history_block_pool_last_submit", table_name="history_block")
    op.drop_table("history_block")
    op.drop_index(op.f("ix_action_node_node_id"), table_name="action_node")
    op.drop_table("action_node")
    op.drop_table("schedule")
    op.drop_table("scale_down_vote")
    op.drop_index(
        "uq_reservation_live",
        table_name="reservation",
        sqlite_where=sa.text("state IN ('soft', 'committed')"),
        postgresql_where=sa.text("state IN ('soft', 'committed')"),
    )
    op.drop_index("ix_reservation_pool_start", table_name="reservation")
    op.drop_index(
        "ix_reservation_node",
        table_name="reservation",
        sqlite_where=sa.text("state = 'committed'"),
        postgresql_where=sa.text("state = 'committed'"),
    )
    op.drop_table("reservation")
    op.drop_table("pool_snapshot")
    op.drop_index(op.f("ix_pool_mode_pool"), table_name="pool_mode")
    op.drop_table("pool_mode")
    op.drop_table("pool_lease")
    op.drop_index("ix_plan_pool_issued_at", table_name="plan")
    op.drop_table("plan")
    op.drop_index(
        "uq_model_version_champion",
        table_name="model_version",
        sqlite_where=sa.text("champion"),
        postgresql_where=sa.text("champion"),
    )
    op.drop_table("model_version")
    op.drop_index(
        "uq_live_run_turn",
        table_name="live_run",
        sqlite_where=sa.text("scheduled_for IS NOT NULL"),
        postgresql_where=sa.text("scheduled_for IS NOT NULL"),
    )
    op.drop_index(
        "ix_live_run_unfolded",
        table_name="live_run",
        sqlite_where=sa.text("NOT folded"),
        postgresql_where=sa.text("NOT folded"),
    )
    op.drop_index("ix_live_run_pool_submitted_at", table_name="live_run")
    op.drop_index(
        "ix_live_run_open",
        table_name="live_run",
        sqlite_where=sa.text("state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')"),
        postgresql_where=sa.text("state NOT IN ('succeeded', 'failed', 'skipped', 'cancelled')"),
    )
    op.drop_table("live_run")
    op.drop_index("ix_lead_observation_provider_at", table_name="lead_observation")
    op.drop_table("lead_observation")
    op.drop_index(
        "uq_intake_pool_digest",
        table_name="intake",
        sqlite_where=sa.text("digest <> ''"),
        postgresql_where=sa.text("digest <> ''"),
    )
    op.drop_table("intake")
    op.drop_table("halt")
    op.drop_table("forecast")
    op.drop_index(op.f("ix_floor_override_pool"), table_name="floor_override")
    op.drop_table("floor_override")
    op.drop_table("drain")
    op.drop_table("demand_series")
    op.drop_table("dag_template")
    op.drop_index("ix_action_pool_at", table_name="action")
    op.drop_index(op.f("ix_action_plan_id"), table_name="action")
    op.drop_index(op.f("ix_action_action_id"), table_name="action")
    op.drop_table("action")
