"""The one place that wires adapters to use cases."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from preprov import clocks, configfile, providing, sourcing
from preprov.configfile.sources import FileSource, LiveSection
from preprov.contracts import UNROUTED, Clock, IngestResult, Reject
from preprov.control.context import Context, Tenant
from preprov.control.ingesting import ingest_work
from preprov.control.routing import Route, Router
from preprov.control.syncing import Reader
from preprov.control.telling import Place, Telling, as_told
from preprov.model.pools import Pool
from preprov.model.prices import Commitment, PriceRow
from preprov.model.reference import reference_pool
from preprov.model.time import epoch
from preprov.settings import Settings

if TYPE_CHECKING:
    from preprov.store.database import Store


@dataclass(frozen=True)
class App:
    """A wired preprov: settings, configuration, store and the context of its use cases.

    Attributes:
        aside: sources that were read once and are configured no more: what they told counts for nothing.
    """

    settings: Settings
    config: configfile.ConfigFile
    store: "Store"
    ctx: Context
    speed: float = 1.0
    aside: tuple[str, ...] = ()

    @property
    def routes(self) -> tuple[Route, ...]:
        """The configured routes, in order."""
        return tuple(
            Route(r.pool, r.dag, r.queue, r.tenant, r.land_by or "", r.default_request or {}) for r in self.config.route
        )

    def sync_files(self) -> tuple[IngestResult, ...]:
        """Read the configured files again; one whose content is known already costs a checksum only.

        Raises:
            SourceError: one is unreadable; those before it are in the store, the others are read next time.
        """
        files = (s for s in self.config.source if isinstance(s, FileSource))
        return tuple(ingest_work(self.ctx, s.pool, sourcing.file_source(s.kind, s.path)) for s in files)

    def live(self) -> tuple[LiveSection, ...]:
        """The configured places where work lives."""
        return tuple(s for s in self.config.source if isinstance(s, LiveSection))

    def reader(self, section: LiveSection) -> Reader:
        """What reads such a place again and again."""
        source, path = sourcing.live_source(section, self.ctx.clock), self.rejects_path(section.name)
        return Reader(self.ctx, source, self.router(section), section.every, partial(_keep_rejects, path))

    def rejects_path(self, source: str) -> Path:
        """Where rows of a source are kept that could not be read: those of the last pass that had any."""
        return self.settings.home / "rejects" / "sources" / f"{source}.rejects.jsonl"

    def router(self, section: LiveSection) -> Router:
        """Where its work goes."""
        return Router(self.routes, section.pool or self._only_pool(), section.zone)

    def _only_pool(self) -> str:
        return next(iter(self.ctx.pools)) if len(self.ctx.pools) == 1 and not self.config.route else UNROUTED

    def telling(self, readers: Sequence[Reader] = ()) -> Telling:
        """What makes work of told events; `readers` are those of this process, to be woken."""
        soon = {r.source.key: r.soon for r in readers}
        places = {
            s.name: Place(
                s.tenant,
                self.router(s),
                as_told if s.kind == "airflow" else lambda _dag, run: run,
                soon.get(s.name, lambda: None),
            )
            for s in self.live()
        }
        return Telling(self.ctx, places, Router(self.routes, self._only_pool(), self.config.controller.zone))

    def sync(self) -> None:
        """Read the configured files again and, when it is time, ask the clouds for prices.

        Raises:
            SourceError: a source is unreadable.
        """
        from preprov.control.pricing import refresh_due

        refresh_due(self.ctx, self.config.prices.refresh)
        self.sync_files()


@contextmanager
def open_app(
    settings: Settings | None = None,
    *,
    clock: Clock | None = None,
    actor: str = "cli",
    pools: Mapping[str, Pool] | None = None,
) -> Iterator[App]:
    """Open the store, read the configuration and wire everything; closed again at the end of the `with`.

    Args:
        settings: None = from the environment.
        clock: None = as in the settings, else wall time. A scaled clock also speeds up the provisioning of local nodes.
        actor: who is asking, for the audit log.
        pools: None = as configured, and one in mode observe for each pool that only has history.

    Raises:
        ConfigError: the environment or the file is wrong.
        StoreError: the store cannot be opened.
    """
    from preprov.control.pricing import KeptPrices
    from preprov.store.database import open_store
    from preprov.store.holders import process_name

    settings = settings or Settings.load()
    config = configfile.load(settings.config_path())
    clock = clock or clocks.named(settings.clock)
    speed = float(getattr(clock, "speed", 1.0))
    configured = dict(pools) if pools is not None else config.pools()
    store = open_store(
        settings.store_url,
        settings.home,
        thinning=config.samples.build(),
        now=lambda: epoch(clock.now()),
    )
    try:
        ports = store.ports()
        aside = ports.sources.count_only([s.name for s in config.source])
        for name, zone in ports.work.pools().items():
            if name not in configured:
                configured[name] = replace(reference_pool(name), zone=zone)
        for override in config.overrides(configured):
            ports.intent.add_override(override)
        providers = providing.providers(settings.home, clock, speed, configured, ports.adoptions.installation)
        configured = providing.as_provided(configured, providers)
        schedulers = providing.schedulers(settings.home, clock, speed, configured, providers)
        ctx = Context(
            ports=ports,
            providers=providers,
            schedulers=schedulers,
            prices=KeptPrices(ports.prices, clock, configured.values(), *_prices(config, configured)),
            clock=clock,
            pools=configured,
            served=providing.served(config.serve, configured, schedulers, sourcing.running_on(config.source, clock)),
            limits=config.limits(configured),
            account=config.account.build(),
            tenants={t.name: Tenant(t.priority, {k: v for k, v in t.quota.items()}, t.share) for t in config.tenant},
            actor=actor,
            holder=process_name(),
            callback=config.controller.callback,
            keep_reservations=timedelta(days=config.controller.keep_reservations_days),
            n_samples=settings.samples,
            seed=settings.seed,
        )
        yield App(settings, config, store, ctx, speed, aside)
    finally:
        store.close()


def _keep_rejects(path: Path, rejects: Sequence[Reject]) -> str:
    from preprov.sources.rejects import rejects_file

    with rejects_file(path) as file:
        file.write(rejects)
    return str(path)


def _prices(
    config: configfile.ConfigFile, pools: Mapping[str, Pool]
) -> tuple[tuple[PriceRow, ...], tuple[Commitment, ...]]:
    """Rows of the configured table about the offerings of these pools, and the commitments."""
    asked = config.prices
    commitments = tuple(c.build(config.controller.zone) for c in asked.commitment)
    if asked.table is None and not asked.shipped:
        return (), commitments
    from preprov.control.pricing import read_prices

    types = {o.instance_type for p in pools.values() for g in p.groups for o in g.offerings}
    rows = read_prices(types=types) if asked.shipped else ()
    return (*rows, *(read_prices(asked.table, types=types) if asked.table else ())), commitments
