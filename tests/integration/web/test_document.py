"""Schemathesis over the OpenAPI document: whatever is sent, no server error, and answers as the document says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from preprov.app import open_app
from preprov.control.access import create_token
from preprov.model.access import Scope
from preprov.web.application import Limits, routed, wire

pytestmark = pytest.mark.integration

CONFIG = """
[[pool]]
name = "batch"
mode = "full"
[[pool.group]]
name = "g"
provider = "sim"
max_nodes = 4
offering = [{ type = "m", cpu = 4, memory = 16, usd_per_hour = 0.2 }]

[[tenant]]
name = "red"
priority = 3
"""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


API = routed()
DOCUMENT = schemathesis.openapi.from_asgi("/v1/openapi.json", API)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of somebody who may do everything, on the API that the document now speaks of."""
    home: Path = tmp_path_factory.mktemp("api")
    (home / "preprov.toml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("PREPROV_HOME", str(home))
        with open_app() as app:
            wire(API, app, Limits(rate=1e9, burst=1e9, stream_s=0))
            yield create_token(app.ctx, "red", [s for s in Scope if s is not Scope.NODE])[1]


@DOCUMENT.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_makes_the_server_fail(case: schemathesis.Case, token: str) -> None:
    more = {"params": {"seconds": 0}} if case.path.endswith("/wait") else {}  # so that nobody waits for a node
    case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {token}"}, **more)


def test_the_document_names_every_endpoint() -> None:
    paths = {operation.ok().path for operation in DOCUMENT.get_all_operations()}
    assert len(paths) >= 10
    assert "/v1/reservations" in paths
