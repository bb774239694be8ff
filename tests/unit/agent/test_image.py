"""Images are checked digest by digest and laid out layer by layer, and never reach out of their folder."""

import contextlib
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from preprov.agent.image import ImageError, tree_of, unpack
from preprov.model.work import ImageRef
from tests.localnodes import oci_layout, tar_of


def unpacked(image: ImageRef, digest: str | None = None) -> tuple[Path, str]:
    """Root file system and digest."""
    target = Path(image.uri).parent / "root"
    found = unpack(Path(image.uri), target, image.digest if digest is None else digest, lambda _: None)
    return target, found


def test_layers_are_laid_over_each_other(tmp_path: Path) -> None:
    layers = [
        tar_of([("etc", None), ("etc/old", b"1"), ("etc/gone", b"1"), ("bin", "->usr/bin"), ("usr/bin", None)]),
        tar_of([("cache", None), ("cache/a", b"1"), ("was-file", b"1"), ("was-folder", None), ("was-folder/a", b"1")]),
        tar_of([("etc/.wh.gone", b""), ("cache/.wh..wh..opq", b""), ("cache/b", b"2"), ("no/.wh.such", b"")]),
        tar_of([("etc/old", b"2"), ("bin/tool", b"t"), ("was-file", None), ("was-folder", b"2")]),
        tar_of(
            [("etc/link", "->/etc/old"), ("etc/hard", "=>/etc/old"), ("up", "->../../../../etc/old"), ("etc", None)]
        ),
    ]
    root, _ = unpacked(oci_layout(tmp_path / "image", layers))
    assert (root / "etc" / "old").read_text() == "2"
    assert not (root / "etc" / "gone").exists()
    assert [p.name for p in (root / "cache").iterdir()] == ["b"]
    assert (root / "usr" / "bin" / "tool").read_text() == "t", "through a link inside the image"
    assert (root / "etc" / "link").read_text() == "2", "absolute links are seen from the image's root"
    assert (root / "etc" / "hard").read_text() == "2"
    assert (root / "up").read_text() == "2"
    assert (root / "was-file").is_dir()
    assert (root / "was-folder").read_text() == "2"


