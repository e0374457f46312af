from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.services.recognised import CAT, PHOTOGRAPHS, make_worker
from tests.services.web import assert_problem, job_of, services_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.testclient import TestClient

pytestmark = pytest.mark.services


# Search ---------------------------------------------------------------------------------------------------------------


def test_a_search_by_tag_finds_the_photographs_that_have_it(client: TestClient) -> None:
    page = client.get("/v1/search", params={"tag": CAT}).json()

    assert page["next_cursor"] is None
    assert {item["key"] for item in page["items"]} == {"chelsea.png"}
    (hit,) = page["items"]
    assert set(hit) >= {"image_id", "key", "archive", "score", "tags", "caption"}
    (tag,) = [tag for tag in hit["tags"] if tag["name"] == CAT]
    assert set(tag) >= {"id", "name", "name_zh", "score"}
    assert 0 < tag["score"] <= 1
    assert hit["score"] == pytest.approx(tag["score"])


def test_a_search_by_text_ranks_what_it_speaks_of_first(client: TestClient) -> None:
    page = client.get("/v1/search", params={"q": "a cup of coffee", "limit": 3}).json()

    assert page["items"][0]["key"] == "coffee.png"
    scores = [item["score"] for item in page["items"]]
    assert scores == sorted(scores, reverse=True)


