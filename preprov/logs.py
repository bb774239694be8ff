"""The program's own log: structlog on stderr, level from PREPROV_LOG_LEVEL, secrets masked."""

import logging
import os
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_URL_PASSWORD = re.compile(r"(?P<head>[a-z][a-z0-9+.-]*://[^:/@\s]+:)[^@\s]+(?=@)", re.IGNORECASE)
_SECRET_KEY = re.compile(r"pass(word)?|secret|token|credential|api_?key", re.IGNORECASE)


def mask(text: str) -> str:
    """The text with passwords in URLs replaced by ***."""
    return _URL_PASSWORD.sub(r"\g<head>***", text)


def is_secret_name(name: str) -> bool:
    """True for names whose values are never shown."""
    return bool(_SECRET_KEY.search(name))


def _masked(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if is_secret_name(key):
            event[key] = "***"
        elif isinstance(value, str):
            event[key] = mask(value)
    return event


def configure(level: str | None = None) -> None:
    """Log on stderr from `level` up (default PREPROV_LOG_LEVEL, else warning)."""
    name = (level or os.environ.get("PREPROV_LOG_LEVEL") or "warning").upper()
    number = logging.getLevelNamesMapping().get(name, logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=True),
            _masked,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
