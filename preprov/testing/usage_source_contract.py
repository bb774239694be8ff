"""What every place that tells what tasks use over time must do when it is read: one suite, run against each source.

Subclass `UsageSourceContract` and give it a fixture `place`: a small world of that kind, with a reader of it.
"""

import math
from dataclasses import fields
from datetime import datetime
from itertools import pairwise
from typing import Protocol

import pytest

from preprov.contracts import LiveSource, Ports, RoutedBatch
from preprov.model.agent import Usage
from preprov.model.errors import SourceError
from preprov.sim.ports import memory_ports
from preprov.testing.live_source_contract import AWKWARD

AMOUNTS = tuple(f.name for f in fields(Usage) if f.name != "at")


class UsagePlace(Protocol):
    """A world in which tasks use something."""

    def source(self) -> LiveSource:
        """A reader, as a process that just started makes one."""
        ...

    def now(self) -> datetime:
        """What time it is there and here."""
        ...

    def pass_time(self, seconds: float) -> None:
        """Let time go by: what uses something goes on to."""
        ...

    def begin(self, count: int, *, names: tuple[str, ...] = ()) -> list[str]:
        """So many tasks begin to use something; returns their claimants. names: of them, else as you like."""
        ...

    def end(self, claimant: str) -> None:
        """It uses nothing more, from now on."""
        ...

    def fail_after(self, requests: int | None) -> None:
        """Answer so many requests more, then none; None = answer again."""
        ...


def read(place: UsagePlace, ports: Ports, source: LiveSource | None = None) -> int:
    """One reading into a store, in as many passes as it takes; returns how many samples came."""
    source, count, more = source or place.source(), 0, True
    while more:
        more = False
        for batch in source.changes(ports.sources.state(source.key), place.now()):
            for _, usage in batch.usage:
                amounts = [v for v in (getattr(usage, n) for n in AMOUNTS) if v is not None]
                assert amounts, "a sample without any amount says nothing"
                assert all(math.isfinite(v) and v >= 0 for v in amounts)
            count += ports.samples.append("pool", batch.usage) if batch.usage else 0
            routed = RoutedBatch(cursor=batch.cursor, notebook=batch.notebook, zone=source.zone)
            ports.sources.apply(source.key, routed, place.now())
            more |= batch.more
    return count


def kept(ports: Ports, claimants: list[str]) -> dict[str, tuple[Usage, ...]]:
    """What the store has of them, each instant once and in order."""
    out = {c: tuple(ports.samples.samples(c)) for c in claimants}
    for told in out.values():
        assert all(b.at > a.at for a, b in pairwise(told)), "each instant once, in order"
    return out


class UsageSourceContract:
    """Every source of usage, against a small world of its kind."""

    @pytest.fixture
    def place(self) -> UsagePlace:
        """A world in which nothing has been used yet."""
        raise NotImplementedError("give the suite a fixture `place`")

    @pytest.fixture
    def ports(self) -> Ports:
        """A store; in memory if no other is given."""
        return memory_ports()

    def test_nothing_there_is_nothing_read(self, place: UsagePlace, ports: Ports) -> None:
        """And the cursor stands all the same."""
        assert read(place, ports) == 0
        assert ports.sources.state(place.source().key).cursor != ""

    def test_what_was_used_is_read_once(self, place: UsagePlace, ports: Ports) -> None:
        """Of each task, by whom it was used; by the same reader or by another."""
        tasks, source = place.begin(5), place.source()
        place.pass_time(1800)
        count = read(place, ports, source)
        told = kept(ports, tasks)
        assert all(told.values())
        assert sum(map(len, told.values())) == count
        for reader in (source, None):
            assert read(place, ports, reader) == 0
        assert kept(ports, tasks) == told

    def test_what_came_since_is_read_and_the_rest_stays(self, place: UsagePlace, ports: Ports) -> None:
        """And what a task used that began meanwhile."""
        (old,) = place.begin(1)
        place.pass_time(1800)
        read(place, ports)
        before = kept(ports, [old])[old]
        (new,) = place.begin(1)
        place.pass_time(1800)
        count = read(place, ports)
        told = kept(ports, [old, new])
        assert told[old][: len(before)] == before
        assert len(told[old]) - len(before) + len(told[new]) == count
        assert told[new]
        assert len(told[old]) > len(before)

    def test_after_its_end_a_task_uses_nothing_that_is_told(self, place: UsagePlace, ports: Ports) -> None:
        """What is not observed is absent, never 0."""
        gone, stays = place.begin(2)
        place.pass_time(1800)
        read(place, ports)
        place.pass_time(600)
        place.end(gone)
        ended = place.now().timestamp()
        place.pass_time(3600)
        read(place, ports)
        told = kept(ports, [gone, stays])
        assert ended - 300 < told[gone][-1].at <= ended + 300
        assert told[stays][-1].at > ended + 3000

    def test_a_pass_that_breaks_off_loses_nothing(self, place: UsagePlace, ports: Ports) -> None:
        """Wherever it breaks: the next one brings the rest, nothing twice."""
        tasks = place.begin(3)
        place.pass_time(3 * 3600)
        place.end(tasks[0])
        place.pass_time(3 * 3600)
        errors = []
        for requests in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89):
            place.fail_after(requests)
            try:
                read(place, ports)
            except SourceError as e:
                errors.append(e)
                continue
            break
        assert errors, "no pass broke: this says nothing"
        assert all(e.retryable for e in errors)
        place.fail_after(None)
        read(place, ports)
        fresh = memory_ports()
        read(place, fresh)
        assert kept(ports, tasks) == kept(fresh, tasks)

    def test_rewound_it_is_read_whole_and_nothing_is_kept_twice(self, place: UsagePlace, ports: Ports) -> None:
        """From the beginning."""
        tasks = place.begin(2)
        place.pass_time(1800)
        count = read(place, ports)
        before = kept(ports, tasks)
        ports.sources.rewind(place.source().key)
        assert read(place, ports) == count
        assert kept(ports, tasks) == before

    def test_awkward_names_come_through(self, place: UsagePlace, ports: Ports) -> None:
        """Any script, quotes, very long ones."""
        tasks = place.begin(len(AWKWARD), names=AWKWARD)
        place.pass_time(1800)
        read(place, ports)
        assert all(kept(ports, tasks).values())

    def test_examining_tells_what_can_be_seen(self, place: UsagePlace) -> None:
        """In findings, each with words."""
        place.begin(2)
        place.pass_time(1800)
        found = place.source().examine()
        assert found
        assert all(f.state == "ok" for f in found), [f for f in found if f.state != "ok"]
        assert all(f.what and f.found for f in found)

    def test_examining_what_does_not_answer_says_what_to_do(self, place: UsagePlace) -> None:
        """Never an exception."""
        place.fail_after(0)
        bad = [f for f in place.source().examine() if f.state == "bad"]
        assert bad
        assert all(f.hint for f in bad)
