"""Warm means verified: what is on the disk is what was asked for, or the node is not ready."""

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from preprov.model.nodes import Node, Phase
from preprov.model.offerings import Preload
from preprov.model.work import DatasetRef, ImageRef
from preprov.testing.waiting import wait_until
from tests.localnodes import LocalWorld, oci_layout, tar_of


def failing(world: LocalWorld, preload: Preload) -> str:
    """Launch with a preload that must fail; the reason given."""
    (node_id,) = world.provider.launch(world.request(preload=preload))
    node = world.wait(node_id, Phase.FAILED)
    assert not node.preloaded
    return node.reason


# ---- datasets


def test_a_dataset_folder_has_the_checksum_that_coreutils_give(world: LocalWorld) -> None:
    folder = world.home / "data"
    for name, text in {
        "b.txt": "b",
        "a b.txt": "spaced",
        "sub/ä.txt": "x" * 3_000_000,
        "B.txt": "",
        "sub/deep/z": "z",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    command = r"find . -type f -printf '%P\n' | LC_ALL=C sort | tr '\n' '\0' | xargs -0 sha256sum | sha256sum"
    wanted = (
        subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, check=True).stdout.split()[0].decode()
    )
    ref = DatasetRef(str(folder), "v1", wanted)
    (node,) = world.ready(preload=Preload(datasets=(ref,)))
    assert node.preloaded == {ref.key}
    assert node.stages["data"] > 0
    (copy,) = world.folder(node).glob("disk/datasets/*/data")
    assert (copy / "sub" / "ä.txt").read_text() == "x" * 3_000_000


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_dataset_without_a_checksum_is_pinned_to_what_was_found(world: LocalWorld, scheme: str) -> None:
    path = world.home / "some data.csv"
    path.write_text("1,2\n")
    uri = f"file://{str(path).replace(' ', '%20')}" if scheme else str(path)
    (node,) = world.ready(preload=Preload(datasets=(DatasetRef(uri),)))
    assert node.preloaded == {uri}


def test_a_remote_dataset_comes_through_fsspec(world: LocalWorld) -> None:
    archive = world.home / "a.zip"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("inner.csv", "1,2\n" * 1000)
    wanted = hashlib.sha256(b"1,2\n" * 1000).hexdigest()
    ref = DatasetRef(f"zip://inner.csv::file://{archive}", "v1", wanted)
    (node,) = world.ready(preload=Preload(datasets=(ref,)))
    assert node.preloaded == {ref.key}


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("/does/not/exist.csv", "does not exist"),
        ("nowhere://bucket/key", "nowhere"),
        ("zip://inner.csv::file:///does/not/exist.zip", "exist.zip"),
    ],
)
def test_a_dataset_that_cannot_be_had_fails_the_node_with_the_reason(world: LocalWorld, uri: str, said: str) -> None:
    assert said in failing(world, Preload(datasets=(DatasetRef(uri),)))


def test_a_wrong_checksum_fails_the_node_with_both(world: LocalWorld) -> None:
    good = world.dataset("d.csv", "1")
    reason = failing(world, Preload(datasets=(replace(good, sha256="0" * 64),)))
    assert good.sha256 in reason
    assert "0" * 64 in reason


def test_a_disk_that_rotted_while_the_node_was_stopped_is_made_good(world: LocalWorld) -> None:
    ref = world.dataset("d.csv", "good")
    (node,) = world.ready(preload=Preload(datasets=(ref,)))
    world.provider.stop(world.pool, [node.node_id])
    assert world.node(node.node_id).preloaded == {ref.key}
    (copy,) = world.folder(node).glob("disk/datasets/*/d.csv")
    copy.write_text("evil")
    world.provider.start(world.pool, [node.node_id], Preload())
    assert world.wait(node.node_id, Phase.READY).preloaded == {ref.key}
    assert copy.read_text() == "good"


def test_more_is_brought_when_a_kept_node_starts(world: LocalWorld) -> None:
    (node,) = world.ready()
    ref = world.dataset("late.csv", "late")
    for put in (world.provider.hibernate, world.provider.stop):
        put(world.pool, [node.node_id])
        world.provider.start(world.pool, [node.node_id], Preload(datasets=(ref,)))
        assert world.wait(node.node_id, Phase.READY).preloaded == {ref.key}


