"""Names of container images as people write them."""

import pytest

from preprov.model.images import image_named, is_among, is_unpinned
from preprov.model.work import DatasetRef, ImageRef

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("wanted", "held", "is_there"),
    [
        ("etl:1", "docker://etl:1", True),
        ("etl:1", "docker://docker.io/library/etl:1", True),
        ("etl:1", "docker://etl:2", False),
        ("etl:1", f"docker://etl@{A}", True),
        ("etl", "docker://etl:2", True),
        ("acme/etl:1", "docker://docker.io/acme/etl:1", True),
        ("acme/etl:1", "docker://registry.acme.org/acme/etl:1", False),
        ("localhost:5000/etl:1", "docker://localhost:5000/etl:1", True),
        ("localhost:5000/etl", "docker://localhost:5000/other", False),
        (f"etl:1@{A}", f"docker://etl@{A}", True),
        (f"etl:1@{A}", f"docker://etl:1@{B}", False),
        (f"etl@{A}", "docker://etl:1", True),
    ],
)
def test_an_image_is_held_unless_that_is_certainly_another(wanted: str, held: str, is_there: bool) -> None:
    uri, _, digest = held.partition("@")
    assert is_among(image_named(wanted), [ImageRef("docker://busybox"), ImageRef(uri, digest)]) is is_there


def test_what_has_no_digest_cannot_be_fetched_ahead() -> None:
    assert image_named(f"etl:1@{A}") == ImageRef("docker://etl:1", A)
    assert [is_unpinned(r) for r in (image_named("etl:1"), image_named(f"etl@{A}"), ImageRef("oci/etl"))] == [
        True,
        False,
        False,
    ]
    assert not is_unpinned(DatasetRef("docker://no"))
    assert image_named("oci://r/etl").uri == "oci://r/etl"
