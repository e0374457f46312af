"""The client library against a real server, and against servers that fail."""

from __future__ import annotations

import csv
import io
import json
import re
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ramq.client import Client, ProblemError, UnreachableError
from ramq.client_jobs import ONCE
from ramq.schemas.jobs import JobOut
from storage.results.reading_views import FoundLine
from storage.results.region_views import FoundRegion
from tests.readings import rectangle
from tests.services.located import write_regions
from tests.services.loopback import answering_with
from tests.services.null_reader import load
from tests.services.read import write_text
from tests.services.recognised import CAT, PHOTOGRAPHS, make_worker
from tests.services.web import services_of, serving
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.stages import STAGES, StageOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.testclient import TestClient

    from ramq.wiring import Services

pytestmark = pytest.mark.services

LEFT_OUT = {
    "the report and its lines: meant for audits, by hand": {
        ("get", "/v1/jobs/{job_id}/report"),
        ("get", "/v1/jobs/{job_id}/report/lines"),
    },
    "pictures: bytes, not answers of the API": {
        ("get", "/v1/images/{image_id}/original"),
        ("get", "/v1/datasets/{name}/review/images/{image_id}/crop/{tag}"),
    },
    "events of stores: they send them": {("post", "/v1/watches/{watch_id}/events")},
    "events: `wait` asks instead": {("get", "/v1/jobs/{job_id}/events")},
    "what tags an archive allows is for whoever runs the server": {
        ("get", "/v1/policies"),
        ("put", "/v1/policies/{tag}"),
        ("delete", "/v1/policies/{tag}"),
    },
    "putting generations to use is for whoever runs the server": {
        ("get", "/v1/generations/compare"),
        ("post", "/v1/generations/rollback"),
        ("post", "/v1/generations/{generation_id}/use"),
        ("delete", "/v1/generations/{generation_id}"),
        ("get", "/v1/stages"),
        ("post", "/v1/stages/generations/{generation_id}/use"),
        ("delete", "/v1/stages/generations/{generation_id}"),
    },
}
"""Operations that the client does not cover, by the reason."""


@pytest.fixture
def services(client: TestClient) -> Services:
    return services_of(client)


