"""Signatures: the same for the same task, on every machine and in every run; another where behaviour differs."""

import subprocess
import sys
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.model.resources import Resources
from preprov.model.signature import (
    InputTraits,
    Signature,
    TaskTraits,
    bucket,
    format_of,
    levels,
    names_of,
    path_of,
    stable_command,
    stable_env,
    stable_text,
)
from preprov.model.signature_sources import airflow, kubernetes, nextflow, prefect, slurm, submitted, task_signature
from preprov.model.work import DatasetRef, ImageRef, TaskSpec

COMMIT = "9fceb02d0ae598e95dc970b74767f19372d61af8"
LOAD = TaskSpec(
    "load",
    command=("python", "load.py", "--date", "2025-10-30", "--rows", "100000"),
    operator="PythonOperator",
    images=(ImageRef("oci/etl", "sha256:" + "ab" * 32),),
    datasets=(DatasetRef("s3://lake/2025/10/30/orders.parquet", version="7", size_gib=3.0),),
    env={"MODE": "full", "HOSTNAME": "n17", "DB_PASSWORD": "secret"},
    request=Resources(cpu=4, memory=16),
)
POD = {
    "metadata": {
        "name": "resample-28999171-x7k2p",
        "namespace": "risk",
        "labels": {"job-name": "resample-28999171", "app.kubernetes.io/part-of": "eod"},
    },
    "spec": {
        "containers": [
            {
                "image": "registry/resample:7",
                "command": ["resample"],
                "args": ["--day", "2025-10-30"],
                "env": [
                    {"name": "DEPTH", "value": "3"},
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
            }
        ],
        "nodeSelector": {"cpu": "fast"},
    },
    "status": {"containerStatuses": [{"imageID": "docker.io/registry/resample@sha256:" + "cd" * 32}]},
}
AIRFLOW = {
    "dag_id": "eod",
    "task_id": "price",
    "map_index": -1,
    "try_number": 2,
    "operator_name": "KubernetesPodOperator",
    "queue": "big",
    "dag_version": {"bundle_version": COMMIT},
    "executor_config": "{}",
    "rendered_fields": {"image": "price:3", "cmds": ["price"], "arguments": ["--as-of", "2025-10-30T02:10:00Z"]},
}
PREFECT = {
    "name": "quick-otter",
    "run_count": 1,
    "tags": ["gpu", "eod", "auto-scheduled"],
    "parameters": {"day": "2025-10-30", "rows": 100_000, "into": "s3://lake/out.parquet", "keys": ["a", "b"]},
    "flow_version": "5d2c1",
    "work_pool_name": "batch",
    "work_queue_name": "high",
    "job_variables": {"image": "fit:2", "command": "python -m fit --run-id 8812", "env": {"OMP_NUM_THREADS": "4"}},
}
SLURM = {
    "name": "align[7]",
    "account": "bio",
    "user": "ada",
    "partition": "long",
    "submit_line": "sbatch --array=0-9 align.sh /scratch/ada/x19 --threads 8",
    "tres": {"requested": [{"type": "cpu", "name": "", "count": 8}, {"type": "mem", "name": "", "count": 16384}]},
}
NEXTFLOW = {
    "workflow": "rnaseq",
    "process": "NFCORE_RNASEQ:RNASEQ:STAR_ALIGN",
    "tag": "CONTROL_REP1",
    "container": "quay.io/biocontainers/star:2.7",
    "cpus": 12,
    "attempt": 2,
    "rchar": 123456789,
}
GOLDEN = {
    "submitted": (submitted(LOAD, "orders", "shop"), "shop/orders/load/c4c7feb5715a2502"),
    "airflow": (airflow(AIRFLOW), "default/eod/price/98506ae841139dd2"),
    "prefect": (prefect(PREFECT, dag="nightly/eod", task="fit"), "default/nightly%2Feod/fit/1780b41e45f6afdd"),
    "slurm": (slurm(SLURM, dag="ada/align"), "bio/ada%2Falign/align/a9d93fa1f20be4e1"),
    "kubernetes": (kubernetes(POD), "risk/eod/resample/48be53840a455b9c"),
    "nextflow": (
        nextflow(NEXTFLOW, inputs=(InputTraits("reads", "fastq.gz", 3e9, 2),)),
        "default/rnaseq/NFCORE_RNASEQ:RNASEQ:STAR_ALIGN/bb06d13cb561612d",
    ),
}


@pytest.mark.parametrize("source", GOLDEN)
def test_golden(source: str) -> None:
    """A digest that changes ends all histories: raise `signature.VERSION` if that is meant."""
    traits, path = GOLDEN[source]
    assert Signature.of(traits).path == path


def test_another_process_comes_to_the_same() -> None:
    code = (
        "from preprov.model.signature import Signature, TaskTraits\n"
        "print(Signature.of(TaskTraits('t', 'd', 'k', env={'B': '1', 'A': '2'}, extra={'x': 'y'})).digest)"
    )
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        here = Signature.of(TaskTraits("t", "d", "k", env={"A": "2", "B": "1"}, extra={"x": "y"})).digest
        assert told.stdout.strip() == here
        assert len(here) == 64


def test_another_night_another_machine_another_try_is_the_same_task() -> None:
    tomorrow = replace(
        LOAD,
        command=("python", "load.py", "--date", "2025-10-31", "--rows", "100000"),
        datasets=(DatasetRef("s3://lake/2025/10/31/orders.parquet", version="8", size_gib=3.4),),
        env={"MODE": "full", "HOSTNAME": "n18", "DB_PASSWORD": "other"},
    )
    assert task_signature(tomorrow, "orders", "shop") == task_signature(LOAD, "orders", "shop")
    again = {**AIRFLOW, "try_number": 1}
    again["rendered_fields"] = {**AIRFLOW["rendered_fields"], "arguments": ["--as-of", "2025-11-02T02:10:00+01:00"]}
    assert airflow(again) == replace(airflow(AIRFLOW), command=airflow(again).command)
    assert Signature.of(airflow(again)) == Signature.of(airflow(AIRFLOW))
    meta = {**POD["metadata"], "name": "resample-28999172-bbbbb"}
    meta["labels"] = {**meta["labels"], "job-name": "resample-28999172"}
    assert Signature.of(kubernetes({**POD, "metadata": meta})) == Signature.of(kubernetes(POD))
    assert Signature.of(slurm({**SLURM, "name": "align[8]"}, dag="ada/align")) == Signature.of(
        slurm(SLURM, dag="ada/align")
    )
    other = {"day": "2025-10-31", "rows": 120_000, "into": "s3://lake/out.parquet", "keys": ["c", "d"]}
    other_run = {**PREFECT, "name": "sly-fox", "run_count": 2, "parameters": other, "tags": ["eod", "gpu"]}
    assert Signature.of(prefect(other_run, dag="nightly/eod", task="fit")) == Signature.of(
        prefect(PREFECT, dag="nightly/eod", task="fit")
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(LOAD, images=(ImageRef("oci/etl", "sha256:" + "ba" * 32),)),
        replace(LOAD, command=(*LOAD.command[:-1], "200000")),
        replace(LOAD, datasets=(DatasetRef("s3://lake/2025/10/30/orders.parquet", size_gib=300.0),)),
        replace(LOAD, env={"MODE": "delta"}),
        replace(LOAD, operator="BashOperator"),
        replace(LOAD, affinity={"cpu": "fast"}),
    ],
)
def test_what_decides_behaviour_changes_the_digest_and_not_the_task(other: TaskSpec) -> None:
    mine, theirs = (task_signature(s, "orders", "shop") for s in (LOAD, other))
    assert mine != theirs
    assert levels(mine)[1:] == levels(theirs)[1:] == ("shop/orders/load", "shop/orders", "shop", "")


