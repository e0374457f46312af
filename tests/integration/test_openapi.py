"""The API does what its OpenAPI document says, whatever is sent to it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

if TYPE_CHECKING:
    from collections.abc import Callable

    from schemathesis.schemas import APIOperation
    from starlette.testclient import TestClient

pytestmark = [pytest.mark.services, pytest.mark.slow]

EXAMPLES = 10
"""Requests for each operation and way of making them up: as documented, and not."""

PATIENCE_SECONDS = 120
"""The first search by text loads an encoder, which takes its time where other tests want the processor too."""

ENDLESS = "/v1/jobs/{job_id}/events"


def complaints(operation: APIOperation, mode: GenerationMode) -> list[str]:
    """What an operation did that its document does not say."""
    found: dict[str, str] = {}

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case) -> None:
        try:
            # What is written rightly may still make no sense here: such a job or archive need not exist.
            case.call_and_validate(
                base_url="http://localhost", excluded_checks=[positive_data_acceptance], timeout=PATIENCE_SECONDS
            )
        except (FailureGroup, Failure) as error:
            for one in getattr(error, "exceptions", [error]):
                found.setdefault(one.title, f"{operation.label}: {one}\n{case.as_curl_command()}")

    with suppress(Unsatisfiable):  # nothing can be sent wrongly where nothing is sent
        ask()
    return list(found.values())


def test_every_operation_answers_as_documented_whatever_is_sent(make_client: Callable[..., TestClient]) -> None:
    app = make_client().app
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", app, headers={"host": "localhost"})
    found = []
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path != ENDLESS:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                found += complaints(operation, mode)
    assert found == [], "\n\n".join(found)
