"""Slurm's JSON without its history.

22.05 writes a number as a number, 23.02 and newer as `{"set": …, "infinite": …, "number": …}`; a state was a word with
its flags beside it and is now a list of both; an exit code was a wait status and is now a table. Each is read here.
"""

from collections.abc import Mapping
from typing import Any, Final

Json = Mapping[str, Any]

_NO_VALUE: Final = frozenset({0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 0xFFFFFFFFFFFFFFFF, 0xFFFE, 0xFFFF})
"""How Slurm says "not set" and "no limit" where the JSON lets its own constants through."""
BASE_STATES: Final = ("DOWN", "ERROR", "FUTURE", "UNKNOWN", "MIXED", "ALLOCATED", "IDLE")


def number(value: object) -> float | None:
    """A number in either shape; None if it is not set, infinite, or no number."""
    if isinstance(value, Mapping):
        if not value.get("set", True) or value.get("infinite"):
            return None
        value = value.get("number")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return None if found in _NO_VALUE or found != found else found


def whole(value: object, default: int = 0) -> int:
    """As `number`, as an int."""
    found = number(value)
    return default if found is None else int(found)


def instant(value: object) -> float | None:
    """Epoch seconds; None if it has not come: Slurm says 0 for that."""
    found = number(value)
    return found if found is not None and found > 0 else None


def text(value: object) -> str:
    """A string; "" for nothing, and for the words Slurm prints for it."""
    return value if isinstance(value, str) and value not in ("None", "(null)", "N/A") else ""


def words(value: object) -> tuple[str, ...]:
    """Words in upper case, of a list or of one string."""
    if isinstance(value, str):
        return tuple(w.upper() for w in value.replace("+", ",").replace(" ", ",").split(",") if w)
    if isinstance(value, list | tuple):
        return tuple(str(w).upper() for w in value)
    return ()


def names(value: object) -> tuple[str, ...]:
    """Names as they are written, of a list or of a comma-separated string."""
    if isinstance(value, str):
        return tuple(w for w in value.split(",") if w)
    if isinstance(value, list | tuple):
        return tuple(str(w) for w in value)
    return ()


def exit_code(value: object) -> int | None:
    """0 to 255, or minus the signal that ended it; None if it has none yet."""
    if isinstance(value, Mapping):
        signal: object = value.get("signal")
        killed = whole(signal.get("id", signal.get("signal_id"))) if isinstance(signal, Mapping) else 0
        return -killed if killed else whole(value.get("return_code"), 0)
    status = number(value)
    if status is None:
        return None
    low, high = int(status) & 0x7F, int(status) >> 8
    return -low if low else high


def tres(value: str) -> dict[str, float]:
    """`cpu=4,mem=200M,node=2,gres/gpu=1` as numbers; memory in MiB. What has no number is left out."""
    out: dict[str, float] = {}
    for part in value.split(","):
        name, _, amount = part.partition("=")
        if name and amount:
            found = _amount(amount) if name == "mem" else number(amount)
            if found is not None:
                out[name] = found
    return out


def _amount(value: str) -> float | None:
    """MiB."""
    scale = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}.get(value[-1:].upper())
    found = number(value[:-1] if scale else value)
    return None if found is None else found * (scale or 1.0)


def gpus(amounts: Mapping[str, float]) -> float:
    """GPUs of a list of trackable resources: the total if it is there, else its typed parts."""
    if "gres/gpu" in amounts:
        return amounts["gres/gpu"]
    return sum(v for k, v in amounts.items() if k.startswith("gres/gpu:"))


def asked(amounts: Mapping[str, float]) -> str:
    """Amounts as one text, the same of both shapes."""
    return ",".join(f"{k}={v:g}" for k, v in sorted(amounts.items()))


def tres_list(value: object) -> dict[str, float]:
    """The same of the JSON list `[{"type": "cpu", "name": null, "count": 4}, …]`."""
    out: dict[str, float] = {}
    for item in value if isinstance(value, list) else ():
        if isinstance(item, Mapping):
            name = f"{item.get('type')}/{item['name']}" if item.get("name") else str(item.get("type"))
            found = number(item.get("count"))
            if found is not None:
                out[name] = out.get(name, 0.0) + found
    return out
