"""What an agent relies on of NVML: of the fake, and of this machine's own where it has a driver and devices."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preprov.agent import gpus, nvml
from preprov.testing import fake_nvml
from preprov.testing.fake_nvml import Device, FakeNvml


@pytest.fixture(params=["fake", "real"])
def known(request: pytest.FixtureRequest, tmp_path: Path) -> nvml.Nvml:
    binding: Callable[[], Any | None] = nvml.find
    if request.param == "fake":
        machine = tmp_path / "machine.json"
        fake_nvml.write(machine, [Device("GPU-aaaa", used=40, processes=[(4711, None)]), Device("GPU-bbbb")])
        binding = lambda: FakeNvml(machine)  # noqa: E731
    devices, why_not = nvml.opened(binding)
    if devices is None or not devices.devices():
        assert request.param == "real"
        pytest.skip(why_not or "this machine has no GPUs")
    return devices


def test_devices_are_told_apart_by_names_that_last(known: nvml.Nvml) -> None:
    devices = known.devices()
    assert len({d.uuid for d in devices}) == len(devices)
    assert all(d.uuid.startswith("GPU-") and "/" not in d.uuid and d.name for d in devices)
    assert {d.state for d in devices} <= {nvml.OK, nvml.LOST, nvml.MIG}
    assert all(d.memory is None or 0 < d.memory < 10_000 for d in devices), "GiB"
    assert devices == known.devices()


def test_what_a_device_does_is_within_bounds_or_absent(known: nvml.Nvml) -> None:
    for device in known.devices():
        reading = known.read(device.uuid)
        assert reading.share is None or 0.0 <= reading.share <= 1.0
        for pid, held in (reading.processes or {}).items():
            assert pid > 0
            assert held is None or held >= 0
    assert known.read("GPU-that-is-not-there") == nvml.Reading()


def test_this_process_computes_on_none_and_nothing_is_said_of_it(known: nvml.Nvml, tmp_path: Path) -> None:
    assert gpus.used(gpus.Gpus(tmp_path, known).look(), (), [os.getpid()]) == (None, None)


def test_what_is_given_is_held_and_then_free_again(known: nvml.Nvml, tmp_path: Path) -> None:
    devices = gpus.Gpus(tmp_path / "locks", known)
    free = [d.uuid for d in known.devices() if d.state == nvml.OK and not known.read(d.uuid).processes]
    if not free:
        pytest.skip("somebody computes on every device of this machine")
    (one,) = devices.take(1, tmp_path / "task", "r/t#0")
    assert one.uuid in free
    assert {g.uuid for g in devices.listed() or () if g.claimant == "r/t#0"} == {one.uuid}
    with pytest.raises(gpus.NoneFreeError):
        devices.take(len(free), tmp_path / "other", "r/u#0")
    gpus.drop([one])
    assert {g.claimant for g in devices.listed() or ()} == {""}
    gpus.drop(devices.take(len(free), tmp_path / "other", "r/u#0"))


def test_more_than_there_are_is_refused(known: nvml.Nvml, tmp_path: Path) -> None:
    with pytest.raises(gpus.NoneFreeError, match="are free"):
        gpus.Gpus(tmp_path, known).take(len(known.devices()) + 1, tmp_path / "task", "r/t#0")
