"""Terraform as a program: run without a shell, with a time-out, its state lock respected, its words kept whole."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from preprov.model.errors import (
    ConflictError,
    InsufficientCapacityError,
    NotAuthorisedError,
    PoolError,
    QuotaExceededError,
    ThrottledError,
)

_GRACE_S: Final = 60.0
"""Told to stop, Terraform ends what it is about and gives its state lock back: it is given time to."""
_QUIET: Final = {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1"}
_MEANING: Final[tuple[tuple[type[PoolError], str, tuple[str, ...]], ...]] = (
    (
        ConflictError,
        "somebody else is applying; the next pass tries again",
        ("Error acquiring the state lock",),
    ),
    (
        ConflictError,
        "somebody else applied meanwhile; the next pass plans again",
        ("Saved plan is stale",),
    ),
    (
        NotAuthorisedError,
        "renew the credentials Terraform runs with",
        ("AccessDenied", "UnauthorizedOperation", "AuthorizationFailed", "ExpiredToken", "No valid credential"),
    ),
    (
        InsufficientCapacityError,
        "another type, zone or time may do",
        ("InsufficientInstanceCapacity", "RESOURCE_POOL_EXHAUSTED", "AllocationFailed"),
    ),
    (
        QuotaExceededError,
        "raise the quota, or lower max_nodes",
        ("VcpuLimitExceeded", "InstanceLimitExceeded", "QUOTA_EXCEEDED", "QuotaExceeded"),
    ),
    (
        ThrottledError,
        "the next pass tries again",
        ("RequestLimitExceeded", "Throttling", "rateLimitExceeded", "TooManyRequests"),
    ),
    (PoolError, "run terraform init there first", ("terraform init",)),
)
"""Words in what Terraform says -> what they mean and what to do: the first that is found holds."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a plan does to one resource.

    Attributes:
        address: as Terraform names it. type_: of the resource. actions: "create", "update", "delete".
        fields: top-level attributes that change.
    """

    address: str
    type_: str
    actions: tuple[str, ...]
    fields: frozenset[str]

    def __str__(self) -> str:
        fields = f" ({', '.join(sorted(self.fields))})" if self.actions == ("update",) else ""
        return f"{'/'.join(self.actions)} {self.address}{fields}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan that can be shown, looked at and applied.

    Attributes:
        file: where it is. text: as Terraform shows it to people.
        changes: what it would do. drift: what was changed outside of Terraform since it was last applied.
    """

    file: Path
    text: str
    changes: tuple[Change, ...]
    drift: tuple[Change, ...]


@dataclass(frozen=True)
class Terraform:
    """One root module, initialised by its owner.

    Attributes:
        folder: the root module's. program: terraform, tofu, or a path.
        timeout_s: after this long a call is told to stop. lock_s: how long a state lock is waited for.
    """

    folder: Path
    program: str = "terraform"
    timeout_s: float = 900.0
    lock_s: float = 60.0

    def outputs(self) -> Mapping[str, Any]:
        """Outputs as they were last applied.

        Raises:
            PoolError: they could not be read.
        """
        return self._json("output", "-json", "-no-color")

    @contextmanager
    def plan(self, *, refresh_only: bool = False) -> Iterator[Plan]:
        """A plan; its file, which may hold secrets, is only there within the `with`.

        Args:
            refresh_only: look for drift only; takes no lock and proposes nothing.

        Raises:
            ConflictError: somebody else holds the state lock, or it did not end in time.
            PoolError: Terraform failed.
        """
        with tempfile.TemporaryDirectory(prefix="preprov-plan-") as private:
            file = Path(private) / "plan"
            more = ["-refresh-only", "-lock=false"] if refresh_only else [self._lock_timeout]
            self._run("plan", "-input=false", "-no-color", f"-out={file}", *more)
            shown = self._json("show", "-json", "-no-color", str(file))
            text = self._run("show", "-no-color", str(file))
            yield Plan(file, text, tuple(_changes(shown, "resource_changes")), tuple(_changes(shown, "resource_drift")))

    def apply(self, plan: Plan) -> None:
        """Carry out exactly this plan; one that is stale is refused by Terraform itself.

        Raises:
            ConflictError: the state is locked, or it did not end in time.
            PoolError: it failed; what was done is in the state, and the next plan shows the rest.
        """
        self._run("apply", "-input=false", "-no-color", self._lock_timeout, str(plan.file))

    @property
    def _lock_timeout(self) -> str:
        return f"-lock-timeout={self.lock_s:.0f}s"

    def _json(self, *words: str) -> Mapping[str, Any]:
        text = self._run(*words)
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise PoolError(f"terraform {words[0]} printed no JSON: {text[:500]}", where=str(self.folder))
        return found

    def _run(self, *words: str) -> str:
        """What it printed."""
        if not self.folder.is_dir():
            raise PoolError(f"{self.folder} is no folder", where=str(self.folder), hint="name a root module")
        program = shutil.which(self.program)
        if program is None:
            raise PoolError(
                f"there is no program {self.program}", where=str(self.folder), hint="install it, or set options.program"
            )
        env = {k: v for k, v in os.environ.items() if not k.startswith("TF_CLI_ARGS")} | _QUIET
        with subprocess.Popen(
            [program, *words],
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=self.timeout_s)
            except subprocess.TimeoutExpired:
                raise self._late(process, words[0]) from None
            except BaseException:  # this process is ending: Terraform is asked to end too, so that it unlocks the state
                _stop(process)
                raise
        if process.returncode != 0:
            raise self._failed(words[0], process.returncode, err.strip() or out.strip())
        return out

    def _late(self, process: subprocess.Popen[str], verb: str) -> PoolError:
        said = _stop(process)
        return ConflictError(
            f"terraform {verb} did not end within {self.timeout_s:g} s and was told to stop: {said}",
            where=str(self.folder),
            hint="raise options.timeout; look whether it still holds its lock",
        )

    def _failed(self, verb: str, code: int, said: str) -> PoolError:
        what, where = f"terraform {verb} ended with {code}: {said}", str(self.folder)
        for kind, hint, words in _MEANING:
            if any(word in said for word in words):
                return kind(what, where=where, hint=hint)
        return PoolError(what, where=where, hint="put it right there; nothing else was tried")


def _stop(process: subprocess.Popen[str]) -> str:
    """Ask it to stop, wait, end it; what it said last."""
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return (err.strip() or out.strip())[-2000:]


def _changes(shown: Mapping[str, Any], key: str) -> Iterator[Change]:
    for raw in shown.get(key) or ():
        change = raw["change"]
        actions = tuple(a for a in change["actions"] if a not in ("no-op", "read"))
        if actions:
            yield Change(str(raw["address"]), str(raw["type"]), actions, _fields(change))


def _fields(change: Mapping[str, Any]) -> frozenset[str]:
    before, after = change.get("before") or {}, change.get("after") or {}
    unknown = change.get("after_unknown") or {}
    names = {*before, *after, *(k for k, v in unknown.items() if v)}
    return frozenset(k for k in names if _told(before.get(k)) != _told(after.get(k)) or unknown.get(k) is True)


def _told(value: object) -> object:
    """The value without what is empty in it: providers do not tell that from what is not there."""
    if isinstance(value, Mapping):
        return {k: told for k, v in value.items() if (told := _told(v))} or None
    if isinstance(value, list):
        return [_told(v) for v in value] or None
    return value or None
