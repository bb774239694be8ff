"""Where and when the demonstration plays: its folder, its pool, its night."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from preprov.demo.company import Company, retailer
from preprov.demo.kit import Kit, make_kit
from preprov.demo.workload import PlannedRun, Workload, build_specs, instant
from preprov.model.errors import ConfigError
from preprov.model.offerings import LeadTime, Standby
from preprov.model.work import DagSpec

POOL: Final = "demo"
NIGHT: Final = datetime(2025, 10, 31, 1, 56)  # noqa: DTZ001 - a wall clock; its zone is the company's
"""Just before the first wave of a month's last night, on the wall clock of the company."""
EVENING: Final = datetime(2025, 10, 30, 21, 0)  # noqa: DTZ001 - as above
"""When the nightly forecast is issued."""
HISTORY: Final = timedelta(weeks=6)
_MARKER: Final = ".preprov-demo"

LEADS: Final[Mapping[Standby, LeadTime]] = {
    Standby.COLD: LeadTime(75, 130),
    Standby.STOPPED: LeadTime(30, 60),
    Standby.HIBERNATED: LeadTime(12, 30),
}
"""What a cloud takes, here and on the fakes, before anything of ours runs on a machine."""

_TOML: Final = """# The demonstration's configuration; written anew by each `preprov demo`.
[controller]
zone = "{zone}"

[guard]
max_nodes = 12

[[pool]]
name = "{pool}"
country = "{country}"
mode = "full"
binding = ["cpu", "memory"]
step = 60
horizon = 3600
node_ttl = 900

# a pool in a cloud earns its mode in nights; this one is trusted from its first
[pool.gate]
floor_nights = 0
full_nights = 0

[pool.preload]
images = [{{ uri = {image}, digest = "{digest}" }}]
datasets = [{{ uri = {dataset}, version = "{version}", sha256 = "{sha256}" }}]

[[pool.group]]
name = "{group}"
provider = "{provider}"
states = ["running", "hibernated", "stopped"]
max_nodes = 12

# the price of m7i.2xlarge, us-east-1, 2026-07, whatever the cloud, so that nights can be compared; standby costs the
# disk (100 GiB) and, hibernated, the image of its memory
[[pool.group.offering]]
type = "{type}"
zone = "{zone_of_nodes}"
cpu = 8
memory = 32
usd_per_hour = 0.4032
minimum_billing = 60

[pool.group.standby_usd_per_hour]
stopped = 0.011
hibernated = 0.014

# what a launch is believed to take until it has been seen
[pool.group.lead]
cold = {{ median = 90, p95 = 150 }}
stopped = {{ median = 40, p95 = 80 }}
hibernated = {{ median = 20, p95 = 45 }}

[pool.group.options]
{options}
"""

_LOCAL: Final = """\
# plain limits, for a machine this small has nothing to spare for groups of its own
limits = "rlimit"

# what a cloud would take before anything of ours runs; unpacking and checking on the node come on top
[pool.group.options.delay]
cold = {{ median_s = {cold.median_s:g}, p95_s = {cold.p95_s:g} }}
stopped = {{ median_s = {stopped.median_s:g}, p95_s = {stopped.p95_s:g} }}
hibernated = {{ median_s = {hibernated.median_s:g}, p95_s = {hibernated.p95_s:g} }}
""".format(**{str(k): v for k, v in LEADS.items()})