def test_pages_hold_every_image_exactly_once(client: TestClient) -> None:
    seen: list[int] = []
    cursor = None
    while True:
        page = client.get("/v1/search", params={"limit": 4, **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["image_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        assert page["total"] == PHOTOGRAPHS + 1
        if cursor is None:
            break

    assert len(seen) == len(set(seen)) == PHOTOGRAPHS + 1


def test_empty_fields_of_a_form_do_not_narrow(client: TestClient) -> None:
    blank = dict.fromkeys(("q", "tag", "any", "not", "like", "archive", "job", "prefix", "threshold", "cursor"), "")

    page = client.get("/v1/search", params={**blank, "limit": 500}).json()

    assert len(page["items"]) == PHOTOGRAPHS + 1


def test_an_unknown_tag_is_a_problem_that_suggests_near_names(client: TestClient) -> None:
    problem = assert_problem(client.get("/v1/search", params={"tag": "Egyptian cab"}), 422, "unknown-tag")

    assert CAT in problem["detail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "501"),
        ("limit", "x"),
        ("like", "cat"),
        ("threshold", "1.5"),
        ("job", "9" * 30),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(client: TestClient, name: str, value: str) -> None:
    problem = assert_problem(client.get("/v1/search", params={name: value}), 422, "invalid-request")

    assert [field["field"] for field in problem["errors"]] == [f"query.{name}"]


def test_a_cursor_of_nobody_is_a_problem(client: TestClient) -> None:
    response = client.get("/v1/search", params={"cursor": "nobody-gave-this"})

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_facets_count_what_the_search_finds(client: TestClient) -> None:
    facets = client.get("/v1/tags", params={"limit": 500}).json()["items"]

    for facet in facets[:5]:
        found = client.get("/v1/search", params={"tag": facet["id"], "limit": 500}).json()["items"]
        assert len(found) == facet["count"]
    counts = [facet["count"] for facet in facets]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize("as_form", [True, False])
def test_an_uploaded_picture_finds_itself(client: TestClient, archive: Path, as_form: bool) -> None:
    picture = (archive / "chelsea.png").read_bytes()

    if as_form:
        response = client.post("/v1/search/image?limit=3", files={"image": ("cat.png", picture, "image/png")})
    else:
        response = client.post("/v1/search/image?limit=3", content=picture, headers={"content-type": "image/png"})

    assert response.status_code == 200, response.text
    best = response.json()["items"][0]
    assert best["key"] == "chelsea.png"
    assert best["score"] == pytest.approx(1, abs=0.01)


def test_an_upload_that_is_no_picture_is_a_problem(client: TestClient) -> None:
    assert_problem(client.post("/v1/search/image", files={"image": ("x.jpg", b"no picture")}), 422, "usage")
    assert_problem(client.post("/v1/search/image"), 422, "usage")


# Images ---------------------------------------------------------------------------------------------------------------


def test_an_image_tells_all_that_is_known_about_it(client: TestClient, archive: Path) -> None:
    (hit,) = client.get("/v1/search", params={"tag": CAT}).json()["items"]

    image = client.get(f"/v1/images/{hit['image_id']}").json()

    assert image["key"] == "chelsea.png"
    assert image["size_bytes"] == (archive / "chelsea.png").stat().st_size
    assert (image["width"], image["height"]) == (451, 300)
    assert len(image["tags"]) > len(hit["tags"])
    assert [event["outcome"] for event in image["history"]] == ["recorded"]


def test_a_thumbnail_is_a_small_jpeg_that_is_sent_once(client: TestClient) -> None:
    (hit,) = client.get("/v1/search", params={"tag": CAT}).json()["items"]
    address = f"/v1/images/{hit['image_id']}/thumbnail"

    first = client.get(address, params={"size": 100})
    again = client.get(address, params={"size": 100}, headers={"if-none-match": first.headers["etag"]})
    larger = client.get(address, params={"size": 320})

    assert first.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(first.content)).size == (160, 106)
    assert "private" in first.headers["cache-control"]
    assert (again.status_code, again.content) == (304, b"")
    assert larger.headers["etag"] != first.headers["etag"]


def test_a_deleted_image_is_gone_everywhere(client: TestClient) -> None:
    (hit,) = client.get("/v1/search", params={"tag": CAT}).json()["items"]

    report = client.delete(f"/v1/images/{hit['image_id']}")

    assert report.json()["images"] == 1
    assert report.json()["vectors"] == 1
    assert client.get("/v1/search", params={"tag": CAT}).json()["items"] == []
    assert_problem(client.get(f"/v1/images/{hit['image_id']}"), 404, "not-found")
    assert_problem(client.get(f"/v1/images/{hit['image_id']}/thumbnail"), 404, "not-found")
    assert_problem(client.delete(f"/v1/images/{hit['image_id']}"), 404, "not-found")


# Jobs -----------------------------------------------------------------------------------------------------------------


def test_a_job_is_created_watched_and_finished(client: TestClient, archive: Path) -> None:
    created = client.post("/v1/jobs", json={"source": str(archive), "priority": "high"})

    assert created.status_code == 201
    job = created.json()
    assert created.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["priority"]) == ("running", "high")

    worker = make_worker(services_of(client))
    while not client.get(created.headers["location"]).json()["is_over"]:
        worker.work()
    worker.leave()
    after = client.get(created.headers["location"]).json()
    assert after["state"] == "done"
    assert after["listed"] == after["done"] + after["skipped"] + after["failed"] + after["pending"]
    assert after["done"] == 0
    assert after["skipped"] >= PHOTOGRAPHS + 1


def test_the_failures_of_a_job_have_class_and_reason(client: TestClient) -> None:
    job = job_of(client)

    failures = client.get(f"/v1/jobs/{job['id']}/failures").json()["items"]

    assert {failure["key"] for failure in failures} == {"half.png", "notes.jpg"}
    assert all(failure["detail"] and failure["attempts"] >= 1 for failure in failures)
    assert job["failures_by_class"] == {failure["error_class"]: 1 for failure in failures}
    for cursor in ("x", "9" * 30):
        assert_problem(client.get(f"/v1/jobs/{job['id']}/failures", params={"cursor": cursor}), 422, "usage")
    one = failures[0]
    chosen = client.get(f"/v1/jobs/{job['id']}/failures", params={"class": one["error_class"]}).json()["items"]
    assert [failure["key"] for failure in chosen] == [one["key"]]


def test_failures_come_in_pages(client: TestClient) -> None:
    address = f"/v1/jobs/{job_of(client)['id']}/failures"

    first = client.get(address, params={"limit": 1}).json()
    second = client.get(address, params={"limit": 1, "cursor": first["next_cursor"]}).json()

    assert {item["key"] for item in (*first["items"], *second["items"])} == {"half.png", "notes.jpg"}
    assert second["next_cursor"] is None


def test_jobs_come_in_pages_newest_first(client: TestClient, archive: Path) -> None:
    ids = [client.post("/v1/jobs", json={"source": str(archive)}).json()["id"] for _ in range(3)]

    first = client.get("/v1/jobs", params={"limit": 2}).json()
    second = client.get("/v1/jobs", params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [job["id"] for job in first["items"]] == [ids[2], ids[1]]
    assert next(job["id"] for job in second["items"]) == ids[0]


def test_a_job_can_be_paused_resumed_and_cancelled(client: TestClient, archive: Path) -> None:
    address = client.post("/v1/jobs", json={"source": str(archive)}).headers["location"]

    states = [client.post(f"{address}/{action}").json()["state"] for action in ("pause", "resume", "cancel")]

    assert states == ["paused", "running", "cancelled"]
    assert_problem(client.post(f"{address}/pause"), 409, "conflict")


def test_failures_are_retried_by_class(client: TestClient) -> None:
    job = job_of(client)
    error_class = next(iter(job["failures_by_class"]))

    retried = client.post(f"/v1/jobs/{job['id']}/retry", params={"class": error_class})

    assert retried.status_code == 200
    assert retried.json()["state"] == "running"
    assert retried.json()["pending"] == 1
    assert_problem(client.post(f"/v1/jobs/{job['id']}/retry", params={"class": "nobody"}), 422, "usage")


def test_a_source_that_is_not_there_is_a_problem(client: TestClient) -> None:
    problem = assert_problem(client.post("/v1/jobs", json={"source": "/nowhere/at/all"}), 422, "usage")

    assert "/nowhere/at/all" in problem["detail"]


def test_a_source_outside_the_allow_list_is_forbidden(
    make_client: Callable[..., TestClient], stage: Path, archive: Path
) -> None:
    client = make_client(archive_allow=(str(archive),))

    assert_problem(client.post("/v1/jobs", json={"source": str(stage)}), 403, "forbidden")
    assert client.post("/v1/jobs", json={"source": str(archive)}).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"source": ""},
        {"source": "/x", "priority": "huge"},
        {"source": "/x", "model": "x"},
        {"source": "/x\0"},
        {"sauce": 1},
    ],
)
def test_a_job_that_makes_no_sense_is_a_problem(client: TestClient, body: dict[str, object]) -> None:
    assert_problem(client.post("/v1/jobs", json=body), 422, "invalid-request")


