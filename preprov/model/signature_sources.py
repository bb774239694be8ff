"""What other systems tell of a task, as traits: pure functions over the plain mappings that their APIs answer with.

Each takes what is there and leaves out what is not: the older and newer spellings of a field are both known. Indices of
mapped tasks, array jobs and retries are no part of a task's name: they are the same task again.
"""

import re
import shlex
from collections.abc import Mapping, Sequence, Sized
from typing import Any, Final

from preprov.model.signature import InputTraits, Signature, TaskTraits, format_of, stable_text
from preprov.model.work import TaskSpec

_GIB: Final = 2.0**30
_RANDOM_TAIL: Final = re.compile(r"-(?:[a-f0-9]{8,10}-)?[bcdfghjklmnpqrstvwxz2456789]{5}$")
"""What Kubernetes appends to generated names."""
_INDEX_TAIL: Final = re.compile(r"(?:[-_.]\d+|-[0-9a-f]{3}|\[[^\]]*\]|\s*\([^)]*\))$")
_COMMANDS: Final = ("bash_command", "command", "cmds", "application", "python_callable", "sql", "statement")
_ARGUMENTS: Final = ("arguments", "args", "application_args", "op_args", "job_flow_overrides")
_IMAGES: Final = ("image", "container", "container_image", "image_uri")
_LONGEST: Final = 100_000
_CONFIG_IMAGE: Final = re.compile(r"""(?<!\w)image(['"]?)\s*[:=]\s*['"]([^'"]+)['"]""")
"""In the text of an executor config: of KubernetesExecutor's keywords, or of a pod as Python writes it."""
_CONFIG_NODES: Final = re.compile(r"""(?<!\w)node_selectors?['"]?\s*[:=]\s*(\{[^{}]*\})""")
_BARE_OPTIONS: Final = frozenset(
    ("-H", "-k", "-O", "-Q", "-s", "-v", "-W", "--contiguous", "--exclusive", "--get-user-env", "--hold",
     "--ignore-pbs", "--no-kill", "--no-requeue", "--overcommit", "--oversubscribe", "--parsable", "--quiet",
     "--reboot", "--requeue", "--spread-job", "--test-only", "--use-min-nodes", "--verbose", "--wait")
)  # fmt: skip
"""Options of sbatch that take no value, or need none."""


def submitted(spec: TaskSpec, dag_id: str, tenant: str) -> TaskTraits:
    """Of a task submitted here. Versions of datasets are left out: another night's data is the same kind of input."""
    return TaskTraits(
        tenant=tenant,
        dag=dag_id,
        task=spec.task_id,
        code=tuple(f"{i.name}:{i.digest}" for i in spec.images),
        command=spec.command,
        inputs=tuple(
            InputTraits(d.uri, format_of(d.uri), None if d.size_gib is None else d.size_gib * _GIB)
            for d in spec.datasets
        ),
        env=spec.env,
        framework=spec.operator,
        machine=_pairs(spec.affinity),
    )


def task_signature(spec: TaskSpec, dag_id: str, tenant: str) -> str:
    """The path under which the history of a task submitted here is kept."""
    return Signature.of(submitted(spec, dag_id, tenant)).path


def airflow(instance: Mapping[str, Any], *, tenant: str = "default") -> TaskTraits:
    """Of an Airflow task instance as the REST API lists it, with its `rendered_fields` once it has run.

    What `executor_config` asks for is no part of it, the images and the nodes it names are. Arguments of an instance of
    a mapped task are its share of the input: they are left out.
    """
    fields = _mapping(instance.get("rendered_fields"))
    version = _mapping(instance.get("dag_version"))
    config = str(instance.get("executor_config") or "")[:_LONGEST]
    images = sorted({i for _, i in _CONFIG_IMAGE.findall(config)})
    return TaskTraits(
        tenant=tenant,
        dag=_text(instance, "dag_id"),
        task=_text(instance, "task_id"),
        code=(*images, *_code(fields, _text(version, "bundle_version", "version_number"))),
        command=() if int(instance.get("map_index", -1)) >= 0 else _command(fields),
        env=_strings(fields.get("env") or fields.get("env_vars")),
        framework=_text(instance, "operator_name", "operator"),
        machine=",".join(t for t in (_text(instance, "queue"), *sorted(_CONFIG_NODES.findall(config))) if t),
    )


