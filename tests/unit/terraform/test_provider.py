"""Counts through Terraform: once per token, planned first, nothing but counts, and no node in service ended."""

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from preprov.model.errors import (
    ConfigError,
    ConflictError,
    NodeBusyError,
    NotAuthorisedError,
    NotFoundError,
    PoolError,
    QuotaExceededError,
)
from preprov.model.offerings import Preload, Standby
from tests.unit.terraform.conftest import MODULE, Root


def counts(root: Root) -> dict[str, tuple[int, int]]:
    return {k: (v["running"], v["standby"]) for k, v in root.vendor.counts().items()}


def test_a_launch_raises_the_count(root: Root) -> None:
    assert root.provider.launch(root.request(2)) == ("cheap-r0", "cheap-r1")
    assert counts(root)["cheap"] == (2, 0)
    assert {n.node_id for n in root.provider.observe(root.pool).nodes} == {"cheap-r0", "cheap-r1"}


def test_a_token_raises_it_once(root: Root) -> None:
    root.provider.launch(root.request(2))
    root.provider.launch(root.request(2))
    assert counts(root)["cheap"] == (2, 0)
    root.provider.launch(root.request(1, "t2"))
    assert counts(root)["cheap"] == (3, 0)


def test_the_file_says_who_asked(root: Root) -> None:
    root.provider.launch(root.request(2, "plan-7/3"))
    assert json.loads(root.file.read_text())["//"]["orders"] == {"plan-7/3": "2 more in cheap"}


def test_a_launch_whose_apply_failed_is_finished_by_the_same_token(root: Root) -> None:
    root.faults(apply_fails="InsufficientInstanceCapacity in eu-central-1a")
    with pytest.raises(PoolError, match="InsufficientInstanceCapacity in eu-central-1a"):
        root.provider.launch(root.request(2))
    root.faults()
    root.provider.launch(root.request(2))
    assert counts(root)["cheap"] == (2, 0)


def test_targets_are_standby_counts(root: Root) -> None:
    root.provider.set_targets(root.pool, "cheap", {Standby.STOPPED: 3})
    root.provider.set_targets(root.pool, "cheap", {Standby.STOPPED: 3})
    assert counts(root)["cheap"] == (0, 3)
    assert root.applied == 1, "the same targets again change nothing"
    root.provider.set_targets(root.pool, "cheap", {Standby.STOPPED: 1})
    assert counts(root)["cheap"] == (0, 1)
    with pytest.raises(PoolError, match="keeps no hibernated"):
        root.provider.set_targets(root.pool, "cheap", {Standby.HIBERNATED: 1})


def test_what_is_woken_leaves_standby(root: Root) -> None:
    root.provider.set_targets(root.pool, "cheap", {Standby.STOPPED: 3})
    root.provider.start(root.pool, ["cheap-s0", "cheap-s1"], Preload())
    assert counts(root)["cheap"] == (2, 1)
    root.provider.start(root.pool, ["cheap-r0"], Preload())
    assert counts(root)["cheap"] == (2, 1), "what runs is left alone"


def test_nodes_in_standby_go_by_count(root: Root) -> None:
    root.provider.set_targets(root.pool, "cheap", {Standby.STOPPED: 3})
    root.provider.terminate(root.pool, ["cheap-s2", "gone"])
    assert counts(root)["cheap"] == (0, 2)


def test_a_node_in_service_is_never_ended(root: Root) -> None:
    root.provider.launch(root.request(2))
    with pytest.raises(PoolError, match="cannot name"):
        root.provider.terminate(root.pool, ["cheap-r0"])
    root.vendor.busy.add("cheap-r1")
    for verb in (root.provider.terminate, root.provider.stop, root.provider.hibernate):
        with pytest.raises(NodeBusyError):
            verb(root.pool, ["cheap-r1"])
    assert counts(root)["cheap"] == (2, 0)


def test_draining_is_the_vendors(root: Root) -> None:
    root.provider.launch(root.request(1))
    root.provider.drain(root.pool, ["cheap-r0"])
    assert root.vendor.drained == ["cheap-r0"]
    with pytest.raises(NotFoundError):
        root.provider.drain(root.pool, ["nobody"])


def test_no_more_than_the_group_may_have(root: Root) -> None:
    root.provider.set_targets(root.pool, "cheap", {Standby.STOPPED: 5})
    assert len(root.provider.launch(root.request(4))) == 3
    with pytest.raises(QuotaExceededError):
        root.provider.launch(root.request(1, "t2"))
    assert counts(root)["cheap"] == (3, 5)


def test_a_module_whose_counts_are_preprovs_is_refused(root: Root) -> None:
    root.declare(counts_owner="preprov")
    with pytest.raises(PoolError, match="preprov's, not Terraform's"):
        root.provider.launch(root.request())
    assert not root.file.exists()