@pytest.fixture
def ramq(services: Services) -> Iterator[Client]:
    with serving(services) as url, Client(url) as client:
        yield client


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[str]]]:
    """Give the address of a server with these answers, one after the other, and the requests it had."""
    left = list(answers)
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token, key = self.headers.get("Authorization", ""), self.headers.get("Idempotency-Key")
            seen.append(f"{self.command} {self.path} {token}".strip() + (f" key {key}" if key else ""))
            status, headers, body = left.pop(0)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815  (http.server's names)

    with answering_with(Handler) as url:
        yield url, seen


WORKERS = b'{"items": [], "next_cursor": null}'


def test_a_job_is_started_waited_for_and_searched(ramq: Client, services: Services, archive: Path) -> None:
    job = ramq.enqueue(str(archive), priority="high")
    assert (job.priority, job.is_over) == ("high", False)
    worker = make_worker(services)
    while not services.jobs.get(job.id).is_over:
        worker.work()
    worker.leave()

    over = ramq.wait(job.id, timeout_seconds=30)

    assert over.listed == over.done + over.skipped + over.failed
    assert next(ramq.jobs()).id == job.id
    keys = {hit.key for hit in ramq.search(tags=[CAT])}
    assert keys == {"chelsea.png"}


def test_a_search_goes_on_over_pages_to_the_last_image(ramq: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramq.client.PAGE", 4)
    ids = [hit.image_id for hit in ramq.search()]
    assert len(ids) == len(set(ids)) == PHOTOGRAPHS + 1


def test_tags_come_over_pages_as_many_as_are_wanted(ramq: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    every = ramq.tags(limit=None, threshold=0)
    monkeypatch.setattr("ramq.client.MOST", 40)
    assert ramq.tags(limit=None, threshold=0) == every
    assert [len(ramq.tags(limit=limit, threshold=0)) for limit in (0, 40, 41)] == [0, 40, 41]
    assert ramq.tags(threshold=0) == every[:50] != every


def test_the_text_in_an_image_is_read_and_corrected(ramq: Client, services: Services) -> None:
    (cat,) = ramq.search(tags=[CAT])
    place = rectangle(0.1, 0.1, 0.6, 0.2)
    write_text(services, cat.image_id, [FoundLine("CHELSE", 0.7, place)])
    assert [line.text for line in ramq.text(cat.image_id).lines] == ["CHELSE"]
    (line,) = ramq.correct_text(cat.image_id, place, "CHELSEA").lines
    assert (line.text, line.polygon) == ("CHELSEA", [list(corner) for corner in place])
    assert line.correction_id is not None
    assert ramq.text_file(cat.image_id, "txt") == "CHELSEA\n"
    assert "ocr_line" in ramq.text_file(cat.image_id, "hocr")
    assert [line.text for line in ramq.reset_text(cat.image_id, line.correction_id).lines] == ["CHELSE"]


def test_the_regions_of_an_image_are_read_and_corrected(ramq: Client, services: Services) -> None:
    (cat,) = ramq.search(tags=[CAT])
    write_regions(services, cat.image_id, [FoundRegion("cat", 0.7, (0.1, 0.1, 0.6, 0.9))])
    assert [(region.tag, region.box) for region in ramq.regions(cat.image_id).regions] == [
        ("cat", [0.1, 0.1, 0.6, 0.9])
    ]
    [hit] = ramq.search("count:cat>=1")
    assert [(region.number, region.tag) for region in hit.regions] == [(1, "cat")]
    assert ramq.crop(cat.image_id, hit.regions[0].number, side=128).startswith(b"\xff\xd8")
    rejected = ramq.correct_region(cat.image_id, "cat", (0.1, 0.1, 0.6, 0.9), is_there=False)
    assert rejected.regions == []
    assert len(ramq.reset_region(cat.image_id, rejected.corrections[0].id).regions) == 1
    assert [hit.image_id for hit in ramq.search("count:cat>=1")] == [cat.image_id]


def test_images_are_seen_compared_and_erased(ramq: Client) -> None:
    (cat,) = ramq.search(tags=[CAT])
    assert ramq.image(cat.image_id).key == "chelsea.png"
    assert ramq.thumbnail(cat.image_id).startswith(b"\xff\xd8")
    assert CAT in {facet.name for facet in ramq.tags(limit=500)}
    nearest = ramq.search_by_image(ramq.thumbnail(cat.image_id, 640), limit=1)
    assert [hit.image_id for hit in nearest] == [cat.image_id]
    assert ramq.delete(cat.image_id).images == 1
    with pytest.raises(ProblemError) as refused:
        ramq.image(cat.image_id)
    assert refused.value.problem.type == "urn:ramq:problem:not-found"


def test_a_word_is_no_address(ramq: Client) -> None:
    """What people typed may look like a path to another image: to remove such a keyword is no more than that."""
    one, other = sorted(hit.image_id for hit in ramq.search())[:2]
    word = f"../../{other}"
    ramq.give_keywords([word], [one])
    assert [keyword.word for keyword in ramq.image(one).keywords] == [word]
    [given] = ramq.keyword_history().items
    assert ramq.keyword_act(given.id).added == [word]
    ramq.remove_keyword(one, word)
    assert ramq.image(one).keywords == []
    assert ramq.image(other).image_id == other
    with pytest.raises(ProblemError, match="unknown-tag"):
        ramq.reset_tag(one, word)
    assert ramq.image(other).image_id == other
    for dots in (".", ".."):
        with pytest.raises(ValueError, match="cannot be sent in an address"):
            ramq.remove_keyword(one, dots)
    assert ramq.image(one).image_id == one


def test_a_job_is_steered_and_its_failures_listed(ramq: Client, archive: Path) -> None:
    first = list(ramq.jobs())[-1]
    assert {failure.key for failure in ramq.failures(first.id)} == {"notes.jpg", "half.png"}
    assert list(ramq.failures(first.id, "forbidden")) == []
    assert ramq.retry(first.id).pending == 2
    job = ramq.enqueue(str(archive))
    assert ramq.pause(job.id).state == "paused"
    assert ramq.resume(job.id).state == "running"
    assert ramq.cancel(job.id).state == "cancelled"
    assert isinstance(ramq.workers(), list)
    assert [each.is_default for each in ramq.generations()] == [True]
    assert ramq.trainings() == []
    with pytest.raises(ProblemError, match="there is no training"):
        ramq.training("nothing")
    assert [each.images for each in ramq.archives()] == [PHOTOGRAPHS + 3]
    assert [each.model for each in ramq.index()] == ["lite"]


def test_waiting_ends_in_time_and_leaves_the_job_alone(ramq: Client, archive: Path) -> None:
    job = ramq.enqueue(str(archive))
    with pytest.raises(TimeoutError, match="pending"):
        ramq.wait(job.id, timeout_seconds=0.2, poll_seconds=0.1)
    assert ramq.job(job.id).state == "running"


def test_all_hits_are_written_into_a_file(ramq: Client) -> None:
    file = io.BytesIO()
    ramq.export(file, tags=[CAT])
    [row] = [json.loads(line) for line in file.getvalue().splitlines()]
    assert row["key"] == "chelsea.png"
    ramq.export(file := io.BytesIO(), format="csv")
    assert len(list(csv.reader(io.StringIO(file.getvalue().decode())))) == PHOTOGRAPHS + 2
    with pytest.raises(ProblemError, match="csv has no place for vectors"):
        ramq.export(io.BytesIO(), format="csv", vectors="text")


def test_a_file_that_breaks_off_is_not_taken_for_a_complete_one() -> None:
    half = (200, {"Content-Length": "1000"}, b"half")
    broken = pytest.raises(UnreachableError, match="broke off before the file was complete")
    with answering(half) as (url, _), Client(url, attempts=1) as client, broken:
        client.export(io.BytesIO())


def test_every_operation_of_the_api_is_covered_or_left_out_for_a_reason(client: TestClient) -> None:
    paths = client.get("/v1/openapi.json").json()["paths"]
    offered = {(method, path) for path, operations in paths.items() for method in operations if path.startswith("/v1/")}
    parts = sorted(Path(__file__).parents[2].joinpath("ramq").glob("client*.py"))
    source = "\n".join(part.read_text() for part in parts)
    written = re.findall(r'"(?:(GET|POST|PUT|PATCH|DELETE)", )?f?"?(/v1/[^"]*)"', source)
    covered = {((method or "GET").lower(), re.sub(r"\{[^}]*\}", "{}", path)) for method, path in written}
    left_out = set.union(*LEFT_OUT.values())
    assert left_out <= offered
    missing = {(m, p) for m, p in offered - left_out if (m, re.sub(r"\{[^}]*\}", "{}", p)) not in covered}
    assert sorted(missing) == []


def test_a_busy_server_is_asked_again_when_asking_does_no_harm() -> None:
    busy = (503, {"Retry-After": "0"}, b"{}")
    with answering(busy, (429, {"Retry-After": "0"}, b"{}"), (200, {}, WORKERS)) as (url, seen), Client(url) as client:
        assert client.workers() == []
    assert len(seen) == 3


def test_a_job_is_not_started_twice_by_asking_again(ramq: Client, archive: Path) -> None:
    before = len(list(ramq.jobs()))
    key = "the same request"
    jobs = [
        ramq._ask(JobOut, "POST", "/v1/jobs", json={"source": str(archive)}, headers={ONCE: key}).id for _ in range(2)
    ]
    assert jobs[0] == jobs[1]
    assert len(list(ramq.jobs())) == before + 1


def test_a_job_is_asked_for_again_under_the_same_key_and_steered_once() -> None:
    problem = {"type": "urn:ramq:problem:service-unavailable", "title": "-", "status": 503, "detail": "away"}
    busy = (503, {"Retry-After": "0"}, json.dumps(problem).encode())
    with answering(busy, busy, busy) as (url, seen), Client(url, attempts=2) as client:
        with pytest.raises(ProblemError, match="away"):
            client.enqueue("s3://photos/")
        with pytest.raises(ProblemError, match="away"):
            client.cancel(1)
    keys = [line.partition("key ")[2] for line in seen]
    assert keys[0] == keys[1] != ""
    assert keys[2:] == [""]


def test_a_token_is_sent_and_does_not_follow_a_redirect() -> None:
    with answering((302, {"Location": "http://127.0.0.1:9/"}, b"")) as (url, seen):
        with Client(url, token="secret") as client, pytest.raises(UnreachableError, match="302"):
            client.workers()
        assert seen == ["GET /v1/workers? Bearer secret"]


@pytest.mark.parametrize("body", [b"<html>", b'{"items": "none"}'])
def test_a_server_that_is_not_ramq_is_said_to_be_none(body: bytes) -> None:
    with (
        answering((200, {}, body)) as (url, _),
        Client(url) as client,
        pytest.raises(UnreachableError, match="not this"),
    ):
        client.workers()


def test_a_server_that_is_away_is_named() -> None:
    with Client("http://127.0.0.1:9", attempts=1) as client, pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        client.workers()


def test_a_stage_is_started_on_the_hits_of_a_search_and_its_results_are_listed_and_dropped(
    ramq: Client, client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STAGES, "text", replace(STAGES["text"], is_installed=lambda: True, load=load))
    estimate = ramq.estimate_stage("locate", f'tag:"{CAT}"', tags=["cat", "ball"])
    assert (estimate.images, estimate.done, estimate.tags, estimate.seconds) == (1, 0, 2, None)
    [job] = ramq.start_stage("text", f'tag:"{CAT}"')
    assert (job.stage, job.query, job.with_job, job.model) == ("text", f'tag:"{CAT}"', None, "ppocr_v6")
    further = StageHolder(StageOptions("cpu", services.settings.models_path), ["text"])
    where = ModelOptions("cpu", services.settings.models_path, services.settings.cache_path)
    worker = make_worker(services, ModelHolder(services.engine, where, None, further, recognises=False))
    worker.work()
    worker.leave()
    assert (ramq.job(job.id).state, ramq.job(job.id).done) == ("done", 1)
    [generation] = client.get("/v1/stages").json()["items"]
    assert (generation["stage"], generation["images"], generation["is_default"]) == ("text", 1, True)
    assert client.post(f"/v1/stages/generations/{generation['id']}/use").status_code == 204
    assert client.delete(f"/v1/stages/generations/{generation['id']}").json()["records"] == 1
    assert client.get("/v1/stages").json()["items"] == []
    with pytest.raises(ProblemError, match="no recorded image matches"):
        ramq.start_stage("text", "prefix:nowhere/")
