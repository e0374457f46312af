"""Data sets over HTTP and from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from ramq.web.app import create_app
from ramq.wiring import Services
from tests.datasets import MadeUp, work
from tests.services.recognised import settings_for

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services

ARCHIVE = "file:///made-up"


@pytest.fixture
def made_up(engine: Engine) -> MadeUp:
    return MadeUp(engine, ["dog", "cat", "lawn"])


@pytest.fixture
def services(made_up: MadeUp, tmp_path: Path) -> Services:
    return Services(settings_for(tmp_path / "data"), made_up.engine, None, is_reachable=False)


@pytest.fixture
def http(services: Services) -> TestClient:
    return TestClient(create_app(services), base_url="http://localhost", raise_server_exceptions=False)


def test_a_data_set_is_built_looked_at_corrected_and_deleted(
    http: TestClient, services: Services, made_up: MadeUp
) -> None:
    first, _ = made_up.add(["a.jpg", "b.jpg"], [[0], [1, 2]], captions=["a cat", None])
    answer = http.post("/v1/datasets", json={"name": "pets", "sources": [ARCHIVE]})
    assert (answer.status_code, answer.json()["phase"]) == (202, "gather")
    work(services, services.datasets.newest("pets"))
    found = http.get("/v1/datasets/pets").json()
    assert found["version"]["state"] == "done"
    assert found["deleted_since"] == 0
    assert {each["name"]: each["kept"] for each in found["tags"]} == {"cat": 2, "dog": 1, "lawn": 1}
    picture = http.get(f"/v1/datasets/pets/images/{first}").json()
    assert picture["captions"] == [{"caption": "a cat", "origin": "generated"}]
    assert [each["origins"] for each in picture["labels"]] == [["given"], ["parsed"]]
    assert http.post("/v1/datasets/pets/correct").status_code == 422
    services.corrections.tag([first], remove=["dog"])
    assert http.post("/v1/datasets/pets/correct").status_code == 202
    assert http.post("/v1/datasets/pets/pause").json()["state"] == "paused"
    assert http.delete("/v1/datasets/pets").status_code == 409
    assert http.post("/v1/datasets/pets/resume").json()["state"] == "running"
    work(services, services.datasets.newest("pets"))
    compared = http.get("/v1/datasets/pets/compare", params={"old": 1, "new": 2}).json()
    assert [(each["name"], each["added"], each["removed"]) for each in compared["tags"]] == [("dog", 0, 1)]
    assert [each["number"] for each in http.get("/v1/datasets/pets/versions").json()["items"]] == [1, 2]
    assert [each["number"] for each in http.get("/v1/datasets").json()["items"]] == [2]
    assert http.delete("/v1/datasets/pets").json() == {"name": "pets", "versions": 2}
    assert http.get("/v1/datasets/pets").status_code == 404


def test_sources_that_cannot_be_read_fail_the_version_and_say_why(http: TestClient, made_up: MadeUp) -> None:
    made_up.add(["a.jpg"], [[0]])
    assert http.post("/v1/datasets", json={"name": "pets", "sources": ["tag:cat"]}).status_code == 202
    version = http.get("/v1/datasets/pets").json()["version"]
    assert version["state"] == "failed"
    assert version["note"].startswith("no recognised image matches 'tag:cat'")
    wrong = http.post("/v1/datasets", json={"name": "No Name", "sources": [ARCHIVE]})
    assert wrong.status_code == 422
    assert "cannot be the name of a data set" in wrong.json()["detail"]
    assert http.post("/v1/datasets", json={"name": "x", "sources": []}).status_code == 422
