"""Whether who is asked is new enough to be read: told in `source test`."""

import re
from typing import Final

from preprov.contracts import Finding
from preprov.sources.text import clean

_RELEASE: Final = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?!\d)")
_LONGEST: Final = 100


def release_finding(name: str, told: str, least: str) -> Finding:
    """What a person is told of a version: "bad" = too old to be read, "warn" = it cannot be compared.

    Args:
        name: of the product. told: its version, as it says, such as `v1.33.2-gke.100`.
        least: that is read, such as `2.9`.
    """
    is_told = clean(told, _LONGEST).strip()
    found, wanted = _RELEASE.match(is_told), _parts(least)
    if found is None:
        what = f"{name} says {is_told!r}" if is_told else f"{name} does not tell"
        return Finding("version", "warn", what, f"{name} {least} and newer is read: see yourself whether it is")
    if (int(found[1]), int(found[2])) < wanted:
        hint = f"{name} {least} or newer is needed: of an older one some of its work is misread, or none is read"
        return Finding("version", "bad", f"{name} {is_told} is too old", hint)
    return Finding("version", "ok", f"{name} {is_told}")


def is_at_least(told: str, least: str) -> bool:
    """Whether the version that is told is `least` (such as `2.10`) or newer; one that cannot be compared is not."""
    found = _RELEASE.match(clean(told, _LONGEST).strip())
    return found is not None and (int(found[1]), int(found[2])) >= _parts(least)


def _parts(release: str) -> tuple[int, int]:
    major, _, minor = release.partition(".")
    return int(major), int(minor)