def test_devices_are_left_out_and_modes_kept(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, mode in [("null", tarfile.CHRTYPE, 0o666), ("pipe", tarfile.FIFOTYPE, 0o666)]:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, mode
            tar.addfile(info)
        info = tarfile.TarInfo("tool")
        info.mode = 0o4755
        tar.addfile(info)
    root, _ = unpacked(oci_layout(tmp_path / "image", [out.getvalue()]))
    assert [p.name for p in root.iterdir()] == ["tool"]
    assert (root / "tool").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("wrapped", [True, False])
def test_tarballs_of_a_layout_or_of_a_root(tmp_path: Path, wrapped: bool) -> None:
    layout = oci_layout(tmp_path / "image", [tar_of([("hello", b"hi")])])
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as tar:
        tar.add(tmp_path / "image", arcname=".")
    blob = content.getvalue() if wrapped else tar_of([("./hello", b"hi")])
    path = tmp_path / "image.tar.xz"
    path.write_bytes(blob)
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    for i, wanted in enumerate([digest, "", *([layout.digest] if wrapped else [])]):
        target = tmp_path / f"root{i}"
        assert unpack(path, target, wanted, lambda _: None) == (wanted or digest)
        assert (target / "hello").read_text() == "hi"
    with pytest.raises(ImageError):
        unpack(path, tmp_path / "no", "sha256:" + "0" * 64, lambda _: None)


def test_several_images_in_one_layout(tmp_path: Path) -> None:
    """The one for this machine is taken, or the one named; two that fit must be told apart by digest."""
    folder = tmp_path / "image"
    mine = oci_layout(folder, [tar_of([("hello", b"mine")])])
    index = json.loads((folder / "index.json").read_text())
    other = {**index["manifests"][0], "platform": {"architecture": "s390x"}, "digest": "sha256:" + "1" * 64}
    (folder / "index.json").write_text(json.dumps({"manifests": [other, *index["manifests"]]}))
    assert unpacked(mine, "")[1] == mine.digest
    twin = {**index["manifests"][0], "digest": "sha256:" + "2" * 64}
    (folder / "index.json").write_text(json.dumps({"manifests": [twin, *index["manifests"]]}))
    with pytest.raises(ImageError, match="by its digest"):
        unpack(folder, tmp_path / "again", "", lambda _: None)


def test_an_index_within_the_index(tmp_path: Path) -> None:
    folder = tmp_path / "image"
    image = oci_layout(folder, [tar_of([("hello", b"hi")])])
    inner = (folder / "index.json").read_bytes()
    digest = hashlib.sha256(inner).hexdigest()
    (folder / "blobs" / "sha256" / digest).write_bytes(inner)
    kind = "application/vnd.oci.image.index.v1+json"
    outer = {"manifests": [{"mediaType": kind, "digest": f"sha256:{digest}", "size": len(inner)}]}
    (folder / "index.json").write_text(json.dumps(outer))
    assert unpacked(image)[1] == image.digest


@pytest.mark.parametrize("what", ["layer", "config", "manifest", "size"])
def test_damage_is_found_wherever_it_is(tmp_path: Path, what: str) -> None:
    image = oci_layout(tmp_path / "image", [tar_of([("hello", b"hi")])])
    blobs = tmp_path / "image" / "blobs" / "sha256"
    top = blobs / image.digest.removeprefix("sha256:")
    manifest = json.loads(top.read_text())
    hit = {"layer": manifest["layers"][0]["digest"], "config": manifest["config"]["digest"]}.get(what, image.digest)
    path = blobs / hit.removeprefix("sha256:")
    if what == "size":
        index = json.loads((tmp_path / "image" / "index.json").read_text())
        index["manifests"][0]["size"] += 1
        (tmp_path / "image" / "index.json").write_text(json.dumps(index))
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ImageError, match="damaged"):
        unpacked(image)


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "sha256:../../etc", "md5:1"])
def test_a_digest_that_is_not_there_is_refused(tmp_path: Path, digest: str) -> None:
    image = oci_layout(tmp_path / "image", [tar_of([("hello", b"hi")])])
    with pytest.raises(ImageError, match=digest.split(":")[1][:10].replace(".", r"\.")):
        unpacked(image, digest)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar").write_text("hello")
    (tmp_path / "cut.tar.gz").write_bytes(tar_of([("hello", b"hi" * 10_000)])[:60])
    (tmp_path / "docker.tar").write_bytes(tar_of([("manifest.json", b"[]")]))
    for name in ("empty", "text.tar", "cut.tar.gz", "docker.tar"):
        with pytest.raises(ImageError):
            unpack(tmp_path / name, tmp_path / "root" / name, "", lambda _: None)


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", b"x")],
        [("/../../evil", b"x")],
        [("a/../../evil", b"x")],
        [("way", "->OUTSIDE"), ("way/evil", b"x")],
        [("way", "->../../../../../../../../../../../..OUTSIDE"), ("way/evil", b"x")],
        [("evil", "->OUTSIDE/evil"), ("evil", b"x")],
        [("hard", "=>../../evil")],
        [("hard", "=>OUTSIDE/kept"), ("hard", b"x")],
        [("way", "->a/b"), ("a/b", "->../.."), ("way/evil", b"x")],
        [("a", "->b"), ("b", "->a"), ("a/evil", b"x")],
        [(".wh...", b"")],
        [(".wh.", b"")],
        [("way", "->OUTSIDE"), ("way/.wh.kept", b"")],
        [("way", "->OUTSIDE"), ("way/.wh..wh..opq", b"")],
    ],
)
def test_an_image_cannot_reach_out_of_itself(tmp_path: Path, members: list[tuple[str, bytes | str | None]]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    placed = [(n, c.replace("OUTSIDE", str(outside)) if isinstance(c, str) else c) for n, c in members]
    image = oci_layout(tmp_path / "image", [tar_of([m]) for m in placed])
    with contextlib.suppress(ImageError, OSError):
        unpacked(image)
    assert {p.name: p.read_text() for p in outside.iterdir()} == {"kept": "kept"}
    assert not [p for p in tmp_path.rglob("evil") if not p.is_relative_to(tmp_path / "root")]


def test_the_tree_tells_what_is_missing_or_cut_short(tmp_path: Path) -> None:
    root, _ = unpacked(oci_layout(tmp_path / "image", [tar_of([("a/b", b"12"), ("l", "->a/b")])]))
    whole = tree_of(root)
    (root / "a" / "b").write_bytes(b"1")
    assert tree_of(root) != whole
    (root / "a" / "b").write_bytes(b"12")
    assert tree_of(root) == whole
    (root / "l").unlink()
    assert tree_of(root) != whole
