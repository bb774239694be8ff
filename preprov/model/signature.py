"""Task signatures: what decides how a task behaves, as one name that is the same on every machine and in every run.

A signature is a path from the coarse to the exact, `tenant/DAG/task/digest`: a task without a history borrows from the
nearest path above it that has one, and at last from its pool (the empty path). The digest is SHA-256 over everything
known that decides behaviour. Standard library only; extractors for what other systems tell are in `signature_sources`.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote

VERSION: Final = "preprov-task/1"
"""Part of every digest: when the rules below change, so does this, and histories under old names end."""

_BUCKET: Final = 4.0
_DIGITS: Final = 16
_PATHS_KEPT: Final = 8_192

_TIME: Final = r"\d{1,2}[:.hH-]?\d{2}(?:[:.-]?\d{2}(?:[.,]\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?"
_DAY: Final = r"(?:19|20)\d{2}(?P<between>[-/_.]?)(?:0[1-9]|1[0-2])(?P=between)(?:0[1-9]|[12]\d|3[01])"
_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "<uuid>"),
        (rf"(?<!\d){_DAY}(?:[T_ -]?{_TIME})?(?!\d)", "<time>"),
        (r"\byear=\d{4}(?:/month=\d{1,2})?(?:/day=\d{1,2})?(?:/hour=\d{1,2})?", "<time>"),
        (r"(?<![\d:])(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?![\d:])", "<time>"),
        (r"\b(?:scheduled|manual|backfill|dataset_triggered|asset_triggered)__[^\s/]*", "<run>"),
        (r"(?:/var)?/(?:tmp|dev/shm|scratch|local_?scratch)/[^\s:,'\"]*", "<tmp>"),
        (r"(?:[^\s:,'\"=]*/)?work/[0-9a-f]{2}/[0-9a-f]{6,32}", "<tmp>"),
        (r"\btmp[._]?(?=[a-z0-9_]*\d)[a-z0-9_]{6,}\b", "<tmp>"),
        (r"\b(?P<what>job|run|attempt|try|pid|part|array)(?P<sep>[_-])\d+\b", r"\g<what>\g<sep><n>"),
        (
            r"(?<![0-9a-f:])(?![0-9a-f]{40}(?![0-9a-f])|[0-9a-f]{64}(?![0-9a-f]))(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])"
            r"[0-9a-f]{8,}(?![0-9a-z])",
            "<hex>",
        ),
        (r"(?<![0-9a-z.])\d{9,}(?![0-9a-z])", "<n>"),
    )
)
"""Volatile parts of a word, and what stands for them. A git commit or a SHA-256 is code, not chance: it stays."""
_VOLATILE_OPTIONS: Final = frozenset(
    ("attempt", "ds", "execution-date", "job-id", "log-dir", "log-file", "logical-date", "pid", "port", "run-date",
     "run-id", "seed", "task-run-id", "tmp-dir", "tmpdir", "try-number", "ts", "uuid", "work-dir", "workdir")
)  # fmt: skip
_VOLATILE_ENV: Final = re.compile(
    r"^(?:AIRFLOW_CTX_|PREFECT__|SLURM_|SLURMD_|KUBERNETES_|NXF_|XDG_|DBUS_|SSH_|OTEL_|TRACE|GITHUB_|CI_|LC_|_|"
    r"(?:HOME|HOST|HOSTNAME|PWD|OLDPWD|PATH|USER|LOGNAME|SHELL|SHLVL|TERM|TMP|TMPDIR|TEMP|LANG|MAIL|DISPLAY|UID|PPID|"
    r"POD_\w+|NODE_NAME|RUN_ID|JOB_ID|ATTEMPT|RANDOM|SEED)$)"
    r"|SECRET|TOKEN|PASSW|CREDENTIAL|APIKEY|API_KEY|ACCESS_KEY|PRIVATE",
    re.IGNORECASE,
)
"""Names that say where and when a task runs, not what it does; and what must not be looked at."""
_COMPRESSED: Final = frozenset(("gz", "bz2", "xz", "zst", "zip", "lz4", "snappy"))


def stable_text(text: str) -> str:
    """The text with what changes from run to run (dates, ids, temporary paths) replaced by names for it."""
    for pattern, name in _RULES:
        text = pattern.sub(name, text)
    return " ".join(text.split())


def stable_command(words: Sequence[str]) -> tuple[str, ...]:
    """The words without volatile parts: as `stable_text`, and the values of options such as --run-id or --seed."""
    out: list[str] = []
    skip = False
    for word in words:
        name, given, _ = word.lstrip("-").partition("=")
        volatile = word.startswith("-") and name.replace("_", "-").lower() in _VOLATILE_OPTIONS
        if skip and not word.startswith("-"):
            out.append("<value>")
        elif volatile and given:
            out.append(f"{word.partition('=')[0]}=<value>")
        else:
            out.append(stable_text(word))
        skip = volatile and not given
    return tuple(out)


def stable_env(env: Mapping[str, str]) -> Mapping[str, str]:
    """The environment variables that can decide behaviour, without volatile parts; secrets are not looked at."""
    return {k: stable_text(str(v)) for k, v in sorted(env.items()) if not _VOLATILE_ENV.search(k)}


def bucket(amount: float | None) -> int | None:
    """Log bucket of a size or a count, a factor of four each: 0 = nothing, 1 = up to 1; None stays None."""
    if amount is None or not math.isfinite(amount) or amount < 0:
        return None
    return 0 if amount == 0 else max(1, 1 + math.ceil(math.log(amount, _BUCKET) - 1e-9))


def format_of(uri: str) -> str:
    """Format as the name tells it: `csv`, `csv.gz`, `parquet`; "" if it tells none."""
    parts = uri.rstrip("/").rpartition("/")[2].partition("?")[0].lower().split(".")[1:]
    known = [p for p in parts if p.isalnum() and not p.isdigit() and len(p) <= 8]
    if len(known) > 1 and known[-1] in _COMPRESSED:
        return ".".join(known[-2:])
    return known[-1] if known else ""


@dataclass(frozen=True, slots=True)
class InputTraits:
    """One kind of input of a task.

    Attributes:
        name: what it is, without volatile parts: a dataset's uri, a file pattern; "" if not known.
        format: as `format_of` tells it. size_bytes, count: in all; None = not known.
    """

    name: str = ""
    format: str = ""
    size_bytes: float | None = None
    count: float | None = None

    def told(self) -> tuple[str, str, int | None, int | None]:
        """What the digest is made of."""
        return (stable_text(self.name), self.format, bucket(self.size_bytes), bucket(self.count))


@dataclass(frozen=True, slots=True)
class TaskTraits:
    """What is known of a task that decides how it behaves. What is not known is empty.

    Attributes:
        tenant, dag, task: whose it is, and which. task holds no index of a mapped or array task.
        code: image digest, container, code version. command: argv, as given.
        inputs: of all kinds. env: as given. framework, algorithm: operator, library, solver.
        machine: class of machine it is bound to, "" if any.
        extra: what else a source knows to matter.
    """

    tenant: str
    dag: str
    task: str
    code: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    inputs: tuple[InputTraits, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    framework: str = ""
    algorithm: str = ""
    machine: str = ""
    extra: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)


@dataclass(frozen=True, slots=True)
class Signature:
    """A task's signature: three names and the digest of all that is known.

    Attributes:
        digest: SHA-256 in 64 hex digits.
    """

    tenant: str
    dag: str
    task: str
    digest: str

    @classmethod
    def of(cls, traits: TaskTraits) -> "Signature":
        """Of what is known of a task. The order of inputs and of variables does not matter."""
        t = traits
        told = {
            "version": VERSION,
            "names": [t.tenant, t.dag, t.task],
            "code": sorted(t.code),
            "command": stable_command(t.command),
            "inputs": sorted((i.told() for i in t.inputs), key=repr),
            "env": dict(stable_env(t.env)),
            "framework": t.framework,
            "algorithm": t.algorithm,
            "machine": t.machine,
            "extra": dict(stable_env(t.extra)),
        }
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return cls(t.tenant, t.dag, t.task, hashlib.sha256(text.encode()).hexdigest())

    @classmethod
    def within(cls, tenant: str, dag: str, task: str, source: str, looks: str) -> "Signature":
        """Of a task of which the digest of what it runs is known, and the source that told of it."""
        return cls(tenant, dag, task, hashlib.sha256(f"{source}\n{looks}".encode()).hexdigest())

    @property
    def path(self) -> str:
        """`tenant/DAG/task/digest`: the name under which its history is kept. Slashes inside names are %2F."""
        return path_of(self.tenant, self.dag, self.task, self.digest[:_DIGITS])


@lru_cache(maxsize=_PATHS_KEPT)
def signature_path(traits: TaskTraits) -> str:
    """`Signature.path` of what is known of a task; a reader asks for the same tasks again and again."""
    return Signature.of(traits).path


def path_of(*names: str) -> str:
    """Names as a path; what stands in a name cannot be taken for a level. An empty name is `-`."""
    return "/".join(quote(n, safe=" :@+,()[]=") if n else "-" for n in names)


def names_of(path: str) -> tuple[str, ...]:
    """The names in a path, coarse first."""
    return tuple(unquote(p) for p in path.split("/")) if path else ()


def is_under(path: str, level: str) -> bool:
    """Whether a path is that level or below it."""
    return not level or path == level or path.startswith(f"{level}/")


def levels(path: str) -> tuple[str, ...]:
    """The path and all above it, exact first, the pool (the empty path) last."""
    parts = path.split("/") if path else []
    return tuple("/".join(parts[:n]) for n in range(len(parts), -1, -1))
