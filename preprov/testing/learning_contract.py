"""What every store must do with lead times, votes, models and samples."""

import pickle
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from preprov.contracts import LeadObservation, Ports
from preprov.model.agent import Usage
from preprov.model.errors import (
    StoreError,
    UnsafeModelError,
)
from preprov.model.learning import DETECTOR, BacktestRecord, ForecastScore, QuarantinedDay
from preprov.model.offerings import Standby
from preprov.model.time import epoch
from preprov.testing.store_examples import (
    POOL,
    T0,
    PortsContract,
    minutes,
    npz,
)


class LearningContract(PortsContract):
    """Lead times, votes, models, samples."""

    def lead(self, **changes: object) -> LeadObservation:
        """One warming."""
        made = LeadObservation(
            T0, POOL, "local", "g", "z", "m", "img", Standby.COLD, 12.5, "n1", {"boot": 2.5, "image": 10.0}, "ready"
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    def test_lead_times_are_kept_once(self, ports: Ports) -> None:
        """In time order."""
        late = self.lead(at=T0 + minutes(1), outcome="insufficient_capacity")
        other = self.lead(provider="aws", node_id="n2")
        for o in (late, self.lead(), self.lead(), other, self.lead(came_from=Standby.STOPPED, at=T0 - minutes(1))):
            ports.leads.add(o)
        assert len(ports.leads.observations()) == 4
        assert ports.leads.observations("aws") == (other,)
        assert ports.leads.observations("local", since=T0) == (self.lead(), late)

    def test_many_lead_times_are_kept_at_once_and_each_once(self, ports: Ports) -> None:
        """As what a cloud has on record of weeks."""
        many = [self.lead(node_id=f"n{i % 97}", at=T0 + minutes(i)) for i in range(700)]
        ports.leads.add(*many[:300])
        ports.leads.add(*many, *many[:10])
        ports.leads.add()
        assert ports.leads.observations("local") == tuple(many)

    def test_votes_are_replaced_as_a_whole(self, ports: Ports) -> None:
        """A node not named loses its own."""
        ports.votes.replace(POOL, {"a": T0, "b": T0 + minutes(1)})
        ports.votes.replace("other", {"a": T0})
        ports.votes.replace(POOL, {"b": T0 + minutes(1), "c": T0})
        assert dict(ports.votes.votes(POOL)) == {"b": T0 + minutes(1), "c": T0}
        assert dict(ports.votes.votes("other")) == {"a": T0}
        ports.votes.replace(POOL, {})
        assert dict(ports.votes.votes(POOL)) == {}

    def test_the_first_model_is_champion_until_another_is_promoted(self, ports: Ports) -> None:
        """One champion of each (pool, kind)."""
        blobs = [npz(weights=np.arange(3) + i) for i in range(2)]
        first, second = (
            ports.models.save(POOL, "learnt", "npz", b, at=T0 + minutes(i), metrics={"wql": 0.25 + i}, reason="fit")
            for i, b in enumerate(blobs)
        )
        assert (first.champion, second.champion) == (True, False)
        assert ports.models.load(POOL, "learnt") == (first, blobs[0])
        assert ports.models.load(POOL, "learnt", second.version) == (second, blobs[1])
        later = T0 + minutes(9)
        promoted = ports.models.promote(second.version, at=later, reason="better by 3 %", backtest_id="b1", actor="me")
        assert (promoted.champion, promoted.reason, promoted.backtest_id) == (True, "better by 3 %", "b1")
        assert ports.models.load(POOL, "learnt") == (promoted, blobs[1])
        assert [(v.version, v.champion) for v in ports.models.versions(POOL)] == [
            (second.version, True),
            (first.version, False),
        ]
        assert ports.models.load(POOL, "other") is None
        assert ports.models.load("other", "learnt", first.version) is None
        assert ports.models.versions("other") == ()
        with pytest.raises(StoreError):
            ports.models.promote("none", at=T0, reason="")

    def test_who_became_champion_is_remembered(self, ports: Ports) -> None:
        """With the one before, so that it can be taken back."""
        a, b = (
            ports.models.save(POOL, "learnt", "npz", npz(a=np.full(2, i)), at=T0 + minutes(i), metrics={}, reason="fit")
            for i in range(2)
        )
        ports.models.save("other", "learnt", "npz", npz(a=np.zeros(1)), at=T0, metrics={})
        ports.models.promote(b.version, at=T0 + minutes(5), reason="better", backtest_id="b1", actor="me")
        ports.models.promote(b.version, at=T0 + minutes(6), reason="once more")
        ports.models.promote(a.version, at=T0 + minutes(7), reason="as it was", actor="me", rollback=True)
        found = ports.models.promotions(POOL, "learnt")
        assert [(p.version, p.before, p.reason, p.backtest_id, p.actor, p.rollback) for p in found] == [
            (a.version, b.version, "as it was", "", "me", True),
            (b.version, a.version, "better", "b1", "me", False),
            (a.version, "", "fit", "", "", False),
        ]
        assert [p.at for p in found] == [T0 + minutes(7), T0 + minutes(5), T0]
        assert ports.models.promotions(POOL, "none") == ()

    def test_old_versions_are_forgotten_but_the_champion_never(self, ports: Ports) -> None:
        """Who was champion stays on record."""
        made = [
            ports.models.save(POOL, "learnt", "npz", npz(a=np.full(2, i)), at=T0 + minutes(i), metrics={}).version
            for i in range(3)
        ]
        ports.models.promote(made[1], at=T0 + minutes(5), reason="better")
        assert ports.models.forget([made[0], made[1], "none"]) == 1
        assert ports.models.forget([]) == 0
        assert [v.version for v in ports.models.versions(POOL)] == [made[2], made[1]]
        assert [p.version for p in ports.models.promotions(POOL, "learnt")] == [made[1], made[0]]

    def test_backtests_are_kept_by_id(self, ports: Ports) -> None:
        """Newest first, equal to what was given."""
        first = BacktestRecord(
            "b1",
            POOL,
            "learnt",
            T0,
            "v1",
            "v2",
            (T0, T0 + minutes(60)),
            (1.5, 2.0),
            (1.25, 0.1 + 0.2),
            {"a_80": 0.75},
            0.04,
        )
        second = BacktestRecord("b2", POOL, "learnt", T0 + minutes(1), "", "v3", promoted=True, reason="the first")
        for record in (first, second, replace(first, backtest_id="b3", pool="other")):
            ports.learning.save_backtest(record)
        ports.learning.save_backtest(replace(first, promoted=True))
        assert ports.learning.backtests(POOL) == (second, replace(first, promoted=True))
        assert ports.learning.backtest("b2") == second
        assert ports.learning.backtest("none") is None
        assert ports.learning.backtests("none") == ()

    def test_scores_are_kept_by_forecast(self, ports: Ports) -> None:
        """In the order of issue; a step that is not known stays unknown."""

        def score(name: str, minute: float, **more: object) -> ForecastScore:
            at = T0 + minutes(minute)
            made = ForecastScore(name, POOL, at, T0, "v1", "cpu", at, 3600, (0.5, None, 0.25), 0.8, None, 0.1)
            return replace(made, **more)  # type: ignore[arg-type]

        late, early = score("f2", 60), score("f1", 0)
        for one in (late, early, score("f3", 0, pool="other"), replace(late, wql=0.2)):
            ports.learning.save_score(one)
        assert ports.learning.scores(POOL) == (early, replace(late, wql=0.2))
        assert ports.learning.scores(POOL, since=T0 + minutes(1)) == (replace(late, wql=0.2),)
        assert early.points == 2

    def test_a_day_in_quarantine_can_be_lifted(self, ports: Ports) -> None:
        """It is one row: as it is now."""
        held = QuarantinedDay(POOL, date(2025, 3, 2), "thrice the usual", DETECTOR, T0)
        earlier = QuarantinedDay(POOL, date(2025, 2, 27), "a migration", "me", T0)
        for day in (held, earlier, replace(held, pool="other")):
            ports.learning.quarantine(day)
        assert ports.learning.quarantined(POOL) == (earlier, held)
        lifted = replace(held, lifted_at=T0 + minutes(5), lifted_by="me", lift_reason="it was real")
        ports.learning.quarantine(lifted)
        assert ports.learning.quarantined(POOL) == (earlier, lifted)
        assert [d.in_force for d in ports.learning.quarantined(POOL)] == [True, False]

    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_a_pickle_is_not_stored(self, ports: Ports, protocol: int) -> None:
        """Under whatever name."""
        blob = pickle.dumps({"a": [1, 2.5]}, protocol=protocol)
        for fmt in ("npz", "json", "pickle"):
            with pytest.raises(UnsafeModelError):
                ports.models.save(POOL, "learnt", fmt, blob, at=T0, metrics={})
        assert ports.models.versions() == ()

    def test_samples_come_back_in_time_order(self, ports: Ports) -> None:
        """What was not observed is None, never 0."""
        a = [Usage(epoch(T0) + i, cpu=i / 3, memory=None, disk_io=0.0) for i in range(5)]
        assert ports.samples.append(POOL, [("run/a#0", u) for u in reversed(a[2:])]) == 3
        assert ports.samples.append(POOL, [("run/a#0", u) for u in a[:2]] + [("run/b#0", Usage(1.0))]) == 3
        assert ports.samples.append("p/../x", [("run/c#0", Usage(2.0, gpu=1.0))]) == 1
        assert ports.samples.append(POOL, []) == 0
        assert ports.samples.samples("run/a#0") == tuple(a)
        assert ports.samples.samples("run/b#0") == (Usage(1.0),)
        assert ports.samples.samples("run/c#0") == (Usage(2.0, gpu=1.0),)
        assert ports.samples.samples("none") == ()
        assert ports.samples.latest(["run/a#0", "run/b#0", "none"], since=a[-1].at) == {"run/a#0": a[-1]}
