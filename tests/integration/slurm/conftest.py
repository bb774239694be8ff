"""One munge, MariaDB and slurmdbd for all tests of a real Slurm; one cluster for those that leave it clean."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from preprov.testing.slurm_cluster import SlurmHost, missing, slurm_host
from tests.slurmworld import SlurmWorld, slurm_world


@contextmanager
def short_folder(prefix: str) -> Iterator[Path]:
    """A folder with a short path, for sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def host() -> Iterator[SlurmHost]:
    """Skipped, and said, where there is no Slurm."""
    why = missing()
    if why:
        pytest.skip(f"no Slurm: {why}")
    with short_folder("psl-") as folder, slurm_host(folder / "h") as host:
        yield host


@pytest.fixture(scope="module")
def shared(host: SlurmHost, request: pytest.FixtureRequest) -> Iterator[SlurmWorld]:
    """A cluster for the tests of a module."""
    name = request.module.__name__.rsplit("_", 1)[-1]
    with short_folder("psw-") as folder, slurm_world(host, folder, name) as world:
        yield world


@pytest.fixture
def world(shared: SlurmWorld) -> Iterator[SlurmWorld]:
    """The same, with nothing launched."""
    try:
        yield shared
    finally:
        shared.clear()
