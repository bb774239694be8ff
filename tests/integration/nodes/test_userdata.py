"""User data run for real: in a chroot over this machine's own files, with a package from the registry.

The agent that it starts speaks to a metadata service of its cloud, where it is seen to become ready.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from preprov.model.notes import Report, read_report
from preprov.model.offerings import Offering, Preload
from preprov.model.pools import Group, Pool
from preprov.model.resources import Resources
from preprov.model.work import DatasetRef
from preprov.pools.nodes.package import agent_package
from preprov.pools.nodes.userdata import Source, user_data
from preprov.testing.fake_metadata import GcpMetadata, Vm
from preprov.testing.waiting import REAL_S, wait_until

PACKAGE = "hello"
JAIL = """
set -eu
mount -t tmpfs none {room}
mkdir {room}/upper {room}/work {room}/root
mount -t overlay none -o lowerdir=/,upperdir={room}/upper,workdir={room}/work {room}/root
mount -t proc none {room}/root/proc
mount --bind /dev {room}/root/dev
cp {script} {room}/root/user-data
chroot {room}/root sh /user-data >{log} 2>&1 || echo "ended with $?" >>{log}
chroot {room}/root sh /user-data >>{log} 2>&1 || true
while [ ! -e {over} ]; do sleep 0.1; done
"""


@pytest.fixture(autouse=True)
def _jail() -> None:
    if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("apt-get"):
        pytest.skip("only root may mount, and packages are Debian's here")
    if subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False).returncode:
        pytest.skip("the package registry cannot be reached")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """URL of a folder with data.csv in it."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "data.csv").write_text("a\n1\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class Jail:
    """Runs user data of a pool on a machine `node-1`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vm = Vm("node-1", "n2", "zone-1", "127.0.0.1")
        self.metadata = GcpMetadata(lambda _: self.vm)
        self.log = folder / "log"

    def run(self, preload: Preload, look: Callable[[Report], bool]) -> Report:
        group = Group("g", "gcp", (Offering("n2", Resources(cpu=1)),))
        made = user_data(Pool("night", (group,), preload=preload), "gcp", agent_package(), Source(), port=0)
        where = f'"cloud": "gcp", "metadata": "{self.metadata.url("node-1")}", "poll_s": 0.2, "limits": "rlimit",'
        script = made.script.replace('"cloud": "gcp",', where)
        assert script != made.script
        (self.folder / "script").write_text(script)
        (self.folder / "room").mkdir()
        names = {n: self.folder / n for n in ("room", "script", "log", "over")}
        jail = subprocess.Popen(["unshare", "-m", "-p", "-f", "sh", "-c", JAIL.format(**names)])
        seen: list[Report] = []

        def there() -> bool:
            said = read_report(self.vm.posted)
            if said is not None:
                seen.append(said)
            return said is not None and look(said)

        try:
            wait_until(there, what="the node", deadline_s=REAL_S)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.log.read_text()[-3000:]}\n{seen[-1:]}") from e
        finally:
            (self.folder / "over").touch()
            jail.wait(timeout=240)
        return seen[-1]


@pytest.fixture
def jail(tmp_path: Path) -> Iterator[Jail]:
    made = Jail(tmp_path)
    with made.metadata:
        yield made


def test_a_machine_becomes_a_verified_node(jail: Jail, served: str) -> None:
    sha256 = hashlib.sha256(b"a\n1\n").hexdigest()
    preload = Preload(
        datasets=(DatasetRef(f"{served}/data.csv", "v1", sha256),),
        packages=(PACKAGE,),
        commands=("hello -g warm > /var/tmp/said", "grep -q warm /var/tmp/said"),
    )
    report = jail.run(preload, lambda r: r.health.phase == "ready")
    found = {(p.kind, p.key): p.state for p in report.health.preload}
    assert set(found.values()) == {"verified"}
    assert set(found) == {
        ("package", PACKAGE),
        *(("command", c) for c in preload.commands),
        ("dataset", preload.datasets[0].key),
    }


def test_a_command_that_fails_is_told_with_what_it_said(jail: Jail) -> None:
    report = jail.run(
        Preload(commands=("echo all is lost >&2; exit 7", "touch /never")), lambda r: r.health.phase == "failed"
    )
    assert "ended with 7: all is lost" in report.health.reason


def test_an_unknown_package_is_told(jail: Jail) -> None:
    report = jail.run(Preload(packages=("no-such-package-at-all",)), lambda r: r.health.phase == "failed")
    assert "no-such-package-at-all" in report.health.reason
    assert "Unable to locate" in report.health.reason