def prefect(
    run: Mapping[str, Any], *, dag: str, task: str = "", tenant: str = "default", source: str = ""
) -> TaskTraits:
    """Of a Prefect flow run, with the `job_variables` that hold for it; of a task within it, which runs that code too.

    Of parameters their names, kinds, sizes and formats count, not what they say: another night's are the same task.

    Args:
        run: as listed. dag: its flow and deployment. task: within it. tenant: whose it is. source: where it was read.
    """
    variables = _mapping(run.get("job_variables"))
    tags = sorted({str(t) for t in run.get("tags") or ()} - {"auto-scheduled"})
    return TaskTraits(
        tenant=tenant,
        dag=dag,
        task=task,
        code=(*_code(variables, _text(run, "deployment_version")), *_code({}, _text(run, "flow_version"))),
        command=_command(variables),
        inputs=tuple(_parameter(str(k), v) for k, v in sorted(_mapping(run.get("parameters")).items())),
        env=_strings(variables.get("env")),
        framework="prefect",
        machine="/".join(t for t in (_text(run, "work_pool_name"), _text(run, "work_queue_name")) if t),
        extra={"tags": ",".join(tags), **_from(source)},
    )


def slurm(job: Mapping[str, Any], *, dag: str, tenant: str = "default", source: str = "") -> TaskTraits:
    """Of a job as squeue, sacct or slurmrestd give it in JSON (22.05 and later).

    Cores, nodes and devices that are asked for decide how it runs; memory and time limits only whether it ends.

    Args:
        job: with `submit_line` where that is known. dag: its run. tenant: of a job without an account. source: where
            it was read.
    """
    return TaskTraits(
        tenant=_text(job, "account") or tenant,
        dag=dag,
        task=_bare(_text(job, "name") or "job"),
        code=tuple(c for c in (_text(job, "container"),) if c),
        command=_script(_words(_text(job, "submit_line"))),
        framework="slurm",
        machine=",".join(t for t in (_text(job, "partition"), _text(job, "constraints", "features")) if t),
        extra={"tres": _requested(job), **_from(source)},
    )


def kubernetes(pod: Mapping[str, Any]) -> TaskTraits:
    """Of a pod as the API gives it. The tenant is the namespace; generated ends of names are taken off.

    What ran is told by the digest in `status` where there is one, else by the image's name.
    """
    meta, spec = _mapping(pod.get("metadata")), _mapping(pod.get("spec"))
    labels = _mapping(meta.get("labels"))
    owner = next((o for o in meta.get("ownerReferences") or () if isinstance(o, Mapping)), {})
    containers = [c for c in spec.get("containers") or () if isinstance(c, Mapping)]
    ran = [str(s.get("imageID") or "") for s in _mapping(pod.get("status")).get("containerStatuses") or ()]
    digests = tuple(sorted(i.rpartition("@")[2] for i in ran if "@sha256:" in i))
    task = _text(labels, "job-name", "batch.kubernetes.io/job-name", "app.kubernetes.io/name", "app")
    task = _generated(task or _text(owner, "name") or _text(meta, "generateName", "name").rstrip("-"))
    return TaskTraits(
        tenant=_text(meta, "namespace") or "default",
        dag=_text(labels, "app.kubernetes.io/part-of", "workflows.argoproj.io/workflow-template", "dag_id") or task,
        task=_text(labels, "task_id") or task,
        code=digests or tuple(str(c.get("image") or "") for c in containers),
        command=tuple(w for c in containers for w in (*(c.get("command") or ()), *(c.get("args") or ()))),
        env={
            str(v.get("name")): str(v["value"])
            for c in containers
            for v in c.get("env") or ()
            if isinstance(v, Mapping) and v.get("value") is not None
        },
        framework="kubernetes",
        machine=_pairs(_mapping(spec.get("nodeSelector"))),
    )