def test_a_job_that_nobody_started_is_not_found(client: TestClient) -> None:
    assert_problem(client.get("/v1/jobs/999999"), 404, "not-found")
    assert_problem(client.get("/v1/jobs/999999/failures"), 404, "not-found")
    assert_problem(client.get("/v1/jobs/999999/events"), 404, "not-found")
    assert_problem(client.post("/v1/jobs/999999/pause"), 404, "not-found")


def test_the_events_of_a_finished_job_are_its_books_and_an_end(client: TestClient) -> None:
    job = job_of(client)

    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as response:
        text = "".join(response.iter_text())

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    (data,) = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert json.loads(data) == job


def test_the_events_of_a_live_job_tell_of_every_change(client: TestClient, archive: Path) -> None:
    job = client.post("/v1/jobs", json={"source": str(archive)}).json()
    states: list[str] = []

    with client.stream("GET", f"/v1/jobs/{job['id']}/events") as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                states.append(json.loads(line.removeprefix("data: "))["state"])
                if states == ["running"]:
                    services_of(client).jobs.cancel(job["id"])

    assert states == ["running", "cancelled"]


# State of the service -------------------------------------------------------------------------------------------------


def test_state_can_be_read_as_data(client: TestClient, archive: Path) -> None:
    (found,) = client.get("/v1/archives").json()["items"]
    (generation,) = client.get("/v1/generations").json()["items"]
    (index,) = client.get("/v1/index").json()["items"]

    assert found["uri"] == f"file://{archive}"
    assert found["recorded"] == PHOTOGRAPHS + 1
    assert (generation["model"], generation["is_default"]) == ("lite", True)
    assert index["vectors_stored"] == PHOTOGRAPHS + 1
    assert client.get("/v1/workers").status_code == 200


def test_health_is_told_and_metrics_agree_with_the_books(client: TestClient) -> None:
    job = job_of(client)
    client.get("/v1/search", params={"tag": CAT})
    client.put(f"/v1/policies/{CAT}", json={"kind": "deny"})

    text = client.get("/metrics").text

    assert client.get("/healthz").text == "ok"
    assert client.get("/readyz").json() == {"database": "ok", "broker": "ok", "index": "ok"}
    assert f'ramq_job_images{{job_id="{job["id"]}",outcome="done"}} {float(job["done"])}' in text
    assert f'ramq_job_images{{job_id="{job["id"]}",outcome="failed"}} {float(job["failed"])}' in text
    assert 'ramq_search_seconds_count{kind="query"} 1.0' in text
    assert 'method="GET",route="/v1/search",status="200"' in text
    assert 'method="PUT",route="/v1/policies/{tag:path}",status="200"' in text
    assert 'ramq_service_up{service="database"} 1.0' in text


def test_roads_to_nowhere_are_problems(client: TestClient) -> None:
    assert_problem(client.get("/v1/nothing"), 404, "not-found")
    refused = client.put("/v1/jobs")
    assert_problem(refused, 405, "method-not-allowed")
    assert refused.headers["allow"]


def test_the_openapi_document_names_every_route_of_the_contract_and_problem_documents(client: TestClient) -> None:
    document = client.get("/v1/openapi.json").json()

    assert set(document["paths"]) >= {
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/events",
        "/v1/jobs/{job_id}/failures",
        "/v1/search",
        "/v1/search/image",
        "/v1/tags",
        "/v1/images/{image_id}",
        "/v1/images/{image_id}/thumbnail",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if path.startswith("/v1") and status >= "400" and status != "416":
                    assert set(answer["content"]) == {"application/problem+json"}
    assert "HTTPValidationError" not in json.dumps(document)
