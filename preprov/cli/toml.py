"""Sections added to preprov.toml: the file stays as its owner wrote it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from preprov.model.errors import ConfigError, PreprovError


def section_text(table: str, values: Mapping[str, object]) -> str:
    """One [[table]] section."""
    lines = [f"{key} = {_value(value)}" for key, value in values.items()]
    return "\n".join([f"[[{table}]]", *lines]) + "\n"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def append_section(path: Path, text: str, check: Callable[[Path], object]) -> None:
    """Put a section at the end of the file, whole or not at all; the file is made if there is none.

    Args:
        check: reads the new file; if it raises, the old one stays.

    Raises:
        ConfigError: it cannot be written, or would not be a right configuration.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        gap = "" if not before else "\n" if before.endswith("\n") else "\n\n"
        part.write_text(before + gap + text, encoding="utf-8")
        if path.exists():
            part.chmod(path.stat().st_mode)
        check(part)
        part.replace(path)
    except OSError as e:
        raise ConfigError(f"cannot write {path}: {e.strerror}", where=str(path)) from None
    except PreprovError as e:
        raise ConfigError(e.what, where=str(path), hint=e.hint) from None
    finally:
        part.unlink(missing_ok=True)
