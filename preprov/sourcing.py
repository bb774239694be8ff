"""Which reader a [[source]] of preprov.toml means."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from preprov.configfile.sources import (
    AirflowSection,
    KubernetesSection,
    LiveSection,
    PrefectSection,
    PrometheusSection,
    SlurmSection,
    SourceSection,
)
from preprov.contracts import Clock, LiveSource, WorkSource
from preprov.model.errors import ConfigError

if TYPE_CHECKING:
    from preprov.sources.airflow import AirflowSettings
    from preprov.sources.airflow.credentials import Credential

_LOOK_S: Final = 10.0


def file_source(kind: str, path: Path) -> WorkSource:
    """The reader of a file of that kind.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind == "swf":
        from preprov.sources.swf import SwfSource

        return SwfSource(path)
    if kind == "wfformat":
        from preprov.sources.wfformat import WfFormatSource

        return WfFormatSource(path)
    if kind == "dags":
        from preprov.sources.tables import DagTableSource

        return DagTableSource(path)
    raise ConfigError(f"no file of kind {kind!r} can be read", where="[[source]]", hint="swf, wfformat or dags")


def live_source(section: LiveSection, clock: Clock) -> LiveSource:
    """The reader of a place where work lives; nothing is asked of it yet.

    Raises:
        ConfigError: there is no such kind, or it is told too little.
    """
    if isinstance(section, AirflowSection):
        from preprov.sources.airflow import AirflowSource

        return AirflowSource(_airflow(section), clock)
    if isinstance(section, KubernetesSection):
        return _kubernetes(section)
    if isinstance(section, SlurmSection):
        return _slurm(section, clock)
    if isinstance(section, PrefectSection):
        return _prefect(section, clock)
    if isinstance(section, PrometheusSection):
        return _prometheus(section)
    hint = "airflow, slurm, kubernetes, prefect, prometheus"
    raise ConfigError(f"no place of kind {section.kind!r} can be read", where="[[source]]", hint=hint)


def running_on(
    sections: Sequence[SourceSection], clock: Clock
) -> Callable[[str], Callable[[], Mapping[str, tuple[str, ...]]]]:
    """What says which tasks run on which host, by the name of a source; nothing is asked of it yet.

    The function raises ConfigError if there is no such source, or if it is none that knows. Each question is asked
    once: a pass of the controller waits for the answer, and another pass follows.
    """

    def of(name: str) -> Callable[[], Mapping[str, tuple[str, ...]]]:
        from preprov.sources.airflow import AirflowSource

        for section in sections:
            if section.name == name and isinstance(section, AirflowSection):
                return AirflowSource(replace(_airflow(section), attempts=1, timeout_s=_LOOK_S), clock).running
        hint = f"of kind airflow there are: {', '.join(s.name for s in sections if s.kind == 'airflow') or 'none'}"
        raise ConfigError(f"there is no source {name!r} of kind airflow", where="[[serve]]", hint=hint)

    return of


def _airflow(section: AirflowSection) -> "AirflowSettings":
    from preprov.sources.airflow import AirflowSettings

    return AirflowSettings(
        name=section.name,
        url=section.url,
        credential=_airflow_credential(section),
        api=section.api,
        tenant=section.tenant,
        requests_per_second=section.requests_per_second,
        history_days=section.history_days,
        verify=section.verify,
        zone=section.zone,
    )


def _prefect(section: PrefectSection, clock: Clock) -> LiveSource:
    from preprov.sources.prefect import PrefectSettings, PrefectSource, Secrets

    key, auth = section.key, section.auth
    settings = PrefectSettings(
        name=section.name,
        url=section.url,
        secrets=Secrets(
            None if key is None else lambda: key.read("key"), None if auth is None else lambda: auth.read("auth")
        ),
        tenant=section.tenant,
        requests_per_second=section.requests_per_second,
        history_days=section.history_days,
        zone=section.zone,
    )
    return PrefectSource(settings, clock)