def test_a_plan_that_does_more_is_refused_and_nothing_is_left_behind(root: Root) -> None:
    root.faults(also_deletes=["plain"])
    with pytest.raises(
        PoolError, match=r'more than change counts: delete module.p.terraform_data.terraform\["plain"\]'
    ):
        root.provider.launch(root.request())
    assert (root.applied, root.file.exists()) == (0, False)


def test_a_held_lock_is_respected(root: Root) -> None:
    root.faults(locked=True)
    with pytest.raises(ConflictError, match="somebody@elsewhere") as e:
        root.provider.launch(root.request())
    assert e.value.retryable
    assert root.applied == 0


@pytest.mark.parametrize(
    ("said", "kind"),
    [("api error ExpiredToken: the token has expired", NotAuthorisedError), ("Saved plan is stale", ConflictError)],
)
def test_failures_are_told_apart_and_surface_whole(root: Root, said: str, kind: type[PoolError]) -> None:
    root.faults(plan_fails=f"{said}\n  with module.p,\n  on main.tf line 3")
    with pytest.raises(kind, match="line 3") as e:
        root.provider.launch(root.request())
    assert said in e.value.what
    assert not root.file.exists(), "nothing is left for somebody else to apply"


@pytest.mark.slow
def test_one_that_does_not_end_is_told_to_stop(root: Root) -> None:
    root.faults(slow=True)
    with pytest.raises(ConflictError, match="did not end within 10 s"):
        root.provider.launch(root.request(pool=root.with_options(timeout=10.0)))
    assert (root.folder / "interrupted").exists(), "it was given time to unlock its state"


def test_a_folder_without_init_says_so(root: Root) -> None:
    (root.folder / "module.json").unlink()
    with pytest.raises(PoolError, match="not installed") as e:
        root.provider.launch(root.request())
    assert "terraform init" in e.value.hint


def test_there_may_be_no_terraform(root: Root) -> None:
    with pytest.raises(PoolError, match="no program nowhere-to-be-found"):
        root.provider.launch(root.request(pool=root.with_options(program="nowhere-to-be-found")))


def test_a_pull_request_is_a_file_and_nothing_is_applied(root: Root) -> None:
    pool = root.with_options(by="pull-request")
    assert root.provider.launch(root.request(2, pool=pool)) == ()
    root.provider.launch(root.request(2, pool=pool))
    assert root.applied == 0
    assert json.loads(root.file.read_text())["preprov_counts"]["cheap"] == {"running": 2, "standby": 0}


def test_a_broken_file_is_not_overwritten(root: Root) -> None:
    root.file.write_text("{")
    with pytest.raises(PoolError, match="cannot be read"):
        root.provider.launch(root.request())
    assert root.file.read_text() == "{"


def test_many_at_once_lose_no_count(root: Root) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda i: root.provider.launch(root.request(1, f"t{i}")), range(6)))
    assert counts(root)["cheap"] == (6, 0)


def test_what_is_examined(root: Root) -> None:
    root.provider.launch(root.request(1))
    root.faults(drifted=["cheap"])
    found = root.provider.examine(root.pool)
    assert [f.state for f in found] == ["ok", "warn"]
    assert "cheap 1+0" in found[0].found
    assert "tags" in found[1].found
    root.declare(counts_owner="preprov")
    assert [f.state for f in root.provider.examine(root.pool)] == ["bad"]


def test_options_are_checked(root: Root) -> None:
    with pytest.raises(ConfigError, match="vendor"):
        root.provider.launch(root.request(pool=root.with_options(vendor="nobody")))


def test_capabilities_are_declared(root: Root) -> None:
    cheap, plain = (root.provider.capabilities(root.pool, g["name"]) for g in MODULE["groups"])
    assert (cheap.sets_targets, plain.sets_targets) == (True, False)
    assert (cheap.names_kept, cheap.leases, cheap.chooses_offering) == (False, False, False)


_KILLED = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.unit.terraform.conftest import Vendor, make_pool, OFFERING
from preprov.contracts import LaunchRequest
from preprov.model.offerings import Preload
from preprov.pools.terraform import TerraformProvider
folder = Path({folder!r})
vendor = Vendor(folder)
TerraformProvider(lambda _: vendor).launch(LaunchRequest(make_pool(folder), "cheap", OFFERING, 2, "t1", Preload()))
"""


def test_killed_while_terraform_ran_the_token_prevents_a_second_raise(root: Root) -> None:
    from tests.unit.terraform.modules import ROOT

    root.faults(slow=True)
    child = subprocess.Popen([sys.executable, "-c", _KILLED.format(root=str(ROOT), folder=str(root.folder))])
    ready = threading.Event()
    for _ in range(3000):
        if (root.folder / "started").exists() or child.poll() is not None:
            break
        ready.wait(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    os.kill(int((root.folder / "started").read_text()), signal.SIGKILL)
    assert json.loads(root.file.read_text())["preprov_counts"]["cheap"]["running"] == 2
    root.faults()
    root.provider.launch(root.request(2))
    assert counts(root)["cheap"] == (2, 0)
