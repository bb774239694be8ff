"""[[source]]: files that are ingested again whenever they changed, and places where work lives."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from preprov.configfile.base import Section, known_zone
from preprov.configfile.secrets import Secret

_MOST_POINTS = 11_000
"""Of a series that Prometheus gives in one answer."""


class FileSource(Section):
    """A file that is ingested again whenever it changed."""

    name: str
    kind: Literal["swf", "wfformat", "dags"]
    path: Path
    pool: str

    @property
    def where(self) -> str:
        """The file."""
        return str(self.path)


class LiveSection(Section):
    """What all places where work lives have in common.

    Attributes:
        pool: where work goes that no [[route]] matches; left out, it is counted and goes nowhere, unless there are no
            routes and only one pool.
        every: seconds from one pass to the next.
        requests_per_second: never more than so many, whatever is asked for.
        history_days: how far back the first pass goes.
        tenant: whose work it is.
        zone: of its wall clock, where it does not say itself.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")
    kind: str
    pool: str | None = None
    every: float = Field(default=30.0, gt=0, description="seconds")
    requests_per_second: float = Field(default=2.0, gt=0)
    history_days: float = Field(default=28.0, ge=0)
    tenant: str = "default"
    zone: str = "UTC"
    _check_zone = field_validator("zone")(known_zone)

    @property
    def where(self) -> str:
        """Its address, for people; "" = this machine."""
        return ""


class AirflowSection(LiveSection):
    """An Airflow, read over its REST API: 3.x by /api/v2, 2.9 and newer by /api/v1.

    Attributes:
        auth: token (user and password are exchanged for one, or `token` is one), basic, mwaa, composer, none.
        environment, region: of Amazon MWAA.
        api: which version of the API; auto = ask.
    """

    kind: Literal["airflow"]
    url: str = ""
    auth: Literal["token", "basic", "mwaa", "composer", "none"] = "token"
    user: str = ""
    password: Secret | None = None
    token: Secret | None = None
    environment: str = ""
    region: str = ""
    api: Literal["auto", "v1", "v2"] = "auto"
    verify: bool | Path = True

    @property
    def where(self) -> str:
        """Its address."""
        return self.url or f"MWAA environment {self.environment}"

    @model_validator(mode="after")
    def _complete(self) -> "AirflowSection":
        if self.auth == "mwaa":
            if not self.environment:
                raise ValueError('auth = "mwaa" needs `environment`, the name of the MWAA environment')
        elif not self.url.startswith(("http://", "https://")):
            raise ValueError("`url` must begin with http:// or https://")
        if self.auth == "basic" and (not self.user or self.password is None):
            raise ValueError('auth = "basic" needs `user` and `password`')
        if self.auth == "token" and self.token is None and self.user and self.password is None:
            raise ValueError('auth = "token" with a `user` needs a `password`')
        return self


class SlurmSection(LiveSection):
    """A Slurm cluster, read by its commands, or over slurmrestd where a `url` is given.

    Attributes:
        conf: slurm.conf; left out, as Slurm finds it.
        url: of slurmrestd. user, token: a JWT (`scontrol token`) and whose it is. api: its version, such as v0.0.38.
        crontab: files whose lines submit jobs: those with sbatch, and scrontabs. owner: whose they are.
        usage: ask `sstat` what running jobs use; it asks their nodes.
    """

    kind: Literal["slurm"]
    conf: Path | None = None
    url: str = ""
    user: str = ""
    token: Secret | None = None
    api: str = Field(default="v0.0.38", pattern=r"^v0\.0\.\d+$")
    verify: bool | Path = True
    crontab: list[Path] = Field(default_factory=list)
    owner: str = "root"
    usage: bool = True

    @property
    def where(self) -> str:
        """Its address."""
        return self.url or (str(self.conf) if self.conf else "")

    @model_validator(mode="after")
    def _complete(self) -> "SlurmSection":
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError("`url` must begin with http:// or https://")
        if self.url and (self.token is None or not self.user):
            raise ValueError("slurmrestd needs `user` and `token`: `scontrol token username=…` makes one")
        return self


