"""What is sent to a cluster against the JSON schemas of Kubernetes releases, strictly: what they lack is refused.

They come from PyPI (kubernetes-validate, 110 MB), and are kept for the next time. No registry has the definition of
CapacityBuffers: a variable says where a copy of it lies.
"""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from preprov.clocks import WallClock
from preprov.contracts import LaunchRequest
from preprov.kube.place import place_of
from preprov.launch.kubernetes_job import job_of
from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.pools.kubernetes.manifests import cordoned, namespace, priority_class, unit
from preprov.pools.kubernetes.options import kubernetes_group
from preprov.pools.kubernetes.placeholder import PlaceholderWay
from preprov.pools.kubernetes.provider import opened, way_of
from preprov.pools.kubernetes.rights import ADJUSTS, MOVES, TASKS, account, roles, together
from preprov.pools.kubernetes.ways import Way
from preprov.testing.fake_budgets import service
from tests.kubernetesworld import join_world, kubernetes_pool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).resolve().parents[3]
PACKAGE = "kubernetes-validate==1.37.0"
RELEASES = ("1.29", "1.31", "1.33", "1.35", "1.37")


@pytest.fixture(scope="module")
def schemas() -> Path:
    """The folder that the validator is in."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "preprov-tests" / PACKAGE.replace("==", "-")
    if not (home / "whole").exists():
        command = [str(ROOT / "scripts" / "uv"), "pip", "install", "-q", "--target", str(home), PACKAGE]
        env = {**os.environ, "UV_COMPILE_BYTECODE": "0"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            pytest.skip(f"cannot be fetched: {done.stderr.strip()[-300:]}")
        (home / "whole").touch()
    return home


def patched(folder: Path) -> list[dict[str, Any]]:
    """What is sent as nodes join, are drained of a service and end: patches of nodes as nodes, and evictions."""
    sent = []
    with join_world(folder, moves=True) as world:
        answer = world.fake.answer

        def noted(method: str, path: str, query: Any, body: dict[str, Any]) -> Any:
            if method == "PATCH" and "/nodes/" in path:
                whole = {"apiVersion": "v1", "kind": "Node", **body}
                whole["metadata"] = {"name": path.rsplit("/", 1)[-1], **body["metadata"]}
                whole["spec"] = {k: v for k, v in body.get("spec", {}).items() if v is not None}  # null: take it away
                sent.append(whole)
            if path.endswith("/eviction"):
                sent.append(body)
            return answer(method, path, query, body)

        world.fake.answer = noted  # type: ignore[method-assign]
        asked = LaunchRequest(world.pool, "g", world.pool.groups[0].offerings[0], 1, "t", Preload())
        (name,) = world.provider.launch(asked)

        def phase(of: Phase) -> bool:
            return any(n.phase is of for n in world.provider.observe(world.pool).nodes)

        world.until(lambda: phase(Phase.READY), "its node")
        service(world.fake, "web-0", {"app": "web"})
        world.provider.drain(world.pool, [name])
        world.clock.sleep(60)
        world.provider.tend(world.pool)
        world.provider.terminate(world.pool, [name])
    return sent


def made(folder: Path) -> list[dict[str, Any]]:
    taint = {"key": "batch", "operator": "Exists", "effect": "NoSchedule"}
    pool = kubernetes_pool(Path("x"), tolerations=[taint])
    asked = LaunchRequest(pool, "g", pool.groups[0].offerings[0], 1, "t", Preload())
    group = kubernetes_group(pool, "g")
    rights = [
        account("preprov"),
        *roles(together((*PlaceholderWay.rules, *TASKS, ADJUSTS, MOVES)), "preprov", "preprov"),
    ]
    before = [namespace(group), priority_class(group), *rights]
    now = datetime.now(UTC)
    node = Node("n", "p", "g", asked.offering, Phase.READY, now, now, address="node-1")
    spec = TaskSpec("t", command=("true",), request=Resources(cpu=1.5, memory=2, gpu=1))
    task = TaskRun("run", "t", "p", spec, "s", State.READY)
    job = job_of(task, 0, node, place_of({"task_image": "etl:1", "tolerations": [taint]}, "p/g"), 1.0)
    setup, _ = buffer()
    shape = next(t for t in setup if t["kind"] == "PodTemplate")
    return [unit(group, asked, 0, now), *before, cordoned("node-1"), job, shape, *patched(folder)]


def buffer() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(What has to be there before, what a launch writes) of a group that counts a CapacityBuffer."""
    way, asked = counted("capacity_buffer")
    return way.setup(), way.sent(asked)


def counted(way: str) -> tuple[Way[Any], LaunchRequest]:
    """A group of that way, and a launch of two."""
    pool = kubernetes_pool(Path("x"), way=way, object="batch")
    group = kubernetes_group(pool, "g")
    asked = LaunchRequest(pool, "g", pool.groups[0].offerings[0], 2, "t", Preload())
    return way_of(group, partial(opened, group), WallClock()), asked


