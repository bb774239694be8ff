"""What other systems tell of a task, as traits: pure functions over the plain mappings that their APIs answer with.

Each takes what is there and leaves out what is not: the older and newer spellings of a field are both known. Indices of
mapped tasks, array jobs and retries are no part of a task's name: they are the same task again.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
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
    """Of an Airflow task instance as the REST API gives it, with `rendered_fields` where they were asked for.

    `executor_config` may be a mapping, or the text that older servers send.
    """
    fields = _mapping(instance.get("rendered_fields"))
    version = _mapping(instance.get("dag_version"))
    config = instance.get("executor_config")
    return TaskTraits(
        tenant=tenant,
        dag=_text(instance, "dag_id"),
        task=_text(instance, "task_id"),
        code=_code(fields, _text(version, "bundle_version", "version_number")),
        command=_command(fields),
        env=_strings(fields.get("env") or fields.get("env_vars")),
        framework=_text(instance, "operator_name", "operator"),
        machine=_text(instance, "queue"),
        extra={"executor_config": stable_text(str(config))} if config and str(config) != "{}" else {},
    )


def prefect(run: Mapping[str, Any], *, tenant: str = "default") -> TaskTraits:
    """Of a Prefect task run or flow run, with `flow_name` and `job_variables` where the caller has looked them up."""
    variables = _mapping(run.get("job_variables"))
    key = _text(run, "task_key", "flow_name", "name")
    flow = _text(run, "flow_name", "deployment_name")
    return TaskTraits(
        tenant=tenant,
        dag=flow or key,
        task=_bare(key.rpartition(".")[2]),
        code=_code(variables, _text(run, "task_version", "flow_version", "version")),
        command=_command(variables),
        inputs=tuple(InputTraits(str(k)) for k in sorted(_mapping(run.get("task_inputs") or run.get("parameters")))),
        env=_strings(variables.get("env")),
        framework="prefect",
        machine=_text(run, "work_queue_name", "work_pool_name"),
        extra={"tags": ",".join(sorted(map(str, run.get("tags") or ())))},
    )


def slurm(job: Mapping[str, Any]) -> TaskTraits:
    """Of a job as squeue, sacct or slurmrestd give it in JSON (22.05 and later).

    The tenant is the account, the DAG what the comment or the user says, the task the job's name without its index.
    """
    name = _bare(_text(job, "name", "job_name") or "job")
    line = _text(job, "submit_line", "command")
    comment = job.get("comment")
    dag = _text(_mapping(comment), "job") if isinstance(comment, Mapping) else str(comment or "")
    return TaskTraits(
        tenant=_text(job, "account") or "default",
        dag=stable_text(dag) or _text(job, "user", "user_name") or name,
        task=name,
        code=tuple(c for c in (_text(job, "container"),) if c),
        command=_words(line),
        framework="slurm",
        machine=",".join(t for t in (_text(job, "partition"), _text(job, "constraints", "features")) if t),
        extra={"tres": _requested(job)},
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


def _requested(job: Mapping[str, Any]) -> str:
    """What it asks for, as one text, whichever of the two ways it is told."""
    tres = job.get("tres_req_str") or _mapping(job.get("tres")).get("requested")
    if isinstance(tres, str):
        parts = dict(p.partition("=")[::2] for p in tres.split(",") if "=" in p)
    else:
        rows = [t for t in tres or () if isinstance(t, Mapping)]
        parts = {"/".join(str(x) for x in (t.get("type"), t.get("name")) if x): str(t.get("count")) for t in rows}
    return ",".join(f"{k}={v}" for k, v in sorted(parts.items()) if k in ("cpu", "mem", "node") or k.startswith("gres"))
