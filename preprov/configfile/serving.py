"""[[serve]]: places that run work on a pool's nodes by their own means."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from preprov.configfile.base import Section
from preprov.configfile.secrets import Secret
from preprov.model.errors import ConfigError
from preprov.model.pools import Pool

Amount = Annotated[float, Field(gt=0)]


class WorkerSection(Section):
    """[serve.worker]: a process worker on each warm node, which leaves before its node goes.

    Attributes:
        command: starts the program of the distribution prefect-preprov, which the nodes have to have.
        queues: work queues it takes runs of; all if none is named.
        env: variables it gets; Prefect's API key is not handed over, the nodes bring their own.
        poll: seconds between its questions for runs.
    """

    command: list[str] = Field(default_factory=lambda: ["python3", "-m", "prefect_preprov.worker"], min_length=1)
    queues: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    poll: float = Field(default=5.0, gt=0, description="seconds")


class ServedSection(Section):
    """What all places that are served have in common.

    Attributes:
        pool: whose ready nodes are meant.
        run: what one run takes of a node; with it the nodes' room is counted in slots.
        every: seconds between looks where nothing changes.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    kind: str
    pool: str
    run: dict[Literal["cpu", "memory", "gpu"], Amount] = Field(min_length=1)
    every: float = Field(default=10.0, gt=0, description="seconds")


class CeleryWorkerSection(Section):
    """[serve.worker]: a Celery worker of Airflow's on each warm node, which leaves before its node goes.

    Attributes:
        command: starts the program of airflow-provider-preprov, which nodes have to have, with Airflow and your DAGs.
        queues: those it takes tasks of; Airflow's default queue if none is named.
        options: further ones of `airflow celery worker`, such as --skip-serve-logs where logs are kept elsewhere.
        env: variables it gets; secrets are not handed over, the nodes bring the broker's address and their own keys.
    """

    command: list[str] = Field(default_factory=lambda: ["python3", "-m", "preprov_provider.celery"], min_length=1)
    queues: list[str] = Field(default_factory=list)
    options: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)


class CeleryServeSection(ServedSection):
    """[[serve]] of kind celery: Celery workers of an Airflow, one on each warm node.

    Attributes:
        source: name of the [[source]] of kind airflow that says which tasks each worker has in hand.
    """

    kind: Literal["celery"]
    source: str
    worker: CeleryWorkerSection = CeleryWorkerSection()


class PrefectServeSection(ServedSection):
    """[[serve]]: a work pool of Prefect whose concurrency follows the warm nodes of a pool.

    Attributes:
        url: of Prefect's API, with /api. key: of Prefect Cloud, or of a server that wants one.
        queues: work queue -> share of the slots its own limit gets; a queue that is not named is left alone.
        min_slots, max_slots: bounds of the work pool's limit.
        variables: job variable -> what it is filled with: "image" (the first image of the pool's preload) and "pool"
            become the default of the work pool; "node" is filled by each node's worker.
        lease: seconds without a word of preprov after which Prefect itself puts the limits back; 0 = it does not.
    """

    kind: Literal["prefect"] = "prefect"
    url: str
    key: Secret | None = None
    work_pool: str = Field(min_length=1)
    queues: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)
    min_slots: int = Field(default=0, ge=0)
    max_slots: int = Field(default=100_000, ge=1)
    variables: dict[str, Literal["image", "pool", "node"]] = Field(default_factory=dict)
    lease: float = Field(default=900.0, ge=0, description="seconds")
    worker: WorkerSection | None = None

    @model_validator(mode="after")
    def _complete(self) -> "PrefectServeSection":
        if not self.url.startswith(("http://", "https://")):
            raise ValueError("`url` must begin with http:// or https://")
        if self.min_slots > self.max_slots:
            raise ValueError("`min_slots` is more than `max_slots`")
        if self.lease and self.lease < 3 * self.every:
            raise ValueError("`lease` is shorter than three looks (`every`): it would run out by itself")
        if self.worker is None and "node" in self.variables.values():
            raise ValueError('a variable is filled with "node" by the worker of each node: add [serve.worker]')
        return self

    def fills(self, pool: Pool) -> dict[str, str]:
        """Job variable -> value, of those that are the same on every node.

        Raises:
            ConfigError: the pool has no image to fill in.
        """
        out = {}
        for name, what in self.variables.items():
            if what == "image":
                if not pool.preload.images:
                    raise ConfigError(
                        f"variable {name} is to be filled with the image of pool {pool.name}, which preloads none",
                        where=f"[[serve]] {self.name}",
                        hint="name one under [pool.preload] images",
                    )
                out[name] = pool.preload.images[0].uri
            elif what == "pool":
                out[name] = pool.name
        return out


def _kind(section: Any) -> str:
    return str(section.get("kind", "prefect") if isinstance(section, Mapping) else getattr(section, "kind", ""))


ServeSection: TypeAlias = Annotated[
    Annotated[PrefectServeSection, Tag("prefect")] | Annotated[CeleryServeSection, Tag("celery")], Discriminator(_kind)
]
"""One [[serve]]; a new kind is one more section here."""


def checked(sections: Sequence[ServeSection], pools: Mapping[str, Pool]) -> None:
    """What only shows when the pools are known.

    Raises:
        ConfigError: a name is used twice, a work pool is served twice, or a pool is not there.
    """
    names, places = set[str](), set[tuple[str, str]]()
    for s in sections:
        where = f"[[serve]] {s.name}"
        if s.name in names:
            raise ConfigError(f"serve {s.name} is there twice", where="[[serve]]")
        if s.pool not in pools:
            hint = f"pools: {', '.join(sorted(pools)) or 'none'}"
            raise ConfigError(f"there is no pool {s.pool!r}", where=where, hint=hint)
        names.add(s.name)
        if not isinstance(s, PrefectServeSection):
            continue
        place = (s.url.rstrip("/"), s.work_pool)
        if place in places:
            raise ConfigError(
                f"work pool {s.work_pool} is served twice", where=where, hint="one pool is its nodes' owner: keep one"
            )
        places.add(place)
