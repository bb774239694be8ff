"""Amounts and times as people write them: "500m" cores, "4GiB", "90s", "1h30m", "+2m", "02:00"."""

import math
import re
from datetime import datetime, timedelta
from typing import Any, Final

import pendulum
from pydantic import ByteSize, TypeAdapter, ValidationError

_GIB: Final = 1024.0**3
_MB: Final = 1e6
_BYTES: Final = TypeAdapter(ByteSize)
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(w|d|h|min|m|s)", re.IGNORECASE)
_CLOCK: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")


def cores(value: Any) -> float:
    """2, "2", "500m" (thousandths) -> cores.

    Raises:
        ValueError: it is none of these, or negative.
    """
    if isinstance(value, str) and (text := value.strip()).endswith("m"):
        return _amount(text[:-1], value, 'cores: 2, 0.5 or "500m"') / 1000
    return _amount(value, value, 'cores: 2, 0.5 or "500m"')


def gib(value: Any) -> float:
    """4, "4GiB", "512 MiB", "4Gi", "2GB" -> GiB; a bare number is GiB.

    Raises:
        ValueError: it is none of these, or negative.
    """
    bare = _bare(value)
    return _amount(value, value, 'memory: 4 (GiB), "4GiB" or "512MiB"') if bare else _bytes(value, "4GiB") / _GIB


def mb_per_s(value: Any) -> float:
    """100, "100MB/s", "1GB/s", "1Gbit/s" -> MB/s; a bare number is MB/s.

    Raises:
        ValueError: it is none of these, or negative.
    """
    if _bare(value):
        return _amount(value, value, 'a rate: 100 (MB/s), "100MB/s" or "1GB/s"')
    return _bytes(re.sub(r"(?i)\s*(/s|ps)\s*$", "", str(value)), "100MB/s") / _MB


def count(value: Any) -> float:
    """2, "2" -> 2 devices.

    Raises:
        ValueError: not a number, or negative.
    """
    return _amount(value, value, "a number")


def duration(value: Any) -> float:
    """90, "90s", "5m", "1h30m", "2d", "PT5M" -> seconds; a bare number is seconds.

    Raises:
        ValueError: it is none of these.
    """
    if _bare(value):
        return _amount(value, value, 'a duration: "90s", "5m", "1h30m", "2d"')
    text = str(value).strip()
    if text.upper().startswith("P"):
        return _iso_duration(text)
    if not text or _PART.sub("", text).strip():
        raise ValueError(f'{value!r} is not a duration: "90s", "5m", "1h30m", "2d"')
    return sum(float(n) * _SECONDS[unit[0].lower()] for n, unit in _PART.findall(text))


def _iso_duration(text: str) -> float:
    try:
        parsed = pendulum.parse(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, pendulum.Duration):
        raise ValueError(f"{text!r} is not a duration: PT5M, PT1H30M, P2D")
    return parsed.total_seconds()


def instant(value: Any, *, now: datetime, after: datetime, zone: str) -> datetime:
    """A point in time: "now", "+2m" (from `after` on), "02:00" (the next after `after`), ISO 8601, a TOML time.

    What carries no zone is in `zone`; a wall-clock time that a change of clocks skips is moved on by the gap.

    Args:
        value: what was written. now: the present. after: what relative times and times of day count from. zone: IANA.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, datetime):
        return pendulum.instance(value, tz=zone) if value.tzinfo is None else value
    text = value.isoformat() if hasattr(value, "isoformat") else str(value).strip()
    if text.lower() == "now":
        return now
    if text.startswith("+"):
        return after + timedelta(seconds=duration(text[1:]))
    if clock := _CLOCK.fullmatch(text):
        return _next_at(after, zone, *(int(g or 0) for g in clock.groups()))
    try:
        parsed = pendulum.parse(text, tz=zone)
    except ValueError:
        parsed = None
    if not isinstance(parsed, pendulum.DateTime):
        raise ValueError(f'{value!r} is not a time: "+2m", "02:00" or "2026-03-01T02:00"')
    return parsed


def _next_at(after: datetime, zone: str, hour: int, minute: int, second: int) -> datetime:
    local = pendulum.instance(after).in_timezone(zone)
    for days in (0, 1):
        day = local.add(days=days)
        then = pendulum.datetime(day.year, day.month, day.day, hour, minute, second, tz=zone)
        if then > local:
            return then
    return then.add(days=1)


def _bare(value: Any) -> bool:
    """True for a number, or text that is nothing but one."""
    if isinstance(value, int | float):
        return True
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _amount(value: Any, said: Any, wanted: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{said!r} is not {wanted}; it must be 0 or more")
    return number


def _bytes(value: Any, example: str) -> float:
    text = str(value).strip()
    text += "B" if re.search(r"(?i)\d\s*[kmgtp]i$", text) else ""
    try:
        return float(_BYTES.validate_python(text))
    except ValidationError:
        raise ValueError(f"{value!r} is not an amount such as {example!r}") from None
