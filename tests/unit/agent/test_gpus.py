"""GPUs of a node: seen through NVML, given to one task at a time, and absent where nobody can tell."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprov.agent import disk, gpus, nvml
from preprov.model.agent import Gpu, Health, TaskStatus, Usage, decode_health, encode
from preprov.model.errors import ConflictError
from preprov.model.nodes import Node, Phase
from preprov.model.notes import Report, read_report, report_notes
from preprov.model.offerings import Preload
from preprov.model.resources import Resources
from preprov.pools import agents
from preprov.testing import fake_nvml
from preprov.testing.fake_nvml import Device, FakeNvml
from preprov.testing.waiting import wait_until
from tests.localnodes import LocalWorld

GIB = 1024**3
A, B = "GPU-aaaa", "GPU-bbbb"
ONE = Resources(cpu=1, gpu=1)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The file that says what the machine is like: two devices."""
    path = tmp_path / "machine.json"
    fake_nvml.write(path, [Device(A), Device(B)])
    return path


def seen(machine: Path) -> nvml.Nvml:
    known, why_not = nvml.opened(lambda: FakeNvml(machine))
    assert known is not None, why_not
    return known


# ---- what is seen


def test_devices_are_listed_at_the_start(machine: Path) -> None:
    fake_nvml.write(machine, [Device(A, name="Fake A100", total=40 * GIB), Device(B, mig=1)])
    assert seen(machine).devices() == (
        nvml.Device(A, "Fake A100", 40.0),
        nvml.Device(B, "Fake A100", 40.0, nvml.MIG),
    )


@pytest.mark.parametrize("code", [fake_nvml.NVML_ERROR_DRIVER_NOT_LOADED, fake_nvml.NVML_ERROR_LIBRARY_NOT_FOUND])
def test_without_a_driver_nothing_is_known_rather_than_none(machine: Path, tmp_path: Path, code: int) -> None:
    fake_nvml.write(machine, [], init_error=code)
    assert nvml.opened(lambda: FakeNvml(machine)) == (None, f"NVML: NVML error {code}")
    nobody = gpus.Gpus(tmp_path, None)
    assert nobody.listed() is None
    assert nobody.look() == {}
    assert nobody.take(2, tmp_path, "r/t#0") == []
    assert nobody.environment({}, []) == {}


def test_without_the_package_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python3"))
    assert nvml.find() is None
    assert nvml.opened() == (None, "the package nvidia-ml-py is not installed")
    (tmp_path / "pynvml.py").write_text("raise OSError('half an installation')")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.opened() == (None, "NVML: half an installation")


