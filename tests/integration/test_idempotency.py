"""A request for a job that is sent again, after an answer that was lost, starts no second job."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

KEY = {"idempotency-key": "7f1c"}


def count(client: TestClient) -> int:
    return len(client.get("/v1/jobs").json()["items"])


def test_the_same_request_with_the_same_key_is_answered_with_the_same_job(client: TestClient, archive: Path) -> None:
    before = count(client)
    first, again = (client.post("/v1/jobs", json={"source": str(archive)}, headers=KEY) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["location"] == again.headers["location"]
    assert count(client) == before + 1


def test_without_a_key_or_with_another_every_request_starts_a_job(client: TestClient, archive: Path) -> None:
    before = count(client)
    for headers in ({}, {}, KEY, {"idempotency-key": "another"}):
        assert client.post("/v1/jobs", json={"source": str(archive)}, headers=headers).status_code == 201
    assert count(client) == before + 4


def test_a_key_is_not_taken_for_another_request(client: TestClient, archive: Path) -> None:
    client.post("/v1/jobs", json={"source": str(archive)}, headers=KEY)
    refused = client.post("/v1/jobs", json={"source": str(archive), "priority": "high"}, headers=KEY)
    assert_problem(refused, 409, "conflict")


def test_a_key_may_be_used_again_after_a_day(client: TestClient, archive: Path) -> None:
    first = client.post("/v1/jobs", json={"source": str(archive)}, headers=KEY).json()["id"]
    with unit_of_work(services_of(client).engine) as session:
        session.execute(text("UPDATE job_request SET created_at = created_at - interval '25 hours'"))
    asked = client.post("/v1/jobs", json={"source": str(archive), "priority": "low"}, headers=KEY)
    assert asked.json()["id"] != first


def test_a_request_that_failed_may_be_mended_under_the_same_key(client: TestClient, archive: Path) -> None:
    assert_problem(client.post("/v1/jobs", json={"source": "/nowhere"}, headers=KEY), 422, "usage")
    assert client.post("/v1/jobs", json={"source": str(archive)}, headers=KEY).status_code == 201


def test_many_at_once_start_one_job(client: TestClient, archive: Path) -> None:
    with ThreadPoolExecutor(6) as threads:
        answers = list(
            threads.map(lambda _: client.post("/v1/jobs", json={"source": str(archive)}, headers=KEY), range(6))
        )
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_two_tokens_may_choose_the_same_key(make_client: Callable[..., TestClient], archive: Path) -> None:
    client = make_client(api_tokens=("ann:write:first-secret", "bob:write:second-secret"))
    ids = {
        client.post(
            "/v1/jobs", json={"source": str(archive)}, headers={**KEY, "authorization": f"Bearer {secret}"}
        ).json()["id"]
        for secret in ("first-secret", "second-secret")
    }
    assert len(ids) == 2
