"""Whatever is sent that fits the API's own description, or nearly does: never a 5xx."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from fedmem.serve.app import Desk, make_app
from fedmem.serve.guard import LOOPBACK, Access
from tests.helpers.serving import PORT

pytestmark = pytest.mark.slow
EXAMPLES = 40
"""Of each operation."""


@pytest.fixture
def app(desk: Desk) -> FastAPI:
    return make_app(desk, Access.at(LOOPBACK, PORT, None))


def test_no_request_makes_the_server_fail(app: FastAPI) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    hypothesis = pytest.importorskip("hypothesis")
    home = f"http://127.0.0.1:{PORT}"
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": home[7:]})
    seen: set[int] = set()
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 11
    for operation in operations:
        for mode in schemathesis.GenerationMode:

            @hypothesis.settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                suppress_health_check=list(hypothesis.HealthCheck),
            )
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def ask(case):  # type: ignore[no-untyped-def]
                answer = case.call(base_url=home, headers={"host": home[7:]})
                seen.add(answer.status_code)
                assert answer.status_code < 500, (case.method, case.path, answer.text)

            try:
                ask()
            except hypothesis.errors.Unsatisfiable:
                continue  # there is nothing that does not fit
    assert {200, 404, 422} <= seen