class KubernetesSection(LiveSection):
    """A Kubernetes cluster: Jobs, CronJobs, and pods that other controllers run to an end.

    Attributes:
        kubeconfig: left out, as kubectl finds it, or from within the cluster. context: of that file.
        namespaces: left out, all.
        tenant: left out, each namespace is a tenant.
        queue_key: key of the node selector whose value is the queue that routes match; left out, Kueue's queue or the
            namespace is.
    """

    kind: Literal["kubernetes"]
    kubeconfig: Path | None = None
    context: str = ""
    namespaces: list[str] = Field(default_factory=list)
    tenant: str = ""
    queue_key: str = ""

    @property
    def where(self) -> str:
        """Its address."""
        return self.context or (str(self.kubeconfig) if self.kubeconfig else "the current context")


class PrefectSection(LiveSection):
    """A Prefect 3, read by its own client.

    Attributes:
        url: of its API, with /api. key: of Prefect Cloud.
        auth: `user:password` of a server of your own with basic authentication (PREFECT_SERVER_API_AUTH_STRING).
    """

    kind: Literal["prefect"]
    url: str
    key: Secret | None = None
    auth: Secret | None = None

    @property
    def where(self) -> str:
        """Its address."""
        return self.url

    @model_validator(mode="after")
    def _complete(self) -> "PrefectSection":
        if not self.url.startswith(("http://", "https://")):
            raise ValueError("`url` must begin with http:// or https://")
        if self.key is not None and self.auth is not None:
            raise ValueError("`key` is for Prefect Cloud, `auth` for a server of your own: one of them")
        return self


class UsageQuerySection(Section):
    """[[source.query]]: a PromQL query that gives what tasks use of a resource, and whose a series is.

    Attributes:
        promql: of an amount: of a counter its `rate`, which also sees it begin anew.
        unit: of that amount. claimant, labels: in place of those of the section.
    """

    resource: Literal[
        "cpu", "memory", "disk_io", "network", "gpu", "gpu_memory",
        "working_set", "page_faults", "read_ops", "write_ops", "disk_ops",
    ]  # fmt: skip
    promql: str = Field(min_length=1)
    unit: Literal["cores", "millicores", "percent", "bytes", "MiB", "GiB", "bytes/s", "MB/s", "devices", "1/s"]
    claimant: str = ""
    labels: dict[str, str] = Field(default_factory=dict)


class PrometheusSection(LiveSection):
    """A Prometheus, or what answers like one: what tasks used over time, into the sample store.

    Attributes:
        url: without /api. user, password, or token: of somebody who may query it.
        preset: queries for what cadvisor tells of pods, or with kube-state-metrics of Jobs, a Slurm cgroup exporter or
            the node exporter; `query` adds to them or replaces those of the same resource.
        claimant: whose use a series is, with {label} for its labels: the name of a task instance, RUN/TASK#0.
        labels: label -> regular expression that has to match all of it; its named groups are labels too.
        step: seconds between samples. chunk: seconds of time in one request. lag: the newest so many seconds are left
            for the next pass.
    """

    kind: Literal["prometheus"]
    url: str
    user: str = ""
    password: Secret | None = None
    token: Secret | None = None
    verify: bool | Path = True
    preset: Literal["cadvisor", "jobs", "slurm", "node"] | None = None
    claimant: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    query: list[UsageQuerySection] = Field(default_factory=list)
    step: float = Field(default=30.0, ge=1, description="seconds")
    chunk: float = Field(default=3600.0, gt=0, description="seconds")
    lag: float = Field(default=60.0, ge=0, description="seconds")
    every: float = Field(default=300.0, gt=0, description="seconds")
    history_days: float = Field(default=7.0, ge=0)

    @property
    def where(self) -> str:
        """Its address."""
        return self.url

    @model_validator(mode="after")
    def _complete(self) -> "PrometheusSection":
        if not self.url.startswith(("http://", "https://")):
            raise ValueError("`url` must begin with http:// or https://")
        if self.preset is None and not self.query:
            raise ValueError("say which `preset`, or give at least one [[source.query]]")
        if self.password is not None and not self.user:
            raise ValueError("a `password` needs a `user`")
        if self.token is not None and self.user:
            raise ValueError("say either `token`, or `user` and `password`")
        if self.chunk / self.step > _MOST_POINTS:
            raise ValueError(f"`chunk` holds more than {_MOST_POINTS:,} steps: Prometheus gives no more at once")
        if any(not (q.claimant or self.claimant) for q in self.query) and self.preset is None:
            raise ValueError('`claimant` says whose use a series is, such as "{namespace}/{pod}"')
        return self


SourceSection = Annotated[
    FileSource | AirflowSection | SlurmSection | KubernetesSection | PrefectSection | PrometheusSection,
    Field(discriminator="kind"),
]
"""One [[source]]; a new kind is one more section here."""
