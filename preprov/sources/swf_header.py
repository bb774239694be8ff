"""The header of a Standard Workload Format log: comment lines `; Name: value`, wherever in the file they stand."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from preprov.model.errors import ConfigError
from preprov.model.time import epoch as seconds_of
from preprov.sources.files import line_blocks
from preprov.sources.swf_lines import comments
from preprov.sources.zones import canonical_zone, offset_zone

_LEADING_NUMBER: Final = re.compile(r"-?\d[\d,]*(\.\d+)?")


@dataclass
class SwfHeader:
    """What the header says, by name (the first, if one stands twice), and the unpacked size of the log in bytes."""

    values: dict[str, str] = field(default_factory=dict)
    size: int = 0

    def number(self, name: str) -> float | None:
        """The number a value begins with; None if absent or not a number."""
        found = _LEADING_NUMBER.match(self.values.get(name, ""))
        return float(found.group().replace(",", "")) if found else None

    def processors(self) -> float | None:
        """MaxProcs, else MaxNodes; None if neither is there."""
        return next((n for n in map(self.number, ("MaxProcs", "MaxNodes")) if n is not None and n > 0), None)

    def zone(self, given: str | None) -> tuple[str, str]:
        """(IANA zone, a note if something was amiss): as given, else TimeZoneString, else TimeZone (seconds), else UTC.

        Raises:
            ConfigError: there is no zone as given.
        """
        if given is not None:
            name = canonical_zone(given)
            if name is None:
                raise ConfigError(f"unknown time zone {given!r}", hint="an IANA name such as Europe/Zurich")
            return name, ""
        text = self.values.get("TimeZoneString", "")
        if text and (name := canonical_zone(text)):
            return name, ""
        seconds = self.number("TimeZone")
        fixed = offset_zone(int(seconds)) if seconds is not None else None
        used = fixed or "UTC"
        if text:
            return used, f"the header's zone {text!r} is not known: {used} is used; --tz names another"
        if seconds is not None and fixed is None:
            return used, f"no zone is {seconds:g} s from UTC: UTC is used; --tz names another"
        return used, "" if fixed else "the header names no zone: UTC is used; --tz names another"

    def start(self, given: datetime | None) -> tuple[float, str]:
        """(epoch s of second 0, a note if it had to be assumed): as given, else UnixStartTime, else 1970."""
        if given is not None:
            return seconds_of(given), ""
        seconds = self.number("UnixStartTime")
        if seconds is not None and seconds >= 0:
            return seconds, ""
        return 0.0, "the header has no UnixStartTime: second 0 is 1970-01-01T00:00Z; --epoch names another instant"


def survey(path: Path) -> SwfHeader:
    """Look through the whole file once: header lines may stand anywhere, and a stream cut short shows only at its end.

    Raises:
        SourceError: it is unreadable, damaged or cut short.
    """
    out = SwfHeader()
    for block in line_blocks(path):
        out.size += len(block)
        for line in comments(block):
            name, colon, value = line.partition(":")
            if colon and value.strip() and " " not in name.strip():
                out.values.setdefault(name.strip(), value.strip())
    return out