def nextflow(row: Mapping[str, Any], *, tenant: str = "default", inputs: Sequence[InputTraits] = ()) -> TaskTraits:
    """Of a row of a Nextflow trace. The tag names the sample and the attempt is chance: neither is part of it.

    Args:
        row: by the trace's column names. inputs: what is known before it starts; never what it read itself.
    """
    process = _text(row, "process") or _bare(_text(row, "name", "task"))
    return TaskTraits(
        tenant=tenant,
        dag=_text(row, "workflow") or process.partition(":")[0],
        task=process,
        code=tuple(c for c in (_text(row, "container"), _text(row, "module")) if c),
        command=_words(_text(row, "script")),
        inputs=tuple(inputs),
        framework="nextflow",
        machine=_text(row, "queue"),
        extra={"cpus": _text(row, "cpus")} if row.get("cpus") else {},
    )


# --------------------------------------------------------------------------- parts


def _text(source: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that says something."""
    for name in names:
        value = source.get(name)
        if isinstance(value, Mapping):  # newer Slurm: {"set": true, "number": 4}
            value = value.get("number") if value.get("set", True) else None
        if value is None or value == "" or value == [] or value != value:
            continue
        return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _strings(value: object) -> dict[str, str]:
    return {str(k): str(v) for k, v in _mapping(value).items()}


def _pairs(labels: Mapping[str, Any]) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(labels.items()))


def _code(fields: Mapping[str, Any], version: str) -> tuple[str, ...]:
    return tuple(c for c in (_text(fields, *_IMAGES), version) if c)


def _command(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Command and arguments, each given as text or as a list."""
    out: list[str] = []
    for names in (_COMMANDS, _ARGUMENTS):
        value = next((fields[n] for n in names if fields.get(n)), None)
        if isinstance(value, str):
            out.extend(_words(value))
        elif isinstance(value, Sequence):
            out.extend(map(str, value))
        elif value is not None:
            out.append(str(value))
    return tuple(out)


def _words(line: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(line))
    except ValueError:  # a script with an apostrophe is no command line
        return tuple(line.split())


def _bare(name: str) -> str:
    """A name without the index of a mapped or array task."""
    return _INDEX_TAIL.sub("", stable_text(name)) or name


def _generated(name: str) -> str:
    return _INDEX_TAIL.sub("", _RANDOM_TAIL.sub("", name)) or name


def _from(source: str) -> dict[str, str]:
    return {"source": source} if source else {}


def _parameter(name: str, value: object) -> InputTraits:
    """What kind of value a parameter has, and how large it is."""
    if isinstance(value, bool) or value is None:
        return InputTraits(name, str(value))
    if isinstance(value, (int, float)):
        return InputTraits(name, "number", count=float(value))
    if isinstance(value, str):
        return InputTraits(name, format_of(value))
    return InputTraits(name, type(value).__name__, count=float(len(value)) if isinstance(value, Sized) else None)


def _script(words: Sequence[str]) -> tuple[str, ...]:
    """Script and arguments of a submission: what its options ask for the job tells itself, and without job numbers."""
    rest = list(words[1:])
    while rest:
        word = rest.pop(0)
        name, given, value = word.partition("=")
        if name == "--wrap":
            return (value,) if given else tuple(rest[:1])
        if word != ":" and not word.startswith("-"):
            return (word, *rest)
        takes = (word.startswith("--") and not given) or (len(word) == 2 and word.startswith("-"))
        if takes and word not in _BARE_OPTIONS:
            del rest[:1]
    return ()


def _requested(job: Mapping[str, Any]) -> str:
    """Cores, nodes and devices that it asks for, as one text, whichever of the two ways it is told."""
    tres = job.get("tres_req_str") or _mapping(job.get("tres")).get("requested")
    if isinstance(tres, str):
        parts = dict(p.partition("=")[::2] for p in tres.split(",") if "=" in p)
    else:
        rows = [t for t in tres or () if isinstance(t, Mapping)]
        parts = {"/".join(str(x) for x in (t.get("type"), t.get("name")) if x): str(t.get("count")) for t in rows}
    return ",".join(f"{k}={v}" for k, v in sorted(parts.items()) if k in ("cpu", "node") or k.startswith("gres"))
