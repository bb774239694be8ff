"""Which reader a [[source]] of preprov.toml means."""

from pathlib import Path
from typing import TYPE_CHECKING

from preprov.configfile.sources import AirflowSection, LiveSection
from preprov.contracts import Clock, LiveSource, WorkSource
from preprov.model.errors import ConfigError

if TYPE_CHECKING:
    from preprov.sources.airflow.credentials import Credential


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
        from preprov.sources.airflow import AirflowSettings, AirflowSource

        settings = AirflowSettings(
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
        return AirflowSource(settings, clock)
    raise ConfigError(f"no place of kind {section.kind!r} can be read", where="[[source]]", hint="airflow")


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