def test_nvidias_own_binding_is_found_by_an_interpreter_without_site_packages() -> None:
    script = "from preprov.agent import nvml; print(bool(nvml.find().nvmlDeviceGetComputeRunningProcesses))"
    command = [sys.executable, "-S", "-P", "-c", script]
    told = subprocess.run(command, env=agents.environment(), capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "True"


def test_the_fake_has_the_names_and_codes_of_nvidias_own_binding() -> None:
    import pynvml

    names = [n for n in dir(FakeNvml) if n.startswith("nvml")]
    assert [n for n in names if not callable(getattr(pynvml, n, None))] == []
    codes = {n: getattr(fake_nvml, n) for n in dir(fake_nvml) if n.startswith("NVML_ERROR")}
    assert {n: getattr(pynvml, n) for n in codes} == codes
    assert pynvml.NVMLError(fake_nvml.NVML_ERROR_GPU_IS_LOST).value == nvml._GPU_IS_LOST


# ---- what a task uses


def used(machine: Path, devices: list[Device], pids: list[int], mine: tuple[str, ...] = ()) -> object:
    fake_nvml.write(machine, devices)
    known = seen(machine)
    return gpus.used({d.uuid: known.read(d.uuid) for d in known.devices()}, mine, pids)


def test_shares_and_memory_are_summed_over_the_devices_of_the_task(machine: Path) -> None:
    devices = [Device(A, used=75, processes=[(7, 2 * GIB), (8, GIB)]), Device(B, used=50, processes=[(7, 3 * GIB)])]
    assert used(machine, devices, [7, 8, 9]) == (1.25, 6.0)
    assert used(machine, devices, [9]) == (None, None), "it is on no device, and has none"
    assert used(machine, [Device(A), Device(B, used=99)], [7], (A,)) == (0.0, 0.0), (
        "it has one and does nothing with it"
    )


def test_of_a_device_on_which_others_compute_too_only_the_memory_is_known(machine: Path) -> None:
    devices = [Device(A, used=90, processes=[(7, 2 * GIB), (4711, 9 * GIB)]), Device(B)]
    assert used(machine, devices, [7]) == (None, 2.0)
    theirs = [Device(A, used=90, processes=[(4711, 9 * GIB)]), Device(B)]
    assert used(machine, theirs, [7], (A,)) == (None, None), "who of these is its own cannot be told"


@pytest.mark.parametrize("code", [fake_nvml.NVML_ERROR_NO_PERMISSION, fake_nvml.NVML_ERROR_NOT_SUPPORTED])
def test_what_may_not_be_seen_is_absent(machine: Path, code: int) -> None:
    closed = Device(A, used=50, errors={"nvmlDeviceGetComputeRunningProcesses": code})
    assert used(machine, [closed, Device(B)], [7], (A,)) == (None, None)
    busy = Device(A, processes=[(7, GIB)], errors={"nvmlDeviceGetUtilizationRates": code})
    assert used(machine, [busy, Device(B)], [7], (A,)) == (None, 1.0)
    assert used(machine, [Device(A, used=50, processes=[(7, None)]), Device(B)], [7]) == (0.5, None)
    assert used(machine, [Device(A, mig=1, processes=[(7, GIB)]), Device(B)], [7], (A,)) == (None, None)


def test_a_device_that_falls_off_the_bus_is_absent_for_good_and_given_to_nobody(machine: Path, tmp_path: Path) -> None:
    fake_nvml.write(machine, [Device(A, used=50, processes=[(7, GIB)]), Device(B, used=25, processes=[(7, GIB)])])
    known = seen(machine)
    devices = gpus.Gpus(tmp_path / "locks", known)
    assert gpus.used(devices.look(), (A, B), [7]) == (0.75, 2.0)

    fake_nvml.write(machine, [Device(A, errors={"": fake_nvml.NVML_ERROR_GPU_IS_LOST}), Device(B, used=25)])
    assert gpus.used(devices.look(), (A, B), [7]) == (None, None)
    assert gpus.used(devices.look(), (B,), [7]) == (0.25, 0.0), "the other goes on"
    fake_nvml.write(machine, [Device(A), Device(B)])
    assert [d.state for d in known.devices()] == [nvml.LOST, nvml.OK]
    with pytest.raises(gpus.NoneFreeError, match="2 GPUs are asked for, 1 of this machine's 2 are free"):
        devices.take(2, tmp_path, "r/t#0")
    assert [h.uuid for h in devices.take(1, tmp_path, "r/t#0")] == [B]


@given(
    st.dictionaries(
        st.sampled_from([A, B, "GPU-cccc"]),
        st.builds(
            nvml.Reading,
            st.none() | st.floats(0, 1),
            st.none() | st.dictionaries(st.integers(1, 6), st.none() | st.integers(0, 80 * GIB)),
        ),
    ),
    st.sets(st.sampled_from([A, B])),
    st.sets(st.integers(1, 6)),
)
def test_a_task_never_uses_more_than_there_is(
    readings: dict[str, nvml.Reading], mine: set[str], pids: set[int]
) -> None:
    share, memory = gpus.used(readings, mine, pids)
    touched = mine | {u for u, r in readings.items() if r.processes and pids & set(r.processes)}
    if not touched:
        assert (share, memory) == (None, None)
    assert share is None or 0 <= share <= len(touched)
    known = sum(b or 0 for r in readings.values() for b in (r.processes or {}).values())
    assert memory is None or 0 <= memory <= known / GIB


# ---- who has which


def test_no_device_is_given_twice_also_not_by_another_node_of_the_machine(machine: Path, tmp_path: Path) -> None:
    first, second = (gpus.Gpus(tmp_path / "locks", seen(machine)) for _ in range(2))
    held = first.take(1, tmp_path / "one", "r/one#0")
    others = second.take(1, tmp_path / "two", "r/two#0")
    assert [h.uuid for h in held + others] == [A, B]
    listed = second.listed()
    assert listed is not None
    assert [(g.uuid, g.claimant) for g in listed] == [(A, "r/one#0"), (B, "r/two#0")]
    with pytest.raises(gpus.NoneFreeError):
        first.take(1, tmp_path / "three", "r/three#0")
    gpus.drop(held)
    with pytest.raises(gpus.NoneFreeError, match="2 GPUs are asked for, 1 of"):
        second.take(2, tmp_path / "three", "r/three#0")
    assert [h.uuid for h in second.take(1, tmp_path / "three", "r/three#0")] == [A], "what was refused held nothing"


def test_a_device_on_which_another_user_computes_is_not_given(machine: Path, tmp_path: Path) -> None:
    fake_nvml.write(machine, [Device(A, processes=[(4711, GIB)]), Device(B)])
    devices = gpus.Gpus(tmp_path / "locks", seen(machine))
    assert [h.uuid for h in devices.take(1, tmp_path, "r/t#0")] == [B]


def test_a_task_that_asks_for_none_sees_none_unless_it_says_so_itself(machine: Path, tmp_path: Path) -> None:
    devices = gpus.Gpus(tmp_path / "locks", seen(machine))
    assert devices.environment({}, []) == {gpus.VISIBLE: ""}
    assert devices.environment({gpus.VISIBLE: "1"}, []) == {}
    assert devices.environment({gpus.VISIBLE: "1"}, devices.take(2, tmp_path, "r/t#0")) == {gpus.VISIBLE: f"{A},{B}"}


def test_a_controller_understands_what_is_said_of_devices() -> None:
    health = Health("n", "ready", 0.0, 1, 0.0, gpus=(Gpu(A, "Fake A100", 40.0, "ok", "r/t#0"),))
    assert decode_health(encode(health)) == health
    assert decode_health(encode(replace(health, gpus=None))).gpus is None


def test_devices_take_no_room_in_the_notes_of_a_node_of_a_cloud() -> None:
    task = TaskStatus("r/t#0", 7, 0.0, gpus=(A,))
    report = Report(Health("n", "ready", 0.0, 1, 0.0, tasks=(task,), gpus=(Gpu(A, "Fake A100"),)))
    told = read_report(report_notes(report))
    assert told is not None
    assert (told.health.gpus, told.health.tasks[0].gpus) == (None, ())


# ---- on a real node


@pytest.fixture
def gpu_world(home: Path, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalWorld]:
    monkeypatch.setenv("PYTHONPATH", str(fake_nvml.installed(tmp_path / "binding", machine)))
    return LocalWorld(home, sample_s=0.1)


def held(world: LocalWorld, node: Node) -> dict[str, str]:
    """Device -> the task that has it."""
    line = agents.ask(world.folder(node), "health")
    assert line is not None
    return {g.uuid: g.claimant for g in decode_health(line).gpus or ()}


def visible(world: LocalWorld, node: Node, claimant: str) -> str:
    task = disk.read_json(world.task_folder(node, claimant) / "task.json")
    assert task is not None
    return str(task["env"][gpus.VISIBLE])


def waiting(world: LocalWorld, node: Node, name: str) -> str:
    """A task with one device that runs until the file of its name is there."""
    loop = f"while [ ! -e {world.home / name} ]; do sleep 0.02; done"
    return world.run(node, ["sh", "-c", loop], run_id=name, request=ONE)


def test_tasks_of_two_nodes_of_one_machine_have_a_device_each_until_they_end(gpu_world: LocalWorld) -> None:
    one, two = gpu_world.ready(2)
    assert one.tags["preprov:gpus"] == "2"
    first, second = waiting(gpu_world, one, "first"), waiting(gpu_world, two, "second")
    assert held(gpu_world, one) == {A: first, B: second}
    assert (visible(gpu_world, one, first), visible(gpu_world, two, second)) == (A, B)
    with pytest.raises(ConflictError, match="1 GPUs are asked for, 0 of this machine's 2 are free"):
        waiting(gpu_world, one, "third")
    (gpu_world.home / "first").touch()
    wait_until(lambda: held(gpu_world, two)[A] == "", what="the device to be free")
    third = waiting(gpu_world, two, "third")
    assert visible(gpu_world, two, third) == A
    for name in ("second", "third"):
        (gpu_world.home / name).touch()
    wait_until(lambda: set(held(gpu_world, two).values()) == {""}, what="all to be free")


def test_a_node_that_declares_more_than_its_machine_has_says_so(gpu_world: LocalWorld, home: Path) -> None:
    (node,) = LocalWorld(home, capacity=Resources(cpu=2, memory=4, gpu=4)).ready()
    assert node.phase is Phase.READY
    assert node.reason == "4 GPUs are declared, 2 of its machine work"


def test_what_runs_keeps_its_device_when_the_agent_starts_again(gpu_world: LocalWorld) -> None:
    (node,) = gpu_world.ready()
    claimant = waiting(gpu_world, node, "go")
    gpu_world.kill_agent(node)
    gpu_world.provider.start(gpu_world.pool, [node.node_id], Preload())
    gpu_world.wait(node.node_id, Phase.READY)
    assert held(gpu_world, node) == {A: claimant, B: ""}
    status = gpu_world.task_folder(node, claimant) / "status.json"
    supervisor = (disk.read_json(status) or {})["supervisor"][0]
    psutil.Process(supervisor).kill()
    assert held(gpu_world, node)[A] == claimant, "its supervisor is gone, but the task is not"
    other = waiting(gpu_world, node, "other")
    assert visible(gpu_world, node, other) == B
    for name in ("go", "other"):
        (gpu_world.home / name).touch()
    wait_until(lambda: set(held(gpu_world, node).values()) == {""}, what="both to be free")


def test_samples_of_a_task_have_its_devices(gpu_world: LocalWorld, machine: Path) -> None:
    (node,) = gpu_world.ready()
    claimant = waiting(gpu_world, node, "go")
    known: list[Usage] = []

    def process() -> int:
        status = disk.read_json(gpu_world.task_folder(node, claimant) / "status.json") or {}
        return int((status.get("process") or [0])[0])

    wait_until(lambda: process() > 0, what="the task to begin")
    fake_nvml.write(machine, [Device(A, used=80, processes=[(process(), 3 * GIB)]), Device(B, used=100)])

    def look() -> bool:
        known.extend(u for r in gpu_world.scheduler.poll([node]) for u in r.usage)
        return any(u.gpu_memory == 3.0 for u in known)

    wait_until(look, what="a sample with its memory on the device")
    assert {u.gpu for u in known if u.gpu_memory == 3.0} == {0.8}
    fake_nvml.write(machine, [Device(A, errors={"": fake_nvml.NVML_ERROR_GPU_IS_LOST}), Device(B)])
    lost_after = max(u.at for u in known)

    def gone() -> bool:
        known.extend(u for r in gpu_world.scheduler.poll([node]) for u in r.usage)
        return any(u.gpu is None and u.cpu is not None and u.at > lost_after for u in known)

    wait_until(gone, what="a sample without it")
    assert gpu_world.node(node.node_id).tags["preprov:gpus"] == "1"
    (gpu_world.home / "go").touch()


def test_a_node_without_a_driver_runs_tasks_that_ask_for_devices(
    gpu_world: LocalWorld, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvml.write(machine, [], init_error=fake_nvml.NVML_ERROR_DRIVER_NOT_LOADED)
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    (node,) = gpu_world.ready()
    assert "preprov:gpus" not in node.tags
    claimant = gpu_world.run(node, ["env"], request=ONE)
    wait_until(lambda: all(r.ended_at for r in gpu_world.scheduler.poll([node])), what="it to end")
    assert not any(line.startswith(gpus.VISIBLE) for line in gpu_world.scheduler.logs(claimant))


def test_the_program_says_what_the_machine_has(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(fake_nvml.installed(tmp_path / "binding", machine))]))
    found, why_not = agents.gpus()
    assert found is not None
    assert [g["uuid"] for g in found] == [A, B]
    assert why_not == ""
