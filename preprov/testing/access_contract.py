"""What every store of tokens, told events and recurring windows must do."""

from dataclasses import replace
from datetime import timedelta

from preprov.contracts import Ports
from preprov.model.access import Scope, Token, digest_of
from preprov.model.events import Event, EventKind
from preprov.model.resources import Resources
from preprov.model.windows import RecurringWindow
from preprov.model.work import State
from preprov.testing.store_examples import POOL, T0, PortsContract, minutes


def token(token_id: str, **more: object) -> Token:
    """A token of tenant red."""
    made = Token(token_id, digest_of("secret"), "red", frozenset({Scope.READ, Scope.RESERVE}), T0, pools=("a", "b"))
    return replace(made, **more)  # type: ignore[arg-type]


def event(event_id: str, **more: object) -> Event:
    """Something that happened to a run of tenant red."""
    made = Event("red", "airflow", event_id, EventKind.QUEUED, T0, "etl", "r1", request=Resources(cpu=0.1))
    return replace(made, **more)  # type: ignore[arg-type]


class AccessContract(PortsContract):
    """Tokens, events, windows."""

    def test_a_token_comes_back_as_it_was(self, ports: Ports) -> None:
        """And is found by its id and its tenant."""
        first = token("t1", expires_at=T0 + minutes(1), note="ünïcode")
        second = token("t0", tenant="blue", created_at=T0 + minutes(1), pools=(), node_id="n", used_at=T0)
        for t in (second, first):
            ports.tokens.add(t)
        assert ports.tokens.get("t1") == first
        assert ports.tokens.get("nothing") is None
        assert ports.tokens.tokens() == (first, second)
        assert ports.tokens.tokens("blue") == (second,)

    def test_a_token_is_revoked_once(self, ports: Ports) -> None:
        """The first instant is kept."""
        ports.tokens.add(token("t"))
        gone = ports.tokens.revoke("t", T0)
        assert gone is not None
        assert gone.revoked_at == T0
        assert not gone.is_good(T0)
        assert ports.tokens.revoke("t", T0 + minutes(5)) == gone == ports.tokens.get("t")
        assert ports.tokens.revoke("nothing", T0) is None

    def test_a_token_is_used_up_by_one_caller(self, ports: Ports) -> None:
        """The others are told that they come too late."""
        ports.tokens.add(token("t"))
        assert [ports.tokens.use_up("t", T0 + minutes(i)) for i in range(3)] == [True, False, False]
        kept = ports.tokens.get("t")
        assert kept is not None
        assert kept.used_at == T0
        assert not ports.tokens.use_up("nothing", T0)

    def test_spent_tokens_of_nodes_are_forgotten(self, ports: Ports) -> None:
        """Those that were of no more use by then, and nobody else's."""
        node = frozenset({Scope.NODE})
        spent = [
            token("expired", scopes=node, expires_at=T0),
            token("used", scopes=node, used_at=T0),
            token("revoked", scopes=node, revoked_at=T0),
        ]
        kept = [
            token("good", scopes=node, expires_at=T0 + minutes(9)),
            token("late", scopes=node, used_at=T0 + minutes(5)),
            token("person", expires_at=T0),
        ]
        for t in (*spent, *kept):
            ports.tokens.add(t)
        assert ports.tokens.forget(Scope.NODE, T0 + minutes(1)) == 3
        assert ports.tokens.forget(Scope.NODE, T0 + minutes(1)) == 0
        assert {t.token_id for t in ports.tokens.tokens()} == {"good", "late", "person"}

    def test_an_event_is_kept_once(self, ports: Ports) -> None:
        """By tenant, source and its own id."""
        done = event("e2", kind=EventKind.FINISHED, state=State.FAILED, details={"why": "ünïcode"})
        assert ports.events.record([event("e1"), done, event("e1")]) == (True, True, False)
        assert ports.events.record([done, event("e1", tenant="blue"), event("e1", source="x")]) == (False, True, True)
        rows = ports.events.events()
        assert [e.event_id for _, e in rows] == ["e1", "e2", "e1", "e1"]
        assert rows[1][1] == done
        assert [i for i, _ in rows] == sorted({i for i, _ in rows})
        assert ports.events.events("red", after=rows[0][0], limit=1) == rows[1:2]
        assert ports.events.events(run_id="nothing") == ()

    def test_old_events_are_forgotten_and_numbers_are_not_used_again(self, ports: Ports) -> None:
        """What is left keeps its number, what comes gets a higher one, and what was forgotten is new if it is told."""
        ports.events.record([event("e1"), event("e2", at=T0 + minutes(5)), event("e3", at=T0 + minutes(1))])
        before = {e.event_id: i for i, e in ports.events.events()}
        assert ports.events.forget(T0 + minutes(2)) == 1, "what was told last stays"
        assert ports.events.forget(T0 + minutes(2)) == 0
        assert ports.events.record([event("e2", at=T0 + minutes(5)), event("e1")]) == (False, True)
        left = {e.event_id: i for i, e in ports.events.events()}
        assert (left["e2"], left["e3"]) == (before["e2"], before["e3"])
        assert left["e1"] > max(before.values())

    def test_a_window_is_kept_by_its_name(self, ports: Ports) -> None:
        """The last one of a name holds."""
        made = RecurringWindow(
            "eod", POOL, "red", Resources(cpu=0.1 + 0.2), 1, 2, "Europe/Berlin", frozenset({1, 4}), since=T0
        )
        ports.windows.put(replace(made, count=7))
        ports.windows.put(made)
        ports.windows.put(replace(made, tenant="blue"))
        assert ports.windows.windows(POOL) == (replace(made, tenant="blue"), made)
        assert ports.windows.windows(tenant="red") == (made,)
        assert ports.windows.windows("other") == ()
        assert ports.windows.remove(POOL, "blue", "eod")
        assert not ports.windows.remove(POOL, "blue", "eod")
        assert ports.windows.windows() == (made,)

    def test_a_window_that_is_added_replaces_none(self, ports: Ports) -> None:
        """Who adds one of a name that is taken is told the one that there is."""
        made = RecurringWindow("eod", POOL, "red", Resources(cpu=1), 1, 2, key="k")
        assert ports.windows.add(made) == made
        assert ports.windows.add(replace(made, count=2, key="other")) == made
        other = replace(made, tenant="blue")
        assert ports.windows.add(other) == other
        assert ports.windows.windows() == (other, made)

    def test_times_are_kept_to_the_microsecond(self, ports: Ports) -> None:
        """Of tokens as well."""
        odd = token("t", created_at=T0 + timedelta(microseconds=1))
        ports.tokens.add(odd)
        assert ports.tokens.get("t") == odd
