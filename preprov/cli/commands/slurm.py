"""slurm config|resume|suspend|resume-fail."""

import os
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from preprov.cli import common
from preprov.cli.common import Output, OutputOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from preprov.pools.slurm.config import Fragment
    from preprov.pools.slurm.power import Done, PowerPrograms

slurm_app = typer.Typer(help="What Slurm calls to have nodes, and its configuration for that.", no_args_is_help=True)
Hosts = Annotated[str, typer.Argument(help="Host list as Slurm gives it, such as cn[1-4,7].")]
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT: Final = ("PREPROV_HOME", "PREPROV_CONFIG", "PREPROV_CLOCK", "PREPROV_LOG_LEVEL", "PYTHONPATH")


def attach(app: typer.Typer) -> None:
    """Hang the commands on the root."""
    app.add_typer(slurm_app, name="slurm")


@slurm_app.command("resume")
def slurm_resume(hosts: Hosts, output: OutputOption = Output.TABLE) -> None:
    """ResumeProgram: a machine behind each of these nodes, which joins once it is ready.

    Exits with 1 if one cannot be had; Slurm has then been told, and its jobs go elsewhere.
    """
    _programs("slurm resume", output, lambda programs: programs.resume(hosts, _waiting()))


@slurm_app.command("suspend")
def slurm_suspend(hosts: Hosts, output: OutputOption = Output.TABLE) -> None:
    """SuspendProgram: the machines behind these nodes are given up. One that runs a job is left alone."""
    _programs("slurm suspend", output, lambda programs: programs.suspend(hosts))


@slurm_app.command("resume-fail")
def slurm_resume_fail(hosts: Hosts, output: OutputOption = Output.TABLE) -> None:
    """ResumeFailProgram: clear up after nodes that did not come, and let Slurm try them again, three times in a row."""
    _programs("slurm resume-fail", output, lambda programs: programs.fail(hosts))


def _programs(command: str, output: Output, act: "Callable[[PowerPrograms], Done]") -> None:
    common.begin(command, output)
    from preprov.logs import configure
    from preprov.providing import slurm_programs

    unblock_signals()
    os.environ.setdefault("PATH", _PATH)
    configure(os.environ.get("PREPROV_LOG_LEVEL") or "info")
    done = act(slurm_programs())
    rows = [(n, "done", what) for n, what in done.done.items()] + [(n, "failed", w) for n, w in done.failed.items()]
    if output is Output.JSON:
        nodes = [{"node": n, "state": s, "what": w} for n, s, w in rows]
        common.print_json(common.envelope(command, None, datetime.now(UTC), {"nodes": nodes}))
    else:
        for node, state, what in rows:
            typer.echo(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {command} {node}: {state}: {what}")
    if done.failed:
        raise typer.Exit(1)


def unblock_signals() -> None:
    """What slurmctld starts inherits blocked signals, and so would everything that a machine runs afterwards."""
    import signal

    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _waiting() -> dict[str, list[int]]:
    """Node -> the jobs that wait for it, from SLURM_RESUME_FILE; none if Slurm does not tell or it cannot be read."""
    import json

    from preprov.slurm.errors import SlurmError
    from preprov.slurm.hostlist import expand

    out: dict[str, list[int]] = {}
    file = os.environ.get("SLURM_RESUME_FILE")
    if not file:
        return out
    try:
        for job in json.loads(Path(file).read_text()).get("jobs", ()):
            for node in expand(str(job.get("nodes_resume", ""))):
                out.setdefault(node, []).append(int(job.get("job_id", 0)))
    except (OSError, ValueError, AttributeError, SlurmError) as e:
        common.say(f"SLURM_RESUME_FILE is not understood: {e}")
    return out


@slurm_app.command("config")
def slurm_config(
    write: Annotated[
        Path | None, typer.Option("--write", help="Write preprov.conf and the three programs into this folder.")
    ] = None,
    suspend_time: Annotated[
        float, typer.Option("--suspend-time", help="Idle seconds until Slurm powers a node down.", min=1)
    ] = 300.0,
    suspend_timeout: Annotated[
        float, typer.Option("--suspend-timeout", help="Seconds that a machine takes to go.", min=1)
    ] = 30.0,
    resume_timeout: Annotated[
        float | None, typer.Option("--resume-timeout", help="Seconds until a node has failed to come.", min=1)
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """The part of slurm.conf that lets preprov power nodes up and down, for the groups of provider slurm."""
    common.begin("slurm config", output)
    from preprov import configfile
    from preprov.pools.slurm.config import fragment
    from preprov.settings import Settings

    settings = Settings.load()
    folder = (write or settings.home / "slurm").absolute()
    made = fragment(
        configfile.load(settings.config_path()).pools().values(),
        folder,
        _command(),
        _environment(settings.home, settings.config_path()),
        suspend_s=suspend_time,
        suspend_timeout_s=suspend_timeout,
        resume_timeout_s=resume_timeout,
    )
    written = _write(made, folder) if write is not None else []
    if output is Output.JSON:
        body = {"fragment": made.text, "written": [str(w) for w in written], "notes": list(made.notes)}
        common.print_json(common.envelope("slurm config", None, datetime.now(UTC), body))
        return
    if not written:
        typer.echo(made.text, nl=False)
    for file in written:
        typer.echo(str(file))
    for note in made.notes:
        common.say(f"see to it: {note}")


def _command() -> list[str]:
    """How this very preprov is called, by absolute paths."""
    beside = Path(sys.executable).with_name("preprov")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "preprov.cli.main"]


def _environment(home: Path, config: Path | None) -> dict[str, str]:
    """What the programs need of ours; no password is among it."""
    env = {k: v for k in _KEPT if (v := os.environ.get(k))}
    env["PREPROV_HOME"] = str(home.absolute())
    if config is not None:
        env["PREPROV_CONFIG"] = str(config.absolute())
    sbatch = shutil.which("scontrol")
    env["PATH"] = os.pathsep.join(dict.fromkeys([*([str(Path(sbatch).parent)] if sbatch else []), *_PATH.split(":")]))
    return env


def _write(made: "Fragment", folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    conf = folder / "preprov.conf"
    conf.write_text(made.text)
    out = [conf]
    for name, text in made.scripts.items():
        file = folder / name
        file.write_text(text)
        file.chmod(0o755)
        out.append(file)
    return out
