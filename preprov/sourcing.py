"""Which reader a [[source]] of preprov.toml means."""

from pathlib import Path

from preprov.configfile.sources import LiveSection
from preprov.contracts import Clock, LiveSource, WorkSource
from preprov.model.errors import ConfigError


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
        ConfigError: there is no such kind, or a secret it needs is not there.
    """
    raise ConfigError(f"no place of kind {type(section).__name__} can be read", where="[[source]]")