def judged(schemas: Path, tmp_path: Path, things: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Exit code of the validator, and what it says."""
    files = []
    for i, thing in enumerate(things):
        files.append(tmp_path / f"{i}.json")
        files[-1].write_text(json.dumps(thing))
    releases = [word for r in RELEASES for word in ("-k", r)]
    done = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", *releases, *map(str, files)],
        env={**os.environ, "PYTHONPATH": str(schemas)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_every_manifest_is_valid_in_every_release(schemas: Path, tmp_path: Path) -> None:
    things = made(tmp_path)
    kinds = [t["kind"] for t in things]
    assert {"Job", "Namespace", "PriorityClass", "ClusterRole", "PodTemplate", "Eviction"} <= set(kinds)
    nodes = [t for t in things if t["kind"] == "Node"]
    assert any("taints" in n["spec"] for n in nodes)
    assert any("labels" in n["metadata"] for n in nodes), "handed over"
    code, said = judged(schemas, tmp_path, things)
    assert [line for line in said if not line.startswith("INFO")] == []
    assert (code, len(said)) == (0, len(things) * len(RELEASES))


def test_what_is_not_in_the_schema_is_found(schemas: Path, tmp_path: Path) -> None:
    job = made(tmp_path)[0]
    job["spec"]["template"]["spec"]["priorityClass"] = "x"
    code, said = judged(schemas, tmp_path, [job])
    assert code != 0
    assert all("priorityClass" in line for line in said)


# ---- a CapacityBuffer, by its definition in kubernetes/autoscaler

DEFINITION = "PREPROV_TEST_CAPACITY_BUFFERS"


@pytest.fixture
def definition() -> dict[str, Any]:
    """The CustomResourceDefinition."""
    where = os.environ.get(DEFINITION)
    if not where:
        file = "cluster-autoscaler/apis/config/crd/autoscaling.x-k8s.io_capacitybuffers.yaml"
        pytest.skip(f"{DEFINITION} does not say where {file} of kubernetes/autoscaler lies")
    return dict(yaml.safe_load(Path(where).read_text()))


def strict(schema: Any) -> Any:
    """Refusing what it does not name: an API server would leave that out without a word."""
    if not isinstance(schema, dict):
        return [strict(s) for s in schema] if isinstance(schema, list) else schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return closed | {k: strict(v) for k, v in schema.items()}


@pytest.mark.parametrize("version", ["v1beta1", "v1alpha1"])
def test_a_capacity_buffer_is_valid_as_it_is_set_up_and_as_it_is_written(
    definition: dict[str, Any], version: str
) -> None:
    (schema,) = (v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == version)
    judge = jsonschema.Draft202012Validator(strict(schema))
    setup, ours = buffer()
    (empty,) = (t for t in setup if t["kind"] == "CapacityBuffer")
    whole = {**empty, "metadata": ours["metadata"], "spec": {**empty["spec"], **ours["spec"]}}
    for thing in (empty, ours, whole):
        assert list(judge.iter_errors(thing)) == []
        assert thing["apiVersion"].split("/")[0] == definition["spec"]["group"]
    assert ("replicas" in whole["spec"], "scalableRef" in whole["spec"]) == (True, False), "its own further rules"
    for wrong in ({"replicas": -1}, {"replica": 1}, {"podTemplateRef": {"name": ""}}):
        assert list(judge.iter_errors({**whole, "spec": {**whole["spec"], **wrong}})), wrong


# ---- Karpenter's NodePool, as npm has it

KARPENTER = "@kubernetes-models/karpenter@2.0.0"
JUDGE = """
import { NodePool } from "@kubernetes-models/karpenter/karpenter.sh/v1/NodePool";
import { readFileSync } from "node:fs";
for (const file of process.argv.slice(2)) {
  try { new NodePool(JSON.parse(readFileSync(file))).validate(); console.log("valid"); }
  catch (e) { console.log(`invalid: ${e.message}`); }
}
"""


@pytest.fixture(scope="module")
def karpenter() -> Path:
    """A folder with the program that judges NodePools."""
    if not shutil.which("npm"):
        pytest.skip("there is no npm here")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "preprov-tests" / "kubernetes-models-karpenter-2.0.0"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "whole").exists():
        command = ["npm", "install", "--no-fund", "--no-audit", "--prefix", str(home), KARPENTER]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            pytest.skip(f"cannot be fetched: {done.stderr.strip()[-300:]}")
        (home / "whole").touch()
    (home / "judge.mjs").write_text(JUDGE)
    return home


def test_a_node_pool_with_our_count_in_it_is_valid(karpenter: Path, tmp_path: Path) -> None:
    way, asked = counted("node_pool")
    ours = way.sent(asked)
    node_class = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "batch"}
    of_type = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["m6i.4xlarge"]}
    theirs = {"template": {"spec": {"nodeClassRef": node_class, "requirements": [of_type]}}}
    whole = {**ours, "spec": {**theirs, **ours["spec"]}}
    wrong = {**whole, "spec": {**whole["spec"], "replicas": -1}}
    files = []
    for i, thing in enumerate((whole, wrong, ours)):
        files.append(tmp_path / f"{i}.json")
        files[-1].write_text(json.dumps(thing))
    command = ["node", str(karpenter / "judge.mjs"), *map(str, files)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
    assert said[0] == "valid"
    assert "replicas" in said[1]
    assert "template" in said[2], "a NodePool is theirs to make: ours is a change of it"
