"""Schemathesis over the OpenAPI document: whatever is sent, no server error, and answers as the document says."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from preprov.app import open_app
from preprov.control.access import create_node_token, create_token
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


OPERATIONS = [found.ok() for found in DOCUMENT.get_all_operations()]

Tokens = Callable[[schemathesis.Case], str]


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    """Of somebody who may do what is asked, on the API that the document now speaks of.

    What a node says of itself it says with a token of its own, which is good once: each such request has a new one.
    """
    home: Path = tmp_path_factory.mktemp("api")
    (home / "preprov.toml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("PREPROV_HOME", str(home))
        with open_app() as app:
            wire(API, app, Limits(rate=1e9, burst=1e9, stream_s=0))
            person = create_token(app.ctx, "red", [s for s in Scope if s is not Scope.NODE])[1]

            def of(case: schemathesis.Case) -> str:
                if not case.path.endswith("/state"):
                    return person
                node, body = case.path_parameters.get("node_id"), case.body
                pool = body.get("pool") if isinstance(body, dict) else None
                known = node if isinstance(node, str) and node else "i-1", pool if isinstance(pool, str) else "batch"
                return create_node_token(app.ctx, *known, timedelta(minutes=5))[1]

            yield of


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.label.replace(" ", "-"))
def test_no_request_makes_the_server_fail(operation: Any, token: Tokens) -> None:
    """Nor is any endpoint only seen to refuse who asks."""
    answers: set[int] = set()

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
    def ask(case: schemathesis.Case) -> None:
        more = {"params": {"seconds": 0}} if case.path.endswith("/wait") else {}  # so that nobody waits for a node
        answer = case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {token(case)}"}, **more)
        answers.add(answer.status_code)

    ask()
    assert not answers <= {401, 403}


def test_the_document_names_every_endpoint() -> None:
    paths = {operation.path for operation in OPERATIONS}
    assert len(paths) >= 10
    assert "/v1/reservations" in paths
