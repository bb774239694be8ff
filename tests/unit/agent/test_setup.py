"""Packages and commands before the check, tools and engines that bring things, disks that an image brought."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from preprov.agent import disk, engine, preload, tools
from preprov.agent.carrier import take_over
from preprov.agent.items import Item, StageError
from preprov.agent.setup import Setup, main
from preprov.model.agent import PreloadStatus

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a program of that name, a shell script, on an otherwise almost empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat", "cp", "mkdir", "grep", "touch", "rm"):
        real = next(p for d in os.environ["PATH"].split(":") if (p := Path(d, name)).exists())
        (folder / name).symlink_to(real)
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, text: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    return add


def told(tmp_path: Path, **spec: list[str]) -> tuple[int, dict[str, str], Setup]:
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    file = tmp_path / "state" / "setup.json"
    code = main([str(tmp_path / "spec.json"), str(file)])
    setup = Setup(str(file))
    assert setup.over()
    return code, {s.key: s.state for s in setup.statuses()}, setup


def test_commands_run_in_order_and_stop_at_the_first_that_fails(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code, states, setup = told(tmp_path, commands=[f"echo 1 >>{log}", f"echo no >>{log}; exit 3", f"echo 2 >>{log}"])
    assert (code, log.read_text()) == (1, "1\nno\n")
    assert list(states.values()) == ["verified", "failed"]
    assert "ended with 3" in setup.failed()


def test_what_went_well_is_not_done_again(tmp_path: Path) -> None:
    log, flag = tmp_path / "log", tmp_path / "flag"
    commands = [f"echo 1 >>{log}", f"test -e {flag}"]
    assert told(tmp_path, commands=commands)[0] == 1
    flag.touch()
    assert told(tmp_path, commands=commands)[0] == 0
    assert log.read_text() == "1\n"


def test_packages_are_the_package_managers(tmp_path: Path, programs: Callable[[str, str], None]) -> None:
    lists = tmp_path / "lists"
    programs(
        "apt-get",
        f'case "$1" in update) touch {lists} ;; install) test -e {lists} && echo "$@" >>{tmp_path}/got ;; esac',
    )
    assert told(tmp_path, packages=["jq"])[:2] == (0, {"jq": "verified"})
    assert (tmp_path / "got").read_text().split()[-1] == "jq"


def test_without_a_package_manager_a_package_fails(tmp_path: Path, programs: Callable[[str, str], None]) -> None:
    code, _, setup = told(tmp_path, packages=["jq"])
    assert code == 1
    assert "no package manager" in setup.failed()


# ---- tools of the clouds


@pytest.mark.parametrize(
    ("uri", "program", "wanted"),
    [
        ("s3://b/a.csv", "aws", "s3 cp --only-show-errors s3://b/a.csv {t}"),
        ("s3://b/folder/", "aws", "s3 cp --only-show-errors --recursive s3://b/folder/ {t}"),
        ("gs://b/a.csv", "gcloud", "storage cp gs://b/a.csv {t}"),
        ("gs://b/folder/", "gsutil", "-q cp -r gs://b/folder/* {t}"),
        ("https://x.blob.core.windows.net/c/a", "azcopy", "copy --recursive --output-level=quiet {u} {t}"),
        ("oci://registry/app", "skopeo", "copy --quiet docker://registry/app oci:{t}"),
    ],
)
def test_the_clouds_own_tools_bring_it(
    tmp_path: Path,
    programs: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
    uri: str,
    program: str,
    wanted: str,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    programs(program, f'echo "$@" >{tmp_path}/asked')
    target = tmp_path / "target"
    assert tools.fetch(uri, target)
    assert (tmp_path / "asked").read_text().strip() == wanted.format(t=target, u=uri)


def test_a_file_of_the_web_is_asked_for_once_unless_fsspec_was_told_how(
    tmp_path: Path, programs: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())  # fsspec and what it needs are all there
    programs("curl", f'echo "$@" >>{tmp_path}/asked')
    target = tmp_path / "target"
    assert tools.fetch("https://host/a.tar", target)
    assert (tmp_path / "asked").read_text() == f"-fsSL --retry 3 -o {target} https://host/a.tar\n"
    assert not tools.fetch("https://host/folder/", target)
    assert not tools.fetch("s3://b/a", target)
    monkeypatch.setenv(tools.FSSPEC_OPTIONS, '{"https": {"headers": {"Authorization": "x"}}}')
    assert not tools.fetch("https://host/a.tar", target)
    assert tools.fetch("http://host/a.tar", target)


def test_a_tool_that_fails_says_why(
    tmp_path: Path, programs: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    programs("aws", "echo 'fatal: 403' >&2; exit 1")
    with pytest.raises(StageError, match="fatal: 403"):
        tools.fetch("s3://b/a", tmp_path / "t")
    assert not tools.fetch("gs://b/a", tmp_path / "t"), "nothing here reads it"


# ---- container engines


def image(uri: str = "docker://registry/app", digest: str = DIGEST) -> Item:
    return Item("image", digest, uri, digest)


def staged(node: disk.NodeDir, item: Item, *, read_back: bool = False) -> PreloadStatus:
    return preload.stage(node, item, lambda _: None, read_back=read_back)


def test_an_engine_has_an_image_when_it_says_so(tmp_path: Path, programs: Callable[[str, str], None]) -> None:
    has = json.dumps([{"RepoDigests": [f"registry/app@{DIGEST}"]}])
    programs(
        "docker", f"case $1 in pull) touch {tmp_path}/pulled ;; image) cat {tmp_path}/pulled && echo '{has}' ;; esac"
    )
    node = disk.NodeDir(tmp_path / "node")
    assert staged(node, image()).state == "verified"
    (tmp_path / "pulled").unlink()
    programs("docker", "exit 1")
    assert staged(node, image()).state == "failed", "it was there once, and is not now"


def test_another_image_is_not_believed(tmp_path: Path, programs: Callable[[str, str], None]) -> None:
    programs("podman", """case $1 in image) echo '[{"RepoDigests": ["registry/app@sha256:0"]}]' ;; esac""")
    status = staged(disk.NodeDir(tmp_path / "node"), image())
    assert (status.state, "after it was pulled" in status.error) == ("failed", True)


@pytest.mark.parametrize(("digest", "why"), [("", "named by its digest"), (DIGEST, "no container engine")])
def test_an_engines_image_needs_a_digest_and_an_engine(
    tmp_path: Path, programs: Callable[[str, str], None], digest: str, why: str
) -> None:
    status = staged(disk.NodeDir(tmp_path / "node"), image(digest=digest))
    assert why in status.error


def test_other_images_are_unpacked() -> None:
    assert engine.of(Item("image", "k", "s3://b/layout/", DIGEST)) == ""
    assert engine.of(Item("dataset", "k", "docker://x", DIGEST)) == ""


# ---- first reads, and disks that an image brought


def dataset(tmp_path: Path, floor: float = 0.0, size: int = 9 << 20) -> Item:
    path = tmp_path / "big"
    path.write_bytes(bytes(size))
    return Item("dataset", "big@1", str(path), hashlib.sha256(bytes(size)).hexdigest(), floor)


def test_the_speed_of_the_first_read_is_told(tmp_path: Path) -> None:
    status = staged(disk.NodeDir(tmp_path / "node"), dataset(tmp_path))
    assert status.read_mb_s is not None
    assert status.read_mb_s > 0
    small = staged(disk.NodeDir(tmp_path / "other"), dataset(tmp_path, size=10))
    assert small.read_mb_s is None


def test_a_disk_that_reads_too_slowly_has_not_got_it_yet(tmp_path: Path) -> None:
    node = disk.NodeDir(tmp_path / "node")
    assert staged(node, dataset(tmp_path)).state == "verified"
    status = staged(node, dataset(tmp_path, floor=1e9), read_back=True)
    assert status.state == "failed"
    assert "MB/s, should be" in status.error


def test_a_new_node_takes_over_what_its_machines_image_brought(tmp_path: Path) -> None:
    old, new = disk.NodeDir(tmp_path / "nodes" / "builder"), disk.NodeDir(tmp_path / "nodes" / "i-2")
    old.path.mkdir(parents=True)
    assert staged(old, dataset(tmp_path)).state == "verified"
    (tmp_path / "big").unlink()
    assert take_over(new)
    assert not old.path.exists()
    item = Item("dataset", "big@1", str(tmp_path / "big"), hashlib.sha256(bytes(9 << 20)).hexdigest())
    assert staged(new, item, read_back=True).state == "verified"
    assert not take_over(new)
    assert not take_over(disk.NodeDir(tmp_path / "elsewhere" / "i-3"))
