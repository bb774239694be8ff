"""Text from elsewhere, made fit to be kept: what a database or a terminal cannot hold is replaced."""

from typing import Final

LONGEST: Final = 2_000


def clean(value: object, longest: int = LONGEST) -> str:
    """As text without NUL and lone surrogates, cut off in the middle where it is longer than `longest`."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    text = text.replace("\0", "\ufffd")
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"
