"""What the sections of preprov.toml share: unknown keys refused, zones, times of day."""

import difflib
from typing import Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field

from preprov.model.errors import ConfigError
from preprov.model.pools import Window

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def known_zone(value: str) -> str:
    """The zone, if there is such a one."""
    if value not in available_timezones():
        near = difflib.get_close_matches(value, available_timezones(), 1)
        raise ValueError(f"unknown time zone {value!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return value


def clock_seconds(text: str) -> int:
    """Seconds after midnight of HH:MM, 24:00 included.

    Raises:
        ConfigError: it is no time of day.
    """
    try:
        hours, minutes = text.split(":")
        value = int(hours) * 3600 + int(minutes) * 60
    except ValueError:
        raise ConfigError(f"{text!r} is not a time of day", hint="HH:MM") from None
    if not 0 <= value <= 86400:
        raise ConfigError(f"{text!r} is not a time of day", hint="00:00 to 24:00")
    return value


def time_of_day(text: str) -> str:
    """The text, if it is HH:MM below 24:00.

    Raises:
        ConfigError: it is not.
    """
    if clock_seconds(text) == 86400:
        raise ConfigError(f"{text!r} is the next day's 00:00", hint="00:00 to 23:59")
    return text


class HoursSection(Section):
    """Hours of the day and weekdays; all of them if nothing is said."""

    start: str = "00:00"
    end: str = "24:00"
    weekdays: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(default_factory=list)

    def hours(self) -> Window:
        """The domain value."""
        days = frozenset(WEEKDAYS.index(d) for d in self.weekdays) or frozenset(range(7))
        return Window(clock_seconds(self.start), clock_seconds(self.end), days)
