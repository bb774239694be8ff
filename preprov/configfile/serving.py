"""[[serve]]: places that run work on a pool's nodes by their own means."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

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


class ServeSection(Section):
    """[[serve]]: a work pool of Prefect whose concurrency follows the warm nodes of a pool.

    Attributes:
        pool: whose ready nodes it follows.
        url: of Prefect's API, with /api. key: of Prefect Cloud, or of a server that wants one.
        run: what one flow run takes of a node; with it the nodes' room is counted in slots.
        queues: work queue -> share of the slots its own limit gets; a queue that is not named is left alone.
        min_slots, max_slots: bounds of the work pool's limit.
        variables: job variable -> what it is filled with: "image" (the first image of the pool's preload) and "pool"
            become the default of the work pool; "node" is filled by each node's worker.
        every: seconds between looks where nothing changes.
        lease: seconds without a word of preprov after which Prefect itself puts the limits back; 0 = it does not.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    kind: Literal["prefect"] = "prefect"
    pool: str
    url: str
    key: Secret | None = None
    work_pool: str = Field(min_length=1)
    run: dict[Literal["cpu", "memory", "gpu"], Amount] = Field(min_length=1)
    queues: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(default_factory=dict)
    min_slots: int = Field(default=0, ge=0)
    max_slots: int = Field(default=100_000, ge=1)
    variables: dict[str, Literal["image", "pool", "node"]] = Field(default_factory=dict)
    every: float = Field(default=10.0, gt=0, description="seconds")
    lease: float = Field(default=900.0, ge=0, description="seconds")
    worker: WorkerSection | None = None

    @model_validator(mode="after")
    def _complete(self) -> "ServeSection":
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


def checked(sections: list[ServeSection], pools: Mapping[str, Pool]) -> None:
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
        place = (s.url.rstrip("/"), s.work_pool)
        if place in places:
            raise ConfigError(
                f"work pool {s.work_pool} is served twice", where=where, hint="one pool is its nodes' owner: keep one"
            )
        names.add(s.name)
        places.add(place)
