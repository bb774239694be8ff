"""Which adapter supplies the nodes of a pool, and which runs tasks on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from preprov import clocks, configfile
from preprov.configfile.serving import CeleryServeSection, PrefectServeSection, ServeSection, checked
from preprov.contracts import Clock, LeavesNotes, LimitsJobs, PoolProvider, Scheduler, Serves, Service
from preprov.model.errors import ConfigError, PreprovError
from preprov.model.nodes import Node
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources
from preprov.model.waits import Cause
from preprov.settings import Settings

if TYPE_CHECKING:
    from preprov.kube.clusters import Clusters
    from preprov.pools.slurm.power import PowerPrograms

_BEHIND: Final = ("terraform", "slurm", "kubernetes")
"""Providers behind which another one has the machines, named by the option `vendor`."""


def providers(
    home: Path, clock: Clock, speed: float, pools: Mapping[str, Pool], owner: Callable[[], str] = str
) -> dict[str, PoolProvider]:
    """One provider per name that a pool uses; `owner` names the store, by which one preprov is told from another.

    Raises:
        ConfigError: there is none of a name.
    """
    from preprov.pools.instrument import instrumented, process_meter
    from preprov.pools.registry import providers as made_by_name

    groups = [g for p in pools.values() for g in p.groups]
    behind = [g for g in groups if g.provider in _BEHIND and (g.provider != "kubernetes" or "vendor" in g.options)]
    wanted = {g.provider for g in groups} | {str(g.options.get("vendor")) for g in behind}
    made = made_by_name(wanted, home, clock, speed, _greeting(home), cache(owner))
    return {name: instrumented(p, process_meter()) for name, p in made.items()}


def as_provided(pools: Mapping[str, Pool], providers: Mapping[str, PoolProvider]) -> dict[str, Pool]:
    """The pools with groups that declare no more than their providers can do: no plan counts on what cannot be had.

    A group whose options are wrong stays as it is declared; whoever asks for its nodes is told.
    """
    return {
        name: replace(pool, groups=tuple(_as_provided(pool, g, providers.get(g.provider)) for g in pool.groups))
        for name, pool in pools.items()
    }


def _as_provided(pool: Pool, group: Group, provider: PoolProvider | None) -> Group:
    if provider is None or not (group.chooses_offering or group.mixes_states):
        return group
    try:
        can = provider.capabilities(pool, group.name)
    except PreprovError:
        return group
    return replace(
        group,
        chooses_offering=group.chooses_offering and can.chooses_offering,
        mixes_states=group.mixes_states and can.mixes_states,
    )


def _greeting(home: Path) -> Callable[[], Mapping[str, str]]:
    """Notes by which new machines of a cloud know who may hand them tasks; made when the first is launched."""

    @cache
    def notes() -> Mapping[str, str]:
        from preprov.launch.identity import Identity

        return Identity(home).notes()

    return notes


def schedulers(
    home: Path, clock: Clock, speed: float, pools: Mapping[str, Pool], providers: Mapping[str, PoolProvider]
) -> dict[str, Scheduler]:
    """What runs tasks, by provider: local nodes, those of each provider whose nodes read notes, Slurm, Kubernetes."""
    from preprov.launch.local import LocalScheduler

    out: dict[str, Scheduler] = {"local": LocalScheduler(home, clock, speed=speed)}
    for name, provider in providers.items():
        if isinstance(provider, LeavesNotes):
            from preprov.launch.remote import RemoteScheduler

            introduce = _introduction(provider, pools)
            out[name] = RemoteScheduler(name, home, clock, introduce, speed=speed)
    if "slurm" in providers:
        from preprov.launch.slurm import SlurmScheduler

        logs = home / "slurm" / "logs"
        out["slurm"] = SlurmScheduler(pools, clock, logs, speed=speed, agents=lambda vendor: _limiting(out, vendor))
    if "kubernetes" in providers:
        from preprov.launch.kubernetes import KubernetesScheduler

        out["kubernetes"] = KubernetesScheduler(pools, speed=speed, clusters=_clusters(providers["kubernetes"]))
    return out


def _limiting(schedulers: Mapping[str, Scheduler], name: str) -> LimitsJobs | None:
    """That of a provider, if it reaches agents."""
    found: object = schedulers.get(name)
    return found if isinstance(found, LimitsJobs) else None


def _clusters(provider: PoolProvider) -> "Clusters | None":
    """Those that it is connected to."""
    from preprov.pools.kubernetes.provider import KubernetesProvider

    bare = getattr(provider, "within", provider)
    return bare.clusters if isinstance(bare, KubernetesProvider) else None


def _introduction(provider: LeavesNotes, pools: Mapping[str, Pool]) -> Callable[[Node, dict[str, str]], None]:
    def introduce(node: Node, notes: dict[str, str]) -> None:
        provider.leave_notes(pools[node.pool], [node.node_id], notes)

    return introduce


def served(
    sections: Sequence[ServeSection],
    pools: Mapping[str, Pool],
    schedulers: Mapping[str, Scheduler],
    running: Callable[[str], Callable[[], Mapping[str, tuple[str, ...]]]],
) -> dict[str, tuple[Serves, ...]]:
    """Pool -> the places that are served from its nodes; nothing is asked of them yet.

    Args:
        running: what says which tasks run on which host, given the name of a [[source]].

    Raises:
        ConfigError: one names a pool or a source that is not there, or wants workers where nothing runs commands.
    """
    checked(sections, pools)
    out: dict[str, tuple[Serves, ...]] = {}
    for section in sections:
        pool = pools[section.pool]
        deaf = sorted(
            {g.provider for g in pool.groups} - set(schedulers)
            | {g.provider for g in pool.groups} & {"slurm", "kubernetes"}
        )
        if section.worker is not None and deaf:
            raise ConfigError(
                f"nothing starts a worker on nodes of {', '.join(deaf)}",
                where=f"[[serve]] {section.name}",
                hint="leave [serve.worker] out, and have the image start workers by itself",
            )
        place = (
            _work_pool(section, pool)
            if isinstance(section, PrefectServeSection)
            else _celery_workers(section, pool, running(section.source))
        )
        out[section.pool] = (*out.get(section.pool, ()), place)
    return out


def _celery_workers(
    section: CeleryServeSection, pool: Pool, running: Callable[[], Mapping[str, tuple[str, ...]]]
) -> Serves:
    from preprov.launch.celery import CeleryWorkers

    run = Resources.of({str(k): v for k, v in section.run.items()})
    service = Service(section.name, pool.name, run, shares={}, workers=True, every_s=section.every)
    worker = section.worker
    return CeleryWorkers(
        service, running, tuple(worker.command), tuple(worker.queues), worker.env, tuple(worker.options)
    )


def _work_pool(section: PrefectServeSection, pool: Pool) -> Serves:
    from preprov.launch import prefect

    name, worker, key = section.work_pool, section.worker, section.key
    service = Service(
        name=section.name,
        pool=pool.name,
        run=Resources.of({str(k): v for k, v in section.run.items()}),
        shares={
            prefect.limit_of_pool(name): 1.0,
            **{prefect.limit_of_queue(name, q): share for q, share in section.queues.items()},
        },
        least=section.min_slots,
        most=section.max_slots,
        limits=frozenset({(Cause.WORK_POOL, name), *((Cause.WORK_QUEUE, f"{name}/{q}") for q in section.queues)}),
        fills={prefect.job_variable(v): value for v, value in section.fills(pool).items()},
        workers=worker is not None,
        every_s=section.every,
    )
    program = None
    if worker is not None:
        by_node = tuple(v for v, what in section.variables.items() if what == "node")
        program = prefect.WorkerProgram(tuple(worker.command), tuple(worker.queues), worker.env, by_node, worker.poll)
    looks_up = None if key is None else lambda: key.read(f"key of [[serve]] {section.name}")
    queues = tuple(section.queues)
    return prefect.PrefectWorkPool(service, section.url, looks_up, name, queues, program, lease_s=section.lease)


def slurm_programs(settings: Settings | None = None) -> "PowerPrograms":
    """What Slurm calls to have nodes. It opens no store: nodes have to come while the database is away.

    Raises:
        ConfigError: the environment or the file is wrong.
    """
    from preprov.pools.slurm.boots import Boots
    from preprov.pools.slurm.power import PowerPrograms

    settings = settings or Settings.load()
    clock = clocks.named(settings.clock)
    speed = float(getattr(clock, "speed", 1.0))
    pools = configfile.load(settings.config_path()).pools()
    provider = providers(settings.home, clock, speed, pools)
    scheduler = schedulers(settings.home, clock, speed, pools, provider)
    boots = Boots(settings.home / "slurm" / "boots")
    return PowerPrograms(pools.values(), provider.__getitem__, scheduler.get, boots)
