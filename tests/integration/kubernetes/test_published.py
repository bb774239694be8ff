"""What is sent to a cluster against the JSON schemas of Kubernetes releases, strictly: what they lack is refused.

They come from PyPI (kubernetes-validate, 110 MB), and are kept for the next time.
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

import pytest

from preprov.clocks import WallClock
from preprov.contracts import LaunchRequest
from preprov.kube.place import place_of
from preprov.launch.kubernetes_job import job_of
from preprov.model.pools import Node, Phase, Preload
from preprov.model.resources import Resources
from preprov.model.work import State, TaskRun, TaskSpec
from preprov.pools.kubernetes.manifests import cordoned, namespace, priority_class, unit
from preprov.pools.kubernetes.options import kubernetes_group
from preprov.pools.kubernetes.placeholder import PlaceholderWay
from preprov.pools.kubernetes.provider import opened, way_of
from preprov.pools.kubernetes.rights import ADJUSTS, MOVES, TASKS, account, roles, together
from tests.kubernetesworld import kubernetes_pool

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


def made() -> list[dict[str, Any]]:
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
    return [unit(group, asked, 0, now), *before, cordoned("node-1"), job]


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
    code, said = judged(schemas, tmp_path, made())
    assert [line for line in said if not line.startswith("INFO")] == []
    assert (code, len(said)) == (0, len(made()) * len(RELEASES))


def test_what_is_not_in_the_schema_is_found(schemas: Path, tmp_path: Path) -> None:
    job = made()[0]
    job["spec"]["template"]["spec"]["priorityClass"] = "x"
    code, said = judged(schemas, tmp_path, [job])
    assert code != 0
    assert all("priorityClass" in line for line in said)


# ---- Karpenter's NodePool, as npm has it; no registry has a schema of a CapacityBuffer

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
    pool = kubernetes_pool(Path("x"), way="node_pool", object="batch")
    asked = LaunchRequest(pool, "g", pool.groups[0].offerings[0], 2, "t", Preload())
    group = kubernetes_group(pool, "g")
    ours = way_of(group, partial(opened, group), WallClock()).sent(asked)
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
