"""Which versions are read: too old is bad, not to be told is a warning, by what `examine` of each source says."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from preprov.clocks import WallClock
from preprov.contracts import Finding, LiveSource
from preprov.slurm.commands import SlurmCommands
from preprov.sources.airflow import AirflowSettings, AirflowSource
from preprov.sources.airflow.credentials import basic
from preprov.sources.budget import RequestBudget
from preprov.sources.kubernetes.client import KubernetesClient
from preprov.sources.kubernetes.source import KubernetesSettings, KubernetesSource
from preprov.sources.prefect import PrefectSettings, PrefectSource
from preprov.sources.slurm.reading import SlurmReader
from preprov.sources.slurm.source import SlurmSettings, SlurmSource
from preprov.testing.fake_airflow import FakeAirflow
from preprov.testing.fake_kubernetes import FakeKubernetes
from preprov.testing.fake_prefect import FakePrefect
from preprov.testing.fake_slurm import FakeSlurm

CLOCK = WallClock()


@contextmanager
def airflow(release: str, _: Path) -> Iterator[LiveSource]:
    fake = FakeAirflow(CLOCK, version="v1")
    fake.release = release
    settings = AirflowSettings("af", "http://af", basic("me", lambda: "pw"), requests_per_second=1e6)
    yield AirflowSource(settings, CLOCK, transport=fake.transport())


@contextmanager
def prefect(release: str, _: Path) -> Iterator[LiveSource]:
    fake = FakePrefect(CLOCK)
    fake.release = release
    settings = PrefectSettings("pf", "http://pf/api", requests_per_second=1e6)
    yield PrefectSource(settings, CLOCK, transport=fake.transport())


@contextmanager
def slurm(release: str, folder: Path) -> Iterator[LiveSource]:
    fake = FakeSlurm(["cn1"], folder)
    fake.conf["SLURM_VERSION"] = release
    yield SlurmSource(SlurmSettings("sl"), SlurmReader(SlurmCommands(fake.run), RequestBudget(1e6, CLOCK)), CLOCK)


@contextmanager
def kubernetes(release: str, folder: Path) -> Iterator[LiveSource]:
    with FakeKubernetes(release=release).served(folder) as kubeconfig:
        client = KubernetesClient(RequestBudget(1e6, CLOCK), CLOCK, kubeconfig=kubeconfig, retries=0)
        yield KubernetesSource(KubernetesSettings("k8s"), client)


@pytest.mark.parametrize(
    ("source", "release", "state", "said"),
    [
        (airflow, "2.8.4", "bad", "Airflow 2.9 or newer"),
        (airflow, "2.9.0", "ok", ""),
        (airflow, "2.10.5+composer", "ok", ""),  # ten is more than nine
        (airflow, "3.0.0b1", "ok", ""),
        (airflow, "?", "warn", "Airflow 2.9 and newer"),
        (prefect, "2.20.9", "bad", "Prefect 3.0 or newer"),
        (prefect, "3.0.0rc20", "ok", ""),
        (prefect, "dev", "warn", "Prefect 3.0 and newer"),
        (slurm, "21.08.8-2", "bad", "Slurm 22.05 or newer"),
        (slurm, "22.05.8", "ok", ""),
        (slurm, "", "warn", "Slurm 22.05 and newer"),
        (kubernetes, "v1.20.15", "bad", "Kubernetes 1.21 or newer"),
        (kubernetes, "v1.21.0-gke.100", "ok", ""),
        (kubernetes, "v1." + "9" * 5000, "warn", "Kubernetes 1.21 and newer"),
    ],
)
def test_what_is_too_old_is_said_with_what_is_needed(
    tmp_path: Path,
    source: Callable[[str, Path], AbstractContextManager[LiveSource]],
    release: str,
    state: str,
    said: str,
) -> None:
    with source(release, tmp_path) as made:
        findings = made.examine()
    found = version(findings)
    assert found.state == state
    assert said in found.hint
    assert (found.hint == "") == (state == "ok")
    assert release[:10] in found.found
    assert len(found.found) < 200
    assert len(findings) > 2, "what else can be seen is said all the same"


def version(findings: tuple[Finding, ...]) -> Finding:
    (found,) = (f for f in findings if f.what == "version")
    return found
