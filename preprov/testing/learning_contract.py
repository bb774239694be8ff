"""What every store must do with lead times, votes, models and samples."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from preprov.contracts import LeadObservation, Ports
from preprov.model.agent import Usage
from preprov.model.errors import (
    StoreError,
    UnsafeModelError,
)
from preprov.model.pools import Standby
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
        promoted = ports.models.promote(second.version, reason="better by 3 %")
        assert (promoted.champion, promoted.reason) == (True, "better by 3 %")
        assert ports.models.load(POOL, "learnt") == (promoted, blobs[1])
        assert [(v.version, v.champion) for v in ports.models.versions(POOL)] == [
            (second.version, True),
            (first.version, False),
        ]
        assert ports.models.load(POOL, "other") is None
        assert ports.models.load("other", "learnt", first.version) is None
        assert ports.models.versions("other") == ()
        with pytest.raises(StoreError):
            ports.models.promote("none", reason="")

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
