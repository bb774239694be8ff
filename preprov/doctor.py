"""What preprov needs and whether it is there: read-only, plain words."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from preprov.contracts import BakesImages, Examined, Finding, PoolProvider
from preprov.control.baking import forgotten_benches
from preprov.control.context import Context
from preprov.control.preflight import preflight
from preprov.model.errors import PreprovError
from preprov.model.nodes import Node
from preprov.model.plans import ActionKind, ActionRecord
from preprov.model.pools import Pool

State = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    what: str
    state: State
    found: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def examine() -> tuple[Check, ...]:
    """All checks, none of which changes anything but an empty store."""
    out = []
    for check in (_python, _packages, _home, _config, _store, _limits, _gpus, _prefect):
        try:
            out.append(check())
        except PreprovError as e:
            out.append(Check(check.__name__.strip("_"), "bad", e.what, e.hint))
    return (*out, *_pools())


def _pools() -> tuple[Check, ...]:
    """What the providers of the configured pools find; none if the checks before have told why they cannot be asked."""
    from preprov.app import open_app

    try:
        with open_app(actor="doctor") as app:
            asked = [(p, x) for x in app.ctx.providers.values() for p in app.ctx.pools.values() if _uses(p, x)]
            found = [f for pool, x in asked if isinstance(x, Examined) for f in x.examine(pool)]
            found += [f for pool in app.ctx.pools.values() for f in preflight(app.ctx, pool)]
            found += [*teardowns(app.ctx), *benches(app.ctx)]
    except PreprovError:
        return ()
    return tuple(Check(f.what, f.state, f.found, f.hint) for f in found)


def teardowns(ctx: Context) -> list[Finding]:
    """Nodes that could not be ended in the last day and have not been since: they are still paid for."""
    last: dict[str, ActionRecord] = {}
    for r in ctx.ports.audit.records(since=ctx.clock.now() - timedelta(days=1)):
        if r.action.kind is ActionKind.TERMINATE and r.result in ("done", "failed"):
            last |= dict.fromkeys(r.node_ids, r)
    return [
        Finding(f"node {node}", "bad", f"it could not be ended: {r.detail}", f"preprov why node {node}")
        for node, r in last.items()
        if r.result == "failed"
    ]


def benches(ctx: Context) -> list[Finding]:
    """Machines that images were to be made of, and that were never ended; where that cannot be asked is told before."""
    out = []
    for pool in ctx.pools.values():
        for group in pool.groups:
            if not isinstance(ctx.providers.get(group.provider), BakesImages):
                continue
            try:
                found = forgotten_benches(ctx, pool, group)
            except PreprovError:
                continue
            out += [_forgotten(pool, n, ctx.clock.now() - n.created_at) for n in found]
    return out


def _forgotten(pool: Pool, node: Node, age: timedelta) -> Finding:
    said = f"launched {age / timedelta(hours=1):.0f} h ago to make an image of, never ended, and still paid for"
    hint = f"preprov image prune {pool.name}; in mode full a pass ends it"
    return Finding(f"{pool.name}/{node.group}: bench {node.node_id}", "warn", said, hint)


def _uses(pool: Pool, provider: PoolProvider) -> bool:
    return any(g.provider == provider.name for g in pool.groups)


def _python() -> Check:
    found = ".".join(str(p) for p in sys.version_info[:3])
    good = sys.version_info >= (3, 11)
    return Check("python", "ok" if good else "bad", found, "" if good else "python 3.11 or newer is needed")


def _packages() -> Check:
    names = ("prefect", "boto3", "google-cloud-compute", "azure-mgmt-compute", "scikit-learn", "sqlmodel", "duckdb")
    missing = [n for n in names if not _has(n)]
    if missing:
        return Check("packages", "bad", f"missing: {', '.join(missing)}", "install preprov again")
    return Check("packages", "ok", f"prefect {version('prefect')}, scikit-learn {version('scikit-learn')}")


def _has(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _home() -> Check:
    from preprov.settings import Settings

    home = Settings.load().home
    place = home if home.exists() else _nearest(home)
    if not os.access(place, os.W_OK):
        return Check("home", "bad", f"{home} cannot be written", "set PREPROV_HOME to a folder of your own")
    free = shutil.disk_usage(place).free / 2**30
    return Check("home", "ok" if free > 2 else "warn", f"{home}, {free:.0f} GiB free", "" if free > 2 else "make room")


def _nearest(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _config() -> Check:
    from preprov import configfile
    from preprov.settings import Settings

    path = Settings.load().config_path()
    if path is None:
        return Check("configuration", "warn", "no preprov.toml", "`preprov init` writes an annotated example")
    pools = configfile.load(path).pools()
    return Check("configuration", "ok", f"{path}: {len(pools)} pools ({', '.join(pools) or 'none'})")


def _store() -> Check:
    from preprov.logs import mask
    from preprov.settings import Settings
    from preprov.store.database import open_store

    settings = Settings.load()
    store = open_store(settings.store_url, settings.home)
    try:
        return Check("store", "ok", f"{mask(settings.store_url)}, schema {store.current()}")
    finally:
        store.close()


def _limits() -> Check:
    from preprov.pools.agents import limits

    kind = limits()
    hint = "" if kind != "rlimit" else "cgroups are not writable here: memory is limited per process, cpu is not"
    return Check("limits of local nodes", "ok" if kind != "rlimit" else "warn", str(kind), hint)


def _gpus() -> Check:
    from preprov.pools.agents import gpus

    found, why_not = gpus()
    if found is None:
        return Check("GPUs", "ok", f"none seen: {why_not}", "on a machine with NVIDIA GPUs: pip install 'preprov[gpu]'")
    odd = [f"{g['uuid']} is {g['state']}" for g in found if g["state"] != "ok"]
    names = ", ".join(str(g["name"]) for g in found)
    hint = "no task is given such a one" if odd else ""
    return Check("GPUs", "warn" if odd else "ok", "; ".join([f"{len(found)}: {names}" if found else "0", *odd]), hint)


def _prefect() -> Check:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return Check("prefect", "ok", "no server named: `preprov up` starts one on loopback")
    return _answers(url)


def _answers(url: str) -> Check:
    import httpx

    from preprov.logs import mask

    get: Callable[..., httpx.Response] = httpx.get
    try:
        get(f"{url.rstrip('/')}/health", timeout=3).raise_for_status()
    except httpx.HTTPError as e:
        return Check("prefect", "bad", f"{mask(url)} does not answer: {type(e).__name__}", "check PREFECT_API_URL")
    return Check("prefect", "ok", f"{mask(url)} answers")
