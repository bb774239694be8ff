"""A real Slurm on one host without systemd, for tests and benchmarks: private folders, ports, keys and database.

    with slurm_host(folder) as host, cluster(host, "one", conf_lines) as slurm:
        slurm.run("sinfo")

munged, mariadbd and slurmdbd are shared by the clusters of a host; each cluster has a slurmctld of its own. Everything
that was started is ended again, by process id.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import psutil

from preprov.testing.waiting import wait_until

PROGRAMS: Final = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db", "sbatch", "sacct")
PACKAGES: Final = "slurm-wlm slurmrestd slurmdbd munge mariadb-server slurm-wlm-jwt-plugin"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UP_S: Final = 180.0


def missing() -> str:
    """Why no Slurm can be started here; "" if one can."""
    absent = [p for p in PROGRAMS if shutil.which(p, path=_PATH) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install {PACKAGES})"
    return "" if os.geteuid() == 0 else "slurmd runs jobs as their users: only root can start it"


def free_ports(n: int) -> int:
    """The first of n ports in a row that nobody listens on, and that this process has not given out before."""
    while True:
        base = _next_port[0]
        _next_port[0] += n
        if base + n > 60_000:
            raise RuntimeError("no free ports")
        if all(_is_free(base + i) for i in range(n)):
            return base


_next_port = [20_000 + os.getpid() % 200 * 100]


def _is_free(port: int) -> bool:
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@dataclass
class SlurmHost:
    """What the clusters of this host share.

    Attributes:
        folder: everything lies under it; keep its path short, for sockets do too.
        dbd_port: of slurmdbd.
    """

    folder: Path
    dbd_port: int = 0
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of this machine, as Slurm's daemons see it."""
        return socket.gethostname().split(".")[0]

    @property
    def auth(self) -> str:
        """Munge's socket."""
        return str(self.folder / "munge" / "socket")

    @property
    def database(self) -> str:
        """MariaDB's socket."""
        return str(self.folder / "db.socket")

    def start(self) -> None:
        """Start the three."""
        self._munge()
        self._mariadb()
        self._slurmdbd()

    def _munge(self) -> None:
        home = self.folder / "munge"
        home.mkdir(parents=True, mode=0o700)
        (home / "key").write_bytes(os.urandom(1024))
        (home / "key").chmod(0o600)
        (home / "jwt").write_bytes(os.urandom(32))
        (home / "jwt").chmod(0o600)
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self.daemon(["munged", "--force", "--foreground", *(f"--{k}={home / v}" for k, v in files.items())])
        wait_until(lambda: Path(self.auth).exists(), what="munged", deadline_s=_UP_S)

    @property
    def jwt(self) -> dict[str, str]:
        """Settings by which tokens are taken, where the plugin for them is installed."""
        if not any(Path("/usr/lib").glob("*/slurm-wlm/auth_jwt.so")):
            return {}
        return {"AuthAltTypes": "auth/jwt", "AuthAltParameters": f"jwt_key={self.folder / 'munge' / 'jwt'}"}

    def _mariadb(self) -> None:
        data = self.folder / "db"
        install = ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal"]
        with self.log("mariadb-install") as log:
            argv = [*install, f"--datadir={data}", "--user=root", "--skip-test-db"]
            subprocess.run(argv, check=True, stdout=log, stderr=log, env=self.env())
        small = ("innodb-buffer-pool-size=32M", "innodb-log-file-size=16M", "innodb-flush-log-at-trx-commit=0")
        places = (f"datadir={data}", f"socket={self.database}", f"pid-file={self.folder / 'db.pid'}")
        others = ("skip-networking", "user=root", "innodb-lock-wait-timeout=900", "performance-schema=OFF")
        self.daemon(["mariadbd", "--no-defaults", *(f"--{o}" for o in (*small, *places, *others))])
        ask = ["mariadb", "--no-defaults", f"--socket={self.database}", "-uroot", "-e", "select 1"]
        wait_until(lambda: self._works(ask), what="mariadbd", deadline_s=_UP_S, every_s=0.1)

    def _slurmdbd(self) -> None:
        self.dbd_port = free_ports(1)
        (self.folder / "dbd").mkdir()
        conf = self.folder / "dbd" / "slurmdbd.conf"
        settings = {
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.auth}",
            "DbdHost": self.name,
            "DbdAddr": "127.0.0.1",
            "DbdPort": self.dbd_port,
            "SlurmUser": "root",
            "PidFile": self.folder / "dbd" / "pid",
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "localhost",
            "StorageUser": "root",
            "StorageLoc": "slurm_accounting",
            **self.jwt,
        }
        conf.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        conf.chmod(0o600)
        env = {"SLURM_CONF": str(self.folder / "dbd" / "slurm.conf"), "MYSQL_UNIX_PORT": self.database}
        self.daemon(["slurmdbd", "-D"], env)
        wait_until(lambda: not _is_free(self.dbd_port), what="slurmdbd", deadline_s=_UP_S, every_s=0.05)

    # ---- processes

    def env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """A small environment."""
        return {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **(more or {})}

    def log(self, name: str) -> IO[bytes]:
        """A log file, opened to be added to."""
        folder = self.folder / "log"
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / name).open("ab")

    def daemon(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a program in the foreground of its own session."""
        with self.log(argv[0]) as log:
            started = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env(env),
                cwd=self.folder,
                start_new_session=True,
            )
        self._started.append(started)
        return started

    def _works(self, argv: Sequence[str]) -> bool:
        return subprocess.run(argv, capture_output=True, env=self.env()).returncode == 0

    def stop(self) -> None:
        """End what was started, last first."""
        for process in reversed(self._started):
            end(process)
        self._started.clear()


def end(process: subprocess.Popen[bytes], wait_s: float = 10.0) -> None:
    """Ask a process to end, and make it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class SlurmCluster:
    """One cluster.

    Attributes:
        conf: its slurm.conf.
    """

    host: SlurmHost
    name: str
    folder: Path
    port: int
    daemon: subprocess.Popen[bytes] | None = None

    @property
    def conf(self) -> Path:
        """Its slurm.conf."""
        return self.folder / "slurm.conf"

    def write(self, lines: Sequence[str]) -> None:
        """Write slurm.conf: what a cluster on one host needs, as far as these lines do not say otherwise, then they."""
        (self.folder / "state").mkdir(parents=True, exist_ok=True)
        settings = {
            "ClusterName": self.name,
            "SlurmctldHost": f"{self.host.name}(127.0.0.1)",
            "SlurmctldPort": self.port,
            "SlurmUser": "root",
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.host.auth}",
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool" / "%n",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "spool" / "%n.pid",
            "SlurmctldLogFile": self.folder / "slurmctld.log",
            "SlurmdLogFile": self.folder / "spool" / "%n.log",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "MpiDefault": "none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core_Memory",
            "DefMemPerCPU": 256,
            "ReturnToService": 2,
            "TreeWidth": 65533,
            "JobAcctGatherType": "jobacct_gather/linux",
            "JobAcctGatherFrequency": 1,
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "AccountingStorageHost": "127.0.0.1",
            "AccountingStoragePort": self.host.dbd_port,
            "AccountingStoragePass": self.host.auth,
            "AccountingStoreFlags": "job_comment,job_env,job_extra,job_script",
            "SlurmctldParameters": "cloud_reg_addrs,idle_on_node_suspend,node_reg_mem_percent=1,"
            "power_save_interval=1,power_save_min_interval=0",
            **self.host.jwt,
        }
        (self.folder / "spool").mkdir(parents=True, exist_ok=True)
        said = {line.partition("=")[0] for line in lines}
        ours = [f"{k}={v}" for k, v in settings.items() if k not in said]
        self.conf.write_text("\n".join([*ours, *lines]) + "\n")

    def start(self) -> None:
        """Start slurmctld, and wait until it answers."""
        with self.host.log(f"slurmctld-{self.name}") as log:
            self.daemon = subprocess.Popen(
                ["slurmctld", "-D", "-f", str(self.conf)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.host.env({"SLURM_CONF": str(self.conf)}),
                cwd=self.folder,  # where its core would lie
                start_new_session=True,
            )
        wait_until(self._answers, what=f"slurmctld of {self.name}", deadline_s=_UP_S, every_s=0.1)

    def _answers(self) -> bool:
        if self.daemon is not None and self.daemon.poll() is not None:
            raise AssertionError(f"slurmctld ended: {self._last_words()}")
        return "UP" in self.run("scontrol", "ping", check=False)

    def _last_words(self) -> str:
        file = self.folder / "slurmctld.log"
        return " ".join(file.read_text(errors="replace").splitlines()[-3:]) if file.exists() else "without a log"

    def run(self, *argv: str, check: bool = True, stdin: str = "") -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(
            argv, input=stdin, capture_output=True, text=True, env=self.host.env({"SLURM_CONF": str(self.conf)})
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv[:3])}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def submit(self, *options: str, script: str) -> int:
        """A batch job; returns its number."""
        said = self.run("sbatch", "--parsable", *options, stdin=script)
        return int(said.strip().split(";")[0])

    def state_of(self, node: str) -> str:
        """As `sinfo` writes it, such as `idle~`."""
        return self.run("sinfo", "-h", "-N", "-a", "-n", node, "-o", "%T").split("\n")[0].strip()

    def stop(self) -> None:
        """End slurmctld and whatever slurmd and jobs are left of this cluster."""
        if self.daemon is not None:
            end(self.daemon)
            self.daemon = None
        for process in self._left():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue

    def _left(self) -> list[psutil.Process]:
        """Processes that have this cluster's slurm.conf in their environment."""
        out = []
        for p in psutil.process_iter():
            try:
                if p.pid != os.getpid() and p.environ().get("SLURM_CONF") == str(self.conf):
                    out.append(p)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return out


