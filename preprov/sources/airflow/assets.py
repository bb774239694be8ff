"""Assets (datasets in Airflow 2): which tasks make them, and which DAGs begin once they were made anew."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, TypeAlias

from preprov.sources.airflow.client import AirflowClient, Json
from preprov.sources.text import clean

Maker: TypeAlias = tuple[str, str]
"""(DAG id, task id)."""
Follows: TypeAlias = tuple[tuple[Maker, ...], ...]
"""Alternatives, each of tasks that must all have ended (`model.work.Schedule.follows`)."""

_MOST: Final = 64
"""Alternatives of one DAG; of one with more nothing is told."""
_DEEPEST: Final = 16


@dataclass(frozen=True)
class Asset:
    """An asset.

    Attributes:
        names: ("uri", …), ("name", …) and ("alias", …) by which conditions know it.
        makers: tasks that make it. dags: those that begin because of it.
    """

    names: frozenset[tuple[str, str]]
    makers: tuple[Maker, ...]
    dags: frozenset[str]

    @classmethod
    def of(cls, j: Json) -> "Asset":
        """From JSON of either version of the API."""
        names = [("uri", j.get("uri")), ("name", j.get("name"))]
        names += [("alias", a.get("name")) for a in j.get("aliases") or ()]
        dags = j.get("scheduled_dags") or j.get("consuming_dags") or ()
        made = {(clean(t.get("dag_id")), clean(t.get("task_id"))) for t in j.get("producing_tasks") or ()}
        return cls(
            frozenset((kind, str(name)) for kind, name in names if name),
            tuple(sorted(made)),
            frozenset(clean(d.get("dag_id")) for d in dags),
        )


@dataclass(frozen=True)
class Assets:
    """All assets of an Airflow."""

    found: tuple[Asset, ...] = ()

    @classmethod
    def ask(cls, client: AirflowClient) -> "Assets":
        """A request for each page of them.

        Raises:
            SourceError: Airflow does not say.
        """
        what = "assets" if client.version == "v2" else "datasets"
        order = {"order_by": "id"}
        return cls(tuple(Asset.of(a) for page in client.pages(what, what, order) for a in page))

    def follows(self, dag_id: str, condition: Any) -> Follows:
        """What a DAG waits for.

        An asset that no task makes (something outside of Airflow does, or nobody knows) is never made as far as can be
        foreseen: alternatives without it are left.

        Args:
            condition: as Airflow writes it: assets within "any" and "all". None = it was not told: all of the DAG's.
        """
        mine = [a for a in self.found if dag_id in a.dags]
        if not mine:
            return ()
        sets = self._either(condition, _DEEPEST) if condition else _every([_makers([a]) for a in mine])
        least = {s for s in sets if not any(o < s for o in sets)}
        return tuple(sorted(tuple(sorted(s)) for s in least)) if len(least) <= _MOST else ()

    def _either(self, condition: Any, depth: int) -> set[frozenset[Maker]]:
        """Sets of tasks, of which any one that has ended whole meets the condition."""
        if depth <= 0:
            return set()
        if isinstance(condition, str):
            return _makers(self._named("uri", condition))
        if not isinstance(condition, Mapping):
            return set()
        for key, parts in condition.items():
            if key in ("any", "all") and isinstance(parts, Sequence):
                found = [self._either(p, depth - 1) for p in parts]
                return set().union(*found) if key == "any" else _every(found)
            if key == "alias" and isinstance(parts, str):  # as Airflow 2 writes it
                return _makers(self._named("alias", parts))
            if key in ("asset", "dataset", "asset_ref", "alias") and isinstance(parts, Mapping):
                return _makers(self._meant(key, parts))
        return set()

    def _meant(self, key: str, told: Mapping[str, Any]) -> list[Asset]:
        kinds = ("alias",) if key == "alias" else ("uri", "name")
        return next(
            (found for k in kinds if (found := self._named(k, str(told.get("name" if k == "alias" else k))))), []
        )

    def _named(self, kind: str, name: str) -> list[Asset]:
        return [a for a in self.found if (kind, name) in a.names]


def _makers(assets: Iterable[Asset]) -> set[frozenset[Maker]]:
    return {frozenset({m}) for a in assets for m in a.makers}


def _every(parts: Sequence[set[frozenset[Maker]]]) -> set[frozenset[Maker]]:
    """One of each, put together; nothing where that is too much to say."""
    out = {frozenset[Maker]()} if parts else set()
    for part in parts:
        if len(out) * len(part) > _MOST * _MOST:
            return set()
        out = {a | b for a, b in product(out, part)}
    return out