def test_a_task_finds_its_data_or_brings_it(world: LocalWorld) -> None:
    """What was preloaded is used; what was not is brought, and checked, before the task begins."""
    warm, cold = world.dataset("warm.csv", "warm"), world.dataset("cold.csv", "cold")
    image = oci_layout(world.home / "image", [tar_of([("hello", b"hi")])])
    (node,) = world.ready(preload=Preload(datasets=(warm,)))
    script = "import json, os; e = os.environ; d = json.loads(e['PREPROV_DATASETS']);"
    script += "print(*(open(p).read() for p in d.values()), open(e['PREPROV_IMAGE'] + '/hello').read())"
    claimant = world.run(node, ["python3", "-c", script], datasets=(warm, cold), images=(image,))
    wait_until(lambda: all(r.ended_at for r in world.scheduler.poll([node])))
    assert list(world.scheduler.logs(claimant)) == ["warm cold hi"]


def test_a_task_whose_data_is_damaged_does_not_begin(world: LocalWorld, node: Node) -> None:
    (bad,) = world.spoiled().datasets
    claimant = world.run(node, ["echo", "begun"], datasets=(bad,))
    wait_until(lambda: all(r.ended_at for r in world.scheduler.poll([node])))
    (report,) = world.scheduler.poll([node])
    assert report.exit_code == 125
    (said,) = world.scheduler.logs(claimant)
    assert "checksum" in said
    assert world.node(node.node_id).phase is Phase.READY


# ---- images


def test_an_image_is_unpacked_checked_and_named_by_its_digest(world: LocalWorld) -> None:
    image = oci_layout(world.home / "image", [tar_of([("hello", b"hi")])])
    (node,) = world.ready(preload=Preload(images=(ImageRef(image.uri),)))
    assert node.preloaded == {image.digest}
    assert node.stages["image"] > 0
    (hello,) = world.folder(node).glob("disk/images/*/rootfs/hello")
    hello.unlink()  # damage while it is stopped
    world.provider.stop(world.pool, [node.node_id])
    world.provider.start(world.pool, [node.node_id], Preload())
    assert world.wait(node.node_id, Phase.READY).preloaded == {image.digest}
    assert hello.read_text() == "hi"


def test_an_image_that_is_not_what_its_digest_says_fails_the_node(world: LocalWorld) -> None:
    image = oci_layout(world.home / "image", [tar_of([("hello", b"hi")])])
    assert "0" * 64 in failing(world, Preload(images=(ImageRef(image.uri, "sha256:" + "0" * 64),)))


def test_a_disk_with_read_only_folders_can_be_removed(world: LocalWorld, node: Node) -> None:
    world.run(node, ["sh", "-c", "mkdir -p a/b; touch a/b/c; chmod -R a-w a"])
    wait_until(lambda: all(r.ended_at for r in world.scheduler.poll([node])))
    folder = world.folder(node)
    world.provider.terminate(world.pool, [node.node_id])
    assert not folder.exists()
    assert not list(folder.parent.glob(".gone-*"))


def test_progress_is_told_by_the_chunk(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(bytes(10 << 20))
    done = subprocess.run(
        [sys.executable, "-m", "preprov.agent.stage", str(big), str(tmp_path / "copy")],
        capture_output=True,
        text=True,
        check=True,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [t["done"] >> 20 for t in told] == [4, 8, 10]
    assert {t["total"] for t in told} == {10 << 20}
    assert (tmp_path / "copy").read_bytes() == big.read_bytes()


def test_a_node_shows_how_far_its_staging_is(world: LocalWorld) -> None:
    path = world.home / "big"
    path.write_bytes(bytes(48 << 20))
    (node_id,) = world.provider.launch(world.request(preload=Preload(datasets=(DatasetRef(str(path)),))))
    seen: list[float] = []

    def ready() -> bool:
        node = world.node(node_id)
        if node.progress is not None:
            seen.append(node.progress)
        return node.phase is Phase.READY

    wait_until(ready, deadline_s=30)
    assert seen == sorted(seen)  # how many steps are seen depends on the machine; that they rise does not
    assert seen[-1] == 1.0
