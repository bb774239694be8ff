"""What work of a Slurm is called, so that tonight's is last night's again, wherever it is looked at."""

import re
from typing import Final

_DIGITS: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T_ -]?\d\d[:.-]?\d\d(?:[:.-]?\d\d)?)?|\d{4,}")


def dag_of(user: str, name: str) -> str:
    """Whose and what, without dates and long numbers."""
    bare = _DIGITS.sub("#", name)
    return f"{user}/{bare}" if user else bare