@dataclass(frozen=True)
class Nodes:
    """Whose nodes the demonstration uses.

    Attributes:
        provider: "local", or a cloud. type, zone: of its offering. options: of its group, as TOML.
        environment: what its SDK needs to see.
    """

    provider: str = "local"
    group: str = "local"
    type: str = "m7i.2xlarge"
    zone: str = ""
    options: str = _LOCAL
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """Everything that is fixed before anything happens.

    Attributes:
        home: folder of the demonstration; everything it writes is below.
        start, end: of the slice that is played. evening: when the nightly forecast is issued.
        history_start: since when the company has existed. speed: of the night.
        kit: image and data. specs: dag_id -> spec. tonight: the runs of the slice.
    """

    home: Path
    seed: int
    speed: float
    start: datetime
    end: datetime
    evening: datetime
    history_start: datetime
    workload: Workload
    tonight: tuple[PlannedRun, ...]
    kit: Kit
    specs: dict[str, DagSpec]
    nodes: Nodes = Nodes()

    @property
    def company(self) -> Company:
        """Whose work it is."""
        return self.workload.company

    @property
    def config(self) -> Path:
        """The demonstration's preprov.toml."""
        return self.home / "preprov.toml"

    def environment(self, clock: str | None = None) -> dict[str, str]:
        """What makes any preprov program work on the demonstration, and believe it is that time."""
        mine = {
            "PREPROV_HOME": str(self.home),
            "PREPROV_CONFIG": str(self.config),
            "PREPROV_STORE__URL": f"sqlite:///{self.home / 'preprov.db'}",
            "PREPROV_SEED": str(self.seed),
        }
        return {**mine, **self.nodes.environment, **({"PREPROV_CLOCK": clock} if clock else {})}


def set_scene(
    home: Path,
    *,
    seed: int = 0,
    minutes: float = 30.0,
    speed: float = 21.0,
    history: timedelta = HISTORY,
    nodes: Nodes = Nodes(),
) -> Scene:
    """Make an empty folder with image, data and configuration.

    Args:
        home: wiped first; must be absent, empty, or one that an earlier demonstration made.
        seed: of the company's work.
        minutes: length of the slice on its own clock. speed: how much faster than the wall that clock runs.
        history: how long the company has existed.
        nodes: whose they are.

    Raises:
        ConfigError: the folder holds something else.
    """
    wipe(home)
    home.mkdir(parents=True)
    (home / _MARKER).touch()
    company = retailer()
    start = instant(NIGHT, company.zone)
    history_start = start - history
    workload = Workload(company, history_start, seed)
    end = start + timedelta(minutes=minutes)
    tonight = workload.runs(start, end)
    kit = make_kit(home / "kit", tonight, speed=speed, seed=seed)
    scene = Scene(
        home=home,
        seed=seed,
        speed=speed,
        start=start,
        end=end,
        evening=instant(EVENING, company.zone),
        history_start=history_start,
        workload=workload,
        tonight=tonight,
        kit=kit,
        specs=build_specs(company, kit.tasks()),
        nodes=nodes,
    )
    scene.config.write_text(_configuration(scene), encoding="utf-8")
    return scene


def is_ours(home: Path) -> bool:
    """True if an earlier demonstration made the folder."""
    return (home / _MARKER).exists()


def wipe(home: Path) -> None:
    """Remove the folder of an earlier demonstration.

    Raises:
        ConfigError: it holds something else, which is left as it is.
    """
    if not home.exists() or (home.is_dir() and not any(home.iterdir())):
        shutil.rmtree(home, ignore_errors=True)
        return
    if not is_ours(home):
        raise ConfigError(
            f"{home} holds something that no demonstration made",
            where=str(home),
            hint="name another folder with --home",
        )
    shutil.rmtree(home)


def _configuration(scene: Scene) -> str:
    image, dataset = scene.kit.image, scene.kit.dataset
    return _TOML.format(
        zone=scene.company.zone,
        country="CH",
        pool=POOL,
        image=json.dumps(image.uri),
        digest=image.digest,
        dataset=json.dumps(dataset.uri),
        version=dataset.version,
        sha256=dataset.sha256,
        group=scene.nodes.group,
        provider=scene.nodes.provider,
        type=scene.nodes.type,
        zone_of_nodes=scene.nodes.zone,
        options=scene.nodes.options,
    )


@contextmanager
def surroundings(values: dict[str, str]) -> Iterator[None]:
    """These environment variables inside the `with`, what was there before after it."""
    before = {k: os.environ.get(k) for k in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
