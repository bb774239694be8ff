"""Big waves in parts: one pass begins so many nodes at most, so that not all of them boot, pull and read at once."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

from preprov.model.plans import Action, ActionKind
from preprov.model.pools import Pool


def in_parts(pool: Pool, plan_id: str, actions: Iterable[Action]) -> Iterator[tuple[Action, int]]:
    """The actions with their launches cut to what one pass begins, and how many nodes of each are left for the next.

    The size varies by a quarter with the plan, so that pools that are planned at the same moment do not keep step.
    """
    drawn = random.Random(f"{pool.name}/{plan_id}").uniform(0.75, 1.25)  # noqa: S311 - nothing secret hangs on it
    left = max(round(pool.guards.wave * drawn), 1)
    for action in actions:
        if action.kind is not ActionKind.LAUNCH:
            yield action, 0
            continue
        now = min(action.count, left)
        left -= now
        yield replace(action, count=now), action.count - now
