"""What the doctor says of the GPUs of this machine."""

from pathlib import Path

from preprov.testing import fake_nvml
from preprov.testing.fake_nvml import Device


def test_the_doctor_tells_devices_that_are_not_given_to_tasks(preprov, tmp_path: Path, monkeypatch):
    machine = tmp_path / "machine.json"
    monkeypatch.setenv("PYTHONPATH", str(fake_nvml.installed(tmp_path / "binding", machine)))

    def gpus() -> dict[str, str]:
        return {c["what"]: c for c in preprov("doctor", "-o", "json").json["checks"]}["GPUs"]

    fake_nvml.write(machine, [Device("GPU-aaaa"), Device("GPU-bbbb", mig=1)])
    assert gpus()["state"] == "warn"
    assert gpus()["found"] == "2: Fake A100, Fake A100; GPU-bbbb is mig"
    fake_nvml.write(machine, [], init_error=fake_nvml.NVML_ERROR_DRIVER_NOT_LOADED)
    assert gpus()["state"] == "ok"
    assert gpus()["found"] == "none seen: NVML: NVML error 9"
    assert "preprov[gpu]" in gpus()["hint"]