@contextmanager
def slurm_host(folder: Path) -> Iterator[SlurmHost]:
    """The shared daemons, for the time of the `with`."""
    host = SlurmHost(folder)
    try:
        host.start()
        yield host
    finally:
        host.stop()


@contextmanager
def slurm_cluster(host: SlurmHost, name: str, lines: Sequence[str]) -> Iterator[SlurmCluster]:
    """A cluster of that host with these lines in its slurm.conf, for the time of the `with`."""
    made = SlurmCluster(host, name, host.folder / name, free_ports(1))
    try:
        made.write(lines)
        made.start()
        yield made
    finally:
        made.stop()


@contextmanager
def slurmrestd(cluster: SlurmCluster) -> Iterator[str]:
    """Its REST service, as nobody, for the time of the `with`; gives its address.

    Whoever nobody is has to be able to read slurm.conf: the folders above it are opened for all. Lists of an array's
    elements are told whole.
    """
    for folder in (cluster.folder, *list(cluster.folder.parents)[:2]):
        folder.chmod(0o755)
    port = free_ports(1)
    with cluster.host.log("slurmrestd") as log:
        service = subprocess.Popen(
            ["slurmrestd", "-u", "nobody", "-g", "nogroup", "-a", "rest_auth/jwt", f"127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=cluster.host.env({"SLURM_CONF": str(cluster.conf), "SLURM_JWT": "daemon", "SLURM_BITSTR_LEN": "0"}),
            cwd="/",
            start_new_session=True,
        )
    try:
        wait_until(lambda: not _is_free(port), what="slurmrestd", deadline_s=_UP_S, every_s=0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(service)
