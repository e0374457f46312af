"""Watches over HTTP: the routes, the events that stores send, the page, the metrics and the checks."""

from __future__ import annotations

import base64
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from ramq.client import Client
from ramq.doctor.services import watches
from storage.objects.source import parse_source
from tests.services.sqs import event
from tests.services.web import assert_problem, services_of, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

TOKENS = ("reader:read:read-secret", "writer:write:write-secret")


@pytest.fixture
def root(tmp_path: Path, archive: Path) -> Path:
    root = tmp_path / "more photos"
    root.mkdir()
    shutil.copy(archive / "chelsea.png", root)
    return root


@pytest.fixture(autouse=True)
def _no_store_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket is not asked whether it is there."""
    real = __import__("ramq.services.jobs", fromlist=["JobClient"]).JobClient.place_to_watch

    def place(self: Any, source: str) -> Any:
        return parse_source(source) if source.startswith("s3://") else real(self, source)

    monkeypatch.setattr("ramq.services.jobs.JobClient.place_to_watch", place)


def add(client: TestClient, source: str = "s3://photos/2024", events: str = "webhook", **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/watches", json={"source": source, "events": events, **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/watches/{answer.json()['watch']['id']}"
    added: dict[str, Any] = answer.json()
    return added


def send(client: TestClient, added: dict[str, Any], body: str | bytes, **headers: str) -> Any:
    headers = headers or {"authorization": f"Bearer {added['secret']}"}
    return client.post(f"/v1/watches/{added['watch']['id']}/events", content=body, headers=headers)


def test_a_watch_is_added_listed_steered_and_removed(client: TestClient, root: Path) -> None:
    added = add(client, str(root), "none", every="15m", settle_seconds=5, priority="low", exclude=["*.gif"])
    watch = added["watch"]
    assert added["secret"] is None
    assert (watch["source"], watch["every_seconds"], watch["settle_seconds"]) == (f"file://{root}", 900, 5)
    assert (watch["state"], watch["exclude"], watch["priority"]) == ("active", ["*.gif"], "low")
    path = f"/v1/watches/{watch['id']}"
    (listed,), alone = client.get("/v1/watches").json()["items"], client.get(path).json()
    assert {**listed, "overdue_seconds": 0} == {**alone, "overdue_seconds": 0}
    assert client.post(f"{path}/pause").json()["state"] == "paused"
    assert client.post(f"{path}/resume").json()["state"] == "active"
    assert_problem(client.post(f"{path}/secret"), 409, "conflict")
    assert client.delete(path).json()["id"] == watch["id"]
    assert_problem(client.get(path), 404, "not-found")
    assert_problem(client.delete(path), 404, "not-found")


@pytest.mark.parametrize(
    "body",
    [
        {"source": "relative"}, {"source": "/nowhere/at/all"}, {"source": "/tmp", "every": "1s"},
        {"source": "/tmp", "events": "webhook"}, {"source": "s3://photos", "events": "inotify"},
        {"source": "s3://photos", "events": "sqs:x"}, {"source": "/tmp", "settle_seconds": -1},
        {"source": "/tmp", "model": "none"}, {"source": "/tmp", "sources": 3}, {},
    ],
)  # fmt: skip
def test_what_cannot_be_watched_is_refused_in_words(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post("/v1/watches", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_events_that_a_store_sends_are_taken(client: TestClient) -> None:
    added = add(client)
    assert send(client, added, event("photos", "2024/a+b.jpg", "2023/c.jpg")).json() == {"taken": 1, "ignored": 1}
    basic = base64.b64encode(f"anybody:{added['secret']}".encode()).decode()
    assert send(client, added, event("photos", "2024/d.jpg"), authorization=f"Basic {basic}").json()["taken"] == 1
    watch = client.get("/v1/watches/1").json()
    assert (watch["events_waiting"], watch["events_taken"], watch["events_ignored"]) == (2, 2, 1)
    assert watch["is_told"]


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer wrong", "Basic !", "Basic d3Jvbmc=", "Digest x"])
def test_who_does_not_know_the_secret_is_refused_and_learns_nothing(client: TestClient, authorization: str) -> None:
    added = add(client)
    refused = send(client, added, event("photos", "2024/a.jpg"), authorization=authorization)
    problem = assert_problem(refused, 403, "secret")
    unknown = client.post("/v1/watches/9/events", content="{}", headers={"authorization": authorization})
    assert assert_problem(unknown, 403, "secret")["detail"] == problem["detail"].replace("watch 1", "watch 9")
    assert client.get("/v1/watches/1").json()["events_waiting"] == 0


def test_a_new_secret_replaces_the_old_one(client: TestClient) -> None:
    added = add(client)
    new = client.post("/v1/watches/1/secret").json()
    assert_problem(send(client, added, event("photos", "2024/a.jpg")), 403, "secret")
    assert send(client, new, event("photos", "2024/a.jpg")).json()["taken"] == 1


def test_a_folder_takes_no_events_whatever_is_sent(client: TestClient, root: Path) -> None:
    added = add(client, str(root), "none")
    assert_problem(send(client, added, event("photos", "a.jpg"), authorization="Bearer "), 403, "secret")


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b"{}", b"\xff", b'{"Records": [1]}'])
def test_what_is_no_event_is_refused(client: TestClient, body: bytes) -> None:
    problem = assert_problem(send(client, add(client), body), 422, "event")
    assert "message" in problem["detail"] or "event" in problem["detail"]


def test_bodies_are_limited(client: TestClient) -> None:
    assert_problem(send(client, add(client), b" " * 300_000), 413, "too-large")


def test_the_secret_opens_nothing_else_and_tokens_do_not_replace_it(make_client: Callable[..., TestClient]) -> None:
    client = make_client(api_tokens=TOKENS)
    client.headers["authorization"] = "Bearer write-secret"
    added = add(client)
    assert_problem(client.post("/v1/watches/1/events", content=event("photos", "2024/a.jpg")), 403, "secret")
    client.headers["authorization"] = f"Bearer {added['secret']}"
    assert client.post("/v1/watches/1/events", content=event("photos", "2024/a.jpg")).json()["taken"] == 1
    for method, path in (("GET", "/v1/watches"), ("DELETE", "/v1/watches/1"), ("POST", "/v1/watches/1/pause")):
        assert_problem(client.request(method, path), 401, "unauthorized")
    client.headers["authorization"] = "Bearer read-secret"
    assert client.get("/v1/watches").status_code == 200
    for method, path in (("DELETE", "/v1/watches/1"), ("POST", "/v1/watches/1/pause"), ("POST", "/v1/watches")):
        assert_problem(client.request(method, path, json={"source": "s3://x/y"}), 403, "forbidden")
    client.headers["authorization"] = "Bearer write-secret"
    assert client.delete("/v1/watches/1").status_code == 200


def test_wrong_secrets_are_limited_and_right_ones_are_not(make_client: Callable[..., TestClient]) -> None:
    client = make_client(api_tokens=TOKENS, rate_limit=20)
    client.headers["authorization"] = "Bearer write-secret"
    added = add(client)
    client.headers.pop("authorization")
    for _ in range(30):
        assert send(client, added, event("photos", "2024/a.jpg")).status_code == 200
    answers = [send(client, added, "{}", authorization="Bearer wrong").status_code for _ in range(60)]
    assert 20 <= answers.count(403) <= 23
    assert 429 in answers


def test_the_client_has_a_method_for_each(client: TestClient, root: Path) -> None:
    with serving(services_of(client)) as url, Client(url) as ramq:
        added = ramq.watch(str(root), every="1d", settle_seconds=0.5, exclude=["*.gif"])
        assert ramq.watch_state(added.watch.id).source == added.watch.source
        assert [each.id for each in ramq.watches()] == [added.watch.id]
        assert ramq.pause_watch(added.watch.id).state == "paused"
        assert ramq.resume_watch(added.watch.id).state == "active"
        assert list(ramq.jobs(watch=added.watch.id)) == []
        assert len(list(ramq.jobs(fold=True))) == 1
        assert ramq.remove_watch(added.watch.id).id == added.watch.id
        bucket = ramq.watch("s3://photos", events="webhook")
        assert ramq.renew_watch_secret(bucket.watch.id).secret != bucket.secret


# The page ----------------------------------------------------------------------------------------------------------


def test_the_page_of_archives_shows_and_steers_watches(client: TestClient, root: Path) -> None:
    assert "Nothing is watched" in client.get("/archives").text
    answer = client.post("/archives/watches", data={"source": str(root), "every": "15m", "events": "none"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/archives#watches-title")
    page = client.get("/archives").text
    assert "more photos" in page
    assert "only the schedule" in page
    assert client.post("/archives/watches/1/pause").status_code == 303
    assert ">paused<" in client.get("/archives").text
    assert client.post("/archives/watches/1/resume").status_code == 303
    assert client.post("/archives/watches/1/remove").status_code == 303
    assert "Nothing is watched" in client.get("/archives").text


def test_the_page_shows_the_secret_once_and_errors_above_the_list(client: TestClient) -> None:
    page = client.post("/archives/watches", data={"source": "s3://photos", "events": "webhook"}).text
    assert "ramqw_" in page
    assert "ramqw_" not in client.get("/archives").text
    wrong = client.post("/archives/watches", data={"source": "nowhere"})
    assert wrong.status_code == 422
    assert "relative path" in wrong.text


def test_the_page_of_jobs_shows_those_of_one_watch(client: TestClient) -> None:
    assert "Jobs of watch 7" in client.get("/jobs?watch=7").text
    assert client.get("/jobs?watch=x").status_code == 422


def test_who_may_only_read_sees_no_buttons(make_client: Callable[..., TestClient], root: Path) -> None:
    client = make_client(api_tokens=TOKENS)
    client.headers["authorization"] = "Bearer write-secret"
    add(client, str(root), "none")
    assert 'action="/archives/watches/1/pause"' in client.get("/archives").text
    client.headers["authorization"] = "Bearer read-secret"
    assert "/archives/watches" not in client.get("/archives").text


# Alarms ------------------------------------------------------------------------------------------------------------


def test_metrics_tell_how_watches_are_doing(client: TestClient, root: Path) -> None:
    add(client, str(root), "none", every="15m")
    bucket = add(client)
    send(client, bucket, event("photos", "2024/a.jpg"))
    text = client.get("/metrics").text
    assert 'ramq_watch_every_seconds{watch_id="1"} 900.0' in text
    assert 'ramq_watch_events_waiting{watch_id="2"} 1.0' in text
    assert 'ramq_watch_is_told{watch_id="2"} 1.0' in text
    client.post("/v1/watches/2/pause")
    assert 'ramq_watch_events_waiting{watch_id="2"}' not in client.get("/metrics").text


def test_the_doctor_names_watches_that_fail_are_late_or_hear_nothing(client: TestClient, root: Path) -> None:
    services = services_of(client)
    assert watches(services.engine) == []
    add(client, str(root), "none")
    assert [finding.state for finding in watches(services.engine)] == ["ok"]
    add(client, "s3://photos", "sqs:https://sqs.eu-west-1.amazonaws.com/1/q")
    with services.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE watch SET next_listing_at = now() - interval '1 hour' WHERE id = 1")
    late, deaf = watches(services.engine)
    assert (late.state, late.detail, late.next) == ("fault", "watch 1 is late", "ramq watch show 1")
    assert deaf.detail == "watch 2 is not told of changes: no worker receives events yet"
    with services.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE watch SET failures = 2, error = 'job 3 failed: gone' WHERE id = 1")
    assert watches(services.engine)[0].detail == "watch 1 failed 2 times: job 3 failed: gone"


def test_a_watch_as_json_is_what_the_documents_say(client: TestClient, root: Path) -> None:
    schema = client.get("/v1/openapi.json").json()["components"]["schemas"]["WatchOut"]
    assert set(add(client, str(root), "none")["watch"]) == set(schema["properties"])
    assert json.dumps(schema)
