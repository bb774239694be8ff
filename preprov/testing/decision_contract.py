"""What every store must do with forecasts, plans, audit rows and snapshots."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from preprov.contracts import PoolSnapshot, Ports
from preprov.model.demand import DemandCurve
from preprov.model.offerings import Standby
from preprov.model.plans import Action, ActionKind, ActionRecord, Alternative, CapacityPlan, Target
from preprov.model.pools import Mode
from preprov.model.resources import Resources
from preprov.testing.store_examples import (
    POOL,
    T0,
    PortsContract,
    minutes,
)


class DecisionContract(PortsContract):
    """Forecasts, plans, audit rows, snapshots."""

    def curve(self, *, at: datetime = T0, step: int = 300, level: float = 1.0, pool: str = POOL) -> DemandCurve:
        """A small forecast."""
        samples = np.random.default_rng(0).uniform(0, level, (7, 4, 5)).astype(np.float32)
        return DemandCurve(
            pool=pool,
            issued_at=at,
            start=at + minutes(5),
            step_seconds=step,
            samples=samples,
            mean=samples / 2,
            parts={"queued": samples.mean(axis=0)},
            quantiles=(0.5, 0.95),
            basis={"model": "m", "source_age_s": 3.5, "fallback": None, "sources": ["a", "b"]},
        )

    def test_a_forecast_is_read_back_the_same(self, ports: Ports) -> None:
        """Samples bit for bit."""
        made = self.curve()
        forecast_id = ports.forecasts.save(made)
        found = ports.forecasts.get(forecast_id)
        assert found is not None
        np.testing.assert_array_equal(found.samples, made.samples)
        assert found.mean is not None
        assert made.mean is not None
        np.testing.assert_array_equal(found.mean, made.mean)
        np.testing.assert_array_equal(found.parts["queued"], made.parts["queued"])
        assert found.samples.dtype == np.float32
        assert (found.start, found.step_seconds, found.quantiles) == (made.start, 300, (0.5, 0.95))
        assert dict(found.basis) == dict(made.basis)
        assert ports.forecasts.get("none") is None

    def test_the_latest_forecast_is_the_last_issued_by_then(self, ports: Ports) -> None:
        """Not the last written."""
        late = ports.forecasts.save(self.curve(at=T0 + minutes(60)))
        early = ports.forecasts.save(self.curve(at=T0))
        ports.forecasts.save(self.curve(at=T0 + minutes(90), pool="other"))
        for at, wanted in ((None, late), (T0 + minutes(60), late), (T0 + minutes(59), early), (T0, early)):
            found = ports.forecasts.latest(POOL, at)
            assert found is not None
            assert found[0] == wanted
        assert ports.forecasts.latest(POOL, T0 - minutes(1)) is None
        assert ports.forecasts.issued(POOL, T0, T0 + minutes(90)) == ((early, T0), (late, T0 + minutes(60)))
        assert ports.forecasts.issued(POOL, T0 + minutes(1), T0 + minutes(59)) == ()

    def test_the_same_forecast_issued_again_replaces_the_first(self, ports: Ports) -> None:
        """By (pool, issued_at, kind)."""
        first = ports.forecasts.save(self.curve(level=1.0))
        assert ports.forecasts.save(self.curve(level=2.0)) == first
        assert ports.forecasts.save(self.curve(step=3600)) != first
        found = ports.forecasts.get(first)
        assert found is not None
        assert found.samples.max() > 1.0

    def plan(self, plan_id: str = "abcd1234", at: datetime = T0, pool: str = POOL) -> CapacityPlan:
        """A plan with everything in it."""
        launch = Action(
            "a1",
            ActionKind.LAUNCH,
            at + minutes(1),
            "g",
            4,
            "launch 4 x m: 38 cores due",
            offering="m/any/on_demand",
            cost_usd=0.21,
            numbers={"cores": 38.0, "p": 0.95},
        )
        stop = Action("a2", ActionKind.STOP, at, "g", 1, "idle", standby_state=Standby.STOPPED, node_ids=("n1",))
        return CapacityPlan(
            plan_id=plan_id,
            pool=pool,
            mode=Mode.FLOOR,
            issued_at=at,
            valid_until=at + minutes(5),
            actions=(launch, stop),
            targets=(Target(at, "g", Standby.RUNNING, 4),),
            cost_usd=None,
            node_hours=1.5,
            expected_wait_core_hours=0.1 + 0.2,
            forecast_id="f",
            observed="o",
            alternatives=(Alternative("wait", None, 11.0, "too long"),),
            notes=("note",),
            fallback="",
        )

    def test_a_plan_is_read_back_the_same(self, ports: Ports) -> None:
        """By id or unique prefix."""
        made = self.plan()
        ports.plans.save(made)
        ports.plans.save(made)
        ports.plans.save(self.plan("abzz"))
        assert ports.plans.get("abcd1234") == made
        assert ports.plans.get("abcd") == made
        assert ports.plans.get("ab") is None
        assert ports.plans.get("") is None
        assert ports.plans.get("none") is None

    def test_the_latest_plan_of_a_pool(self, ports: Ports) -> None:
        """None before the first."""
        assert ports.plans.latest(POOL) is None
        ports.plans.save(self.plan("p1"))
        last = self.plan("p2", T0 + minutes(1))
        ports.plans.save(last)
        ports.plans.save(self.plan("p3", T0 + minutes(2), pool="other"))
        assert ports.plans.latest(POOL) == last

    def test_the_latest_plan_that_looks_ahead(self, ports: Ports) -> None:
        """The last with targets, past what was only done at once."""
        assert ports.plans.latest(POOL, ahead=True) is None
        at_once = replace(self.plan("p0"), targets=())
        ports.plans.save(at_once)
        assert ports.plans.latest(POOL, ahead=True) is None
        wanted = self.plan("p1", T0 + minutes(1))
        ports.plans.save(wanted)
        ports.plans.save(replace(at_once, plan_id="p2", issued_at=T0 + minutes(2)))
        assert ports.plans.latest(POOL, ahead=True) == wanted
        assert ports.plans.latest(POOL, ahead=False) != wanted

    def test_audit_rows_are_added_and_found(self, ports: Ports) -> None:
        """By pool, time, node and action, in time order."""
        launch, stop = self.plan().actions

        def row(action: Action, minute: int, result: str, nodes: Sequence[str] = (), pool: str = POOL) -> ActionRecord:
            return ActionRecord(action, pool, "p1", "cron", T0 + minutes(minute), result, "detail", tuple(nodes))

        rows = [row(launch, 1, "intended"), row(launch, 1, "done", ["n7", "n8"]), row(stop, 2, "done")]
        for r in (rows[2], rows[0], rows[1], row(launch, 3, "done", ["n9"], pool="other")):
            ports.audit.record(r)
        assert list(ports.audit.records(POOL)) == rows
        assert list(ports.audit.records(node_id="n8")) == [rows[1]]
        assert list(ports.audit.records(node_id="n1")) == [rows[2]]
        assert list(ports.audit.records(action_id="a1", pool=POOL)) == rows[:2]
        assert list(ports.audit.records(POOL, since=T0 + minutes(2))) == [rows[2]]
        assert len(ports.audit.records()) == 4

    def test_snapshots_are_kept_once_an_instant(self, ports: Ports) -> None:
        """In time order, within a window with both ends."""

        def shot(minute: int, usd: float | None = 1.25) -> PoolSnapshot:
            return PoolSnapshot(
                POOL, T0 + minutes(minute), {"g": {"ready": 2}}, Resources(cpu=4), Resources(cpu=1), usd, 3, Resources()
            )

        for s in (shot(2), shot(0), shot(1), shot(1), shot(3, None)):
            ports.history.record(s)
        assert ports.history.snapshots(POOL) == (shot(0), shot(1), shot(2), shot(3, None))
        assert ports.history.snapshots(POOL, since=T0 + minutes(1), until=T0 + minutes(2)) == (shot(1), shot(2))
        assert ports.history.snapshots("other") == ()
