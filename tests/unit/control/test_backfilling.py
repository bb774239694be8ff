"""Lead times on record: kept once, marked, and never counted beside what preprov has seen itself."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from preprov.contracts import LeadObservation, Recollection, Warmed
from preprov.control.backfilling import recall
from preprov.control.gathering import current_leads
from preprov.model.errors import ConflictError
from preprov.model.offerings import Standby
from preprov.planning.leads import KEPT, SAME, learn_leads, once
from tests.unit.control.world import START, World, make_pool, make_world

SINCE = START - timedelta(days=42)


class Remembers:
    """The simulated cloud, with a record."""

    def __init__(self, cloud: object, *warmed: Warmed, fails: bool = False) -> None:
        self._cloud, self.warmed, self.fails = cloud, warmed, fails

    def __getattr__(self, name: str) -> object:
        return getattr(self._cloud, name)

    def recall_leads(self, pool: object, group: str, since: object) -> Recollection:
        if self.fails:
            raise ConflictError("not now")
        return Recollection(self.warmed, "as told", (("of no use", 2),))


def warmed(i: int, seconds: float = 200.0, zone: str = "", **more: object) -> Warmed:
    at = START - timedelta(hours=2 * (i + 1))
    return Warmed(f"old-{i}", at, seconds, zone, "m", **more)  # type: ignore[arg-type]


def remembering(*told: Warmed, fails: bool = False) -> World:
    world = make_world(make_pool())
    providers = {"sim": Remembers(world.cloud, *told, fails=fails)}
    return replace(world, ctx=replace(world.ctx, providers=providers))  # type: ignore[arg-type]


def test_day_0_has_lead_times_and_asking_again_keeps_nothing_twice() -> None:
    w = remembering(*(warmed(i) for i in range(20)))
    group, offering = w.pool.groups[0], w.pool.groups[0].offerings[0]
    assert current_leads(w.ctx, w.pool)("g", offering, Standby.COLD) == group.lead_time(Standby.COLD)
    (first,) = recall(w.ctx, w.pool, SINCE)
    assert (first.found, first.new, first.known, first.left_out) == (20, 20, 0, (("of no use", 2),))
    assert first.oldest == START - timedelta(hours=40)
    learnt = current_leads(w.ctx, w.pool)("g", offering, Standby.COLD)
    assert 150 < learnt.median_s <= 200
    (again,) = recall(w.ctx, w.pool, SINCE)
    assert (again.found, again.new, again.known) == (20, 0, 20)
    kept = w.ctx.ports.leads.observations()
    assert len(kept) == 20
    assert {o.recorded for o in kept} == {"sim"}


def test_what_preprov_has_seen_itself_counts_alone() -> None:
    w = remembering(warmed(0), warmed(1))
    mine = LeadObservation(
        START - timedelta(hours=2, minutes=-5), "p", "sim", "g", "", "m", "sha", Standby.COLD, 260.0, "old-0"
    )
    w.ctx.ports.leads.add(mine)
    (done,) = recall(w.ctx, w.pool, SINCE)
    assert (done.found, done.new, done.known) == (2, 1, 1)
    late = replace(mine, node_id="old-1", at=START - timedelta(hours=4, minutes=-5))
    w.ctx.ports.leads.add(late)  # it is seen only after what was on record was kept
    counted = once(w.ctx.ports.leads.observations())
    assert [o.node_id for o in counted if not o.recorded] == ["old-1", "old-0"]
    assert [o for o in counted if o.recorded] == []


def test_of_a_kind_no_more_is_kept_than_is_learnt_from_and_all_of_it_at_once() -> None:
    w = remembering(*(warmed(i, zone="a") for i in range(KEPT + 200)), *(warmed(i + 5_000, zone="b") for i in range(3)))
    adds: list[int] = []
    add = w.ctx.ports.leads.add
    w.ctx.ports.leads.add = lambda *told: adds.append(len(told)) or add(*told)  # type: ignore[func-returns-value,method-assign]
    for new, known in ((KEPT + 3, 0), (0, KEPT + 3)):
        (done,) = recall(w.ctx, w.pool, SINCE)
        assert (done.found, done.new, done.known) == (KEPT + 203, new, known)
        (old,) = [n for why, n in done.left_out if "newest" in why]
        assert old == 200
    assert adds == [KEPT + 3, 0]
    kept = [o for o in w.ctx.ports.leads.observations() if o.zone == "a"]
    assert {o.node_id for o in kept} == {f"old-{i}" for i in range(KEPT)}


def test_a_failure_on_record_is_a_failure_and_no_time() -> None:
    w = remembering(warmed(0), *(warmed(i, 900.0, failed=True) for i in range(1, 6)))
    recall(w.ctx, w.pool, SINCE)
    offering = w.pool.groups[0].offerings[0]
    leads = learn_leads(w.pool, w.ctx.ports.leads.observations(), START)
    assert leads("g", offering, Standby.COLD).median_s < 250
    assert leads.failure_rate("g", offering, Standby.COLD) > 0.1


def test_a_part_of_the_way_is_kept_as_one_and_what_was_seen_whole_counts_in_its_place() -> None:
    parts = [warmed(i, 11.0, whole=False, stages={"allocate": 11.0}) for i in range(8)]
    w = remembering(*parts, warmed(9, 0.0, lacked=True))
    (done,) = recall(w.ctx, w.pool, SINCE)
    assert (done.found, done.new) == (9, 9)
    kept = w.ctx.ports.leads.observations()
    assert sorted({o.outcome for o in kept}) == ["insufficient_capacity", "partial"]
    leads, group = current_leads(w.ctx, w.pool), w.pool.groups[0]
    offering = group.offerings[0]
    assert leads("g", offering, Standby.COLD) == group.lead_time(Standby.COLD)
    assert leads.split("g", offering, Standby.COLD)["allocate"].observations == 8
    whole = replace(kept[-1], at=kept[-1].at + timedelta(minutes=3), seconds=240.0, outcome="ready", recorded="")
    assert kept[-1] not in once([*kept, whole])
    lack = next(o for o in kept if o.outcome == "insufficient_capacity")
    near = replace(whole, node_id=lack.node_id, at=lack.at)
    assert lack in once([*kept, near]), "that there was none stands beside what came later"


def test_a_group_that_cannot_be_asked_says_why_and_one_without_a_record_says_so() -> None:
    (failed,) = recall(remembering(fails=True).ctx, make_pool(), SINCE)
    assert "not now" in failed.error
    plain = make_world(make_pool())
    (none,) = recall(plain.ctx, plain.pool, SINCE)
    assert (none.found, none.error) == (0, "")
    assert "no record" in none.means


moments = st.integers(0, 20_000).map(lambda s: START + timedelta(seconds=s))
observed = st.builds(
    LeadObservation,
    at=moments,
    pool=st.just("p"),
    provider=st.just("sim"),
    group=st.just("g"),
    zone=st.just(""),
    instance_type=st.just("m"),
    image=st.just(""),
    came_from=st.sampled_from([Standby.COLD, Standby.STOPPED]),
    seconds=st.just(60.0),
    node_id=st.sampled_from(["a", "b"]),
    recorded=st.sampled_from(["", "sim"]),
)


@given(st.lists(observed, max_size=12), st.randoms(use_true_random=False))
def test_whatever_the_order_all_that_was_seen_counts_and_no_record_lies_near_it(every, random) -> None:
    kept = once(every)
    assert [o for o in kept if not o.recorded] == [o for o in every if not o.recorded]
    for i, o in enumerate(kept):
        near = [
            x
            for j, x in enumerate(kept)
            if j != i and (x.node_id, x.came_from) == (o.node_id, o.came_from) and abs(x.at - o.at) <= SAME
        ]
        assert not o.recorded or near == []
    random.shuffle(every)
    assert bool(once(every)) == bool(kept)
    assert once(kept) == kept