def test_what_it_is_asked_for_is_not_what_it_is() -> None:
    more = replace(LOAD, request=Resources(cpu=8, memory=64), retries=3, runtime_hint_s=60.0, priority=9)
    assert task_signature(more, "orders", "shop") == task_signature(LOAD, "orders", "shop")


def test_what_a_nextflow_task_read_itself_is_no_part_of_it() -> None:
    assert nextflow({**NEXTFLOW, "rchar": 9, "peak_rss": 9, "realtime": 9, "tag": "x"}) == nextflow(NEXTFLOW)


def test_slurm_tells_the_same_in_all_its_versions() -> None:
    old = {**SLURM, "tres": None, "tres_req_str": "cpu=8,mem=16384,billing=8"}
    assert slurm(old, dag="ada/align") == slurm(SLURM, dag="ada/align")


def test_fields_that_are_not_there_are_no_error() -> None:
    for traits in (airflow({}), prefect({}, dag=""), slurm({}, dag=""), kubernetes({}), nextflow({})):
        assert len(Signature.of(traits).digest) == 64


def _digest(traits: TaskTraits) -> str:
    return Signature.of(traits).digest


def test_what_a_slurm_job_asks_for_counts_only_where_it_decides_how_it_runs() -> None:
    said = "sbatch -J x --time=10 --mem 4G -d afterok:5 --begin=now+1hour --parsable -c8 align.sh s --time 5"
    same = slurm({**SLURM, "submit_line": said}, dag="ada/align")
    assert same.command == ("align.sh", "s", "--time", "5")
    assert slurm({**SLURM, "submit_line": said.replace(":5", ":6")}, dag="ada/align") == same
    for wrapped in ("sbatch -n1 --wrap='do it'", "sbatch --wrap 'do it' -n1"):
        assert slurm({"submit_line": wrapped}, dag="").command == ("do it",)
    assert slurm({"submit_line": "sbatch -n1 a.sh"}, dag="") == slurm({"submit_line": "sbatch -n 1 : a.sh"}, dag="")
    first, more = ({**SLURM, "tres": None, "tres_req_str": t} for t in ("cpu=8,mem=1G,node=1", "cpu=8,mem=64G,node=1"))
    wider = {**first, "tres_req_str": "cpu=64,mem=1G,node=1"}
    assert slurm(first, dag="d") == slurm(more, dag="d")
    assert _digest(slurm(first, dag="d")) != _digest(slurm(wider, dag="d"))


