"""What a Slurm command can say no with; each adapter puts it into words of its own boundary."""

from enum import StrEnum
from typing import Final


class Trouble(StrEnum):
    """Why a command failed."""

    MISSING = "missing"
    """The command is not installed here."""
    UNREACHABLE = "unreachable"
    """slurmctld or slurmdbd does not answer; the same call may succeed later."""
    TOO_MUCH = "too_much"
    """It did not answer in time, or more was asked for than it gives at once; less may be answered."""
    DENIED = "denied"
    """This user may not do that."""
    NOT_FOUND = "not_found"
    """No such node, job, partition."""
    CONFLICT = "conflict"
    """It is in a state that does not allow this; look again."""
    UNSUPPORTED = "unsupported"
    """This version of Slurm has no such option."""
    REFUSED = "refused"
    """Anything else Slurm refused."""
    GARBLED = "garbled"
    """The answer is not what Slurm writes."""


class SlurmError(Exception):
    """A command or a request that failed.

    Args:
        trouble: what kind of. said: what Slurm said, one line. where: the command, without its values.
    """

    def __init__(self, trouble: Trouble, said: str, where: str = "") -> None:
        super().__init__(said)
        self.trouble = trouble
        self.said = said
        self.where = where


_MEANING: Final = (
    ("exceeds size limit", Trouble.TOO_MUCH),
    ("too wide of a date range", Trouble.TOO_MUCH),
    ("unrecognized option", Trouble.UNSUPPORTED),
    ("invalid option", Trouble.UNSUPPORTED),
    ("not supported", Trouble.UNSUPPORTED),
    ("unable to contact slurm controller", Trouble.UNREACHABLE),
    ("zero bytes were transmitted", Trouble.UNREACHABLE),
    ("socket timed out", Trouble.UNREACHABLE),
    ("connection refused", Trouble.UNREACHABLE),
    ("connect failure", Trouble.UNREACHABLE),
    ("communications connection failure", Trouble.UNREACHABLE),
    ("unable to connect to database", Trouble.UNREACHABLE),
    ("failed to open persistent connection", Trouble.UNREACHABLE),
    ("slurm_persist_conn_open", Trouble.UNREACHABLE),
    ("controller is in standby mode", Trouble.UNREACHABLE),
    ("munge", Trouble.UNREACHABLE),
    ("could not resolve", Trouble.UNREACHABLE),
    ("could not establish a configuration source", Trouble.UNREACHABLE),
    ("authentication", Trouble.DENIED),
    ("access/permission denied", Trouble.DENIED),
    ("permission denied", Trouble.DENIED),
    ("user id is missing", Trouble.DENIED),
    ("invalid node name", Trouble.NOT_FOUND),
    ("invalid job id", Trouble.NOT_FOUND),
    ("node not found", Trouble.NOT_FOUND),
    ("invalid partition name", Trouble.NOT_FOUND),
    ("invalid node state", Trouble.CONFLICT),
    ("already finished", Trouble.CONFLICT),
    ("job/step already completing or completed", Trouble.CONFLICT),
)


def trouble_of(said: str) -> Trouble:
    """What kind of trouble that message is."""
    low = said.lower()
    return next((kind for text, kind in _MEANING if text in low), Trouble.REFUSED)