def _prometheus(section: PrometheusSection) -> LiveSource:
    import base64

    from preprov.clocks import WallClock
    from preprov.sources.prometheus import PRESETS, PrometheusSettings, PrometheusSource, UsageQuery
    from preprov.sources.prometheus.queries import preset

    whose, labels = section.claimant, section.labels
    if section.preset is not None:
        whose, labels = whose or PRESETS[section.preset][1], labels or dict(PRESETS[section.preset][2])
    own = [UsageQuery(q.resource, q.promql, q.unit, q.claimant or whose, q.labels or labels) for q in section.query]
    usual = preset(section.preset, whose, labels) if section.preset is not None else ()
    said = {q.resource for q in own}
    token, password = section.token, section.password

    def headers() -> dict[str, str]:
        if token is not None:
            return {"Authorization": f"Bearer {token.read(f'token of source {section.name}')}"}
        if password is not None:
            pair = f"{section.user}:{password.read(f'password of source {section.name}')}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
        return {}

    settings = PrometheusSettings(
        name=section.name,
        url=section.url,
        queries=(*own, *(q for q in usual if q.resource not in said)),
        headers=headers,
        verify=section.verify if isinstance(section.verify, bool) else str(section.verify),
        requests_per_second=section.requests_per_second,
        step_s=section.step,
        chunk_s=section.chunk,
        lag_s=section.lag,
        history_days=section.history_days,
        zone=section.zone,
    )
    return PrometheusSource(settings, WallClock())  # it lives in wall time, however fast the night is played


def _airflow_credential(section: AirflowSection) -> "Credential":
    """How to prove to Airflow who asks; secrets are looked up when they are needed."""
    from preprov.sources.airflow import credentials

    password, token = section.password, section.token
    if section.auth == "mwaa":
        return credentials.mwaa(section.environment, section.region)
    if section.auth == "composer":
        return credentials.composer()
    if section.auth == "none":
        return credentials.nobody
    if token is not None:
        return credentials.bearer(lambda: token.read("token"))
    secret = None if password is None else lambda: password.read("password")
    if section.auth == "basic" and secret is not None:
        return credentials.basic(section.user, secret)
    return credentials.exchanged(section.url, section.user, secret)


def _slurm(section: SlurmSection, clock: Clock) -> LiveSource:
    from preprov.clocks import WallClock
    from preprov.slurm.commands import connect
    from preprov.slurm.rest import SlurmRest
    from preprov.sources.budget import RequestBudget
    from preprov.sources.slurm.reading import Answers, SlurmReader
    from preprov.sources.slurm.source import SlurmSettings, SlurmSource

    settings = SlurmSettings(
        key=section.name,
        zone=section.zone,
        tenant=section.tenant,
        history_s=section.history_days * 86_400.0,
        crontabs=tuple(section.crontab),
        user=section.owner,
        usage=section.usage,
    )
    # The cluster lives in wall time, however fast the night is played.
    budget = RequestBudget(section.requests_per_second, WallClock())
    answers: Answers = connect(section.conf)
    if section.url and section.token is not None:
        token = partial(section.token.read, f"token of source {section.name}")
        answers = SlurmRest(section.url, section.user, token, version=section.api, verify=section.verify)
    return SlurmSource(settings, SlurmReader(answers, budget), clock, speed=float(getattr(clock, "speed", 1.0)))


def _kubernetes(section: KubernetesSection) -> LiveSource:
    from importlib.util import find_spec

    from preprov.clocks import WallClock
    from preprov.sources.budget import RequestBudget
    from preprov.sources.kubernetes import KubernetesSettings, KubernetesSource
    from preprov.sources.kubernetes.client import KubernetesClient

    if find_spec("kubernetes") is None:
        raise ConfigError(
            "the Kubernetes client is not installed",
            where=f"source {section.name}",
            hint="pip install 'preprov[kubernetes]'",
        )
    client = KubernetesClient(
        RequestBudget(section.requests_per_second, WallClock()),
        WallClock(),
        kubeconfig=section.kubeconfig,
        context=section.context,
        namespaces=tuple(section.namespaces),
    )
    return KubernetesSource(KubernetesSettings(section.name, section.zone, section.tenant, section.queue_key), client)