@pytest.mark.parametrize(
    ("config", "code", "machine"),
    [
        ("{'KubernetesExecutor': {'image': 'etl:3', 'request_cpu': '2'}}", ("etl:3",), "q"),
        ("{'pod_override': {'containers': [{'image': 'etl:3',\n 'image_pull_policy': 'Always'}]}}", ("etl:3",), "q"),
        ("V1Pod(spec={'node_selector': {'gpu': 'a100'}, 'image_pull_secrets': None})", (), "q,{'gpu': 'a100'}"),
        ("{'KubernetesExecutor': {'request_cpu': '4'}}", (), "q"),
    ],
)
def test_of_an_executor_config_the_image_and_the_nodes_count(config: str, code: object, machine: str) -> None:
    traits = airflow({"queue": "q", "executor_config": config})
    assert (traits.code, traits.machine, traits.extra) == (code, machine, {})


def test_arguments_of_a_mapped_instance_are_its_share_of_the_input() -> None:
    one, two = ({**AIRFLOW, "map_index": i, "rendered_fields": {"image": "p", "op_args": [f"f{i}"]}} for i in (0, 1))
    assert airflow(one) == airflow(two)
    assert _digest(airflow({**one, "rendered_fields": {"image": "q"}})) != _digest(airflow(one))


@pytest.mark.parametrize(
    ("text", "stable"),
    [
        ("2025-10-30T02:10:00.123+02:00", "<time>"),
        ("20251030", "<time>"),
        ("s3://b/year=2025/month=03/day=09/part_00017.parquet", "s3://b/<time>/part_<n>.parquet"),
        ("/tmp/airflowtmp8s7d6f/script.sh", "<tmp>"),
        ("/data/work/3f/a7b2c9d0e1f2/reads.bam", "<tmp>/reads.bam"),
        ("scheduled__2025-10-30T00:00:00+00:00", "<run>"),
        ("job_4711", "job_<n>"),
        ("1730257800", "<n>"),
        ("run 550e8400-e29b-41d4-a716-446655440000", "run <uuid>"),
        ("--threads 8 --rows 100000 --rate 0.123456789", "--threads 8 --rows 100000 --rate 0.123456789"),
        (f"git+https://x/y@{COMMIT}", f"git+https://x/y@{COMMIT}"),
        ("app@sha256:" + "0f" * 32, "app@sha256:" + "0f" * 32),
        ("facade.decade.py", "facade.decade.py"),
    ],
)
def test_volatile_parts(text: str, stable: str) -> None:
    assert stable_text(text) == stable


@given(st.text(max_size=80))
def test_what_is_stable_stays_so(text: str) -> None:
    assert stable_text(stable_text(text)) == stable_text(text)


@given(st.datetimes(), st.uuids(), st.integers(10**9, 10**12))
def test_chance_leaves_no_trace(at: object, uuid: UUID, number: int) -> None:
    assert stable_command(["do", "--at", f"{at:%Y-%m-%dT%H:%M:%SZ}", str(uuid), f"x_{number}"])[3:] == (
        "<uuid>",
        "x_<n>",
    )


def test_options_that_say_which_run_it_is() -> None:
    assert stable_command(["x", "--run-id", "a", "--seed=7", "--verbose", "--port", "--depth", "3"]) == (
        "x", "--run-id", "<value>", "--seed=<value>", "--verbose", "--port", "--depth", "3",
    )  # fmt: skip


def test_secrets_and_places_are_not_looked_at() -> None:
    env = {"AWS_SECRET_ACCESS_KEY": "x", "API_TOKEN": "x", "SLURM_JOB_ID": "7", "HOME": "/root", "MODE": "full"}
    assert stable_env(env) == {"MODE": "full"}


def test_buckets_grow_by_four() -> None:
    assert [bucket(x) for x in (None, float("nan"), -1, 0, 1, 4, 4.1, 16, 1e9)] == [None, None, None, 0, 1, 2, 3, 3, 16]


def test_formats() -> None:
    uris = ("s3://a/b.csv.gz", "b.PARQUET", "x/y.2025.json", "plain", "s3://a/dir/", "reads_1.fastq.gz?versionId=3")
    assert [format_of(u) for u in uris] == ["csv.gz", "parquet", "json", "", "", "fastq.gz"]


@given(st.lists(st.text(min_size=1, max_size=12).filter(lambda t: t != "-"), min_size=1, max_size=5))
def test_names_come_back_from_paths(names: list[str]) -> None:
    path = path_of(*names)
    assert names_of(path) == tuple(names)
    assert len(levels(path)) == len(names) + 1
