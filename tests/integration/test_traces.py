"""Traces: one story from a request to the index, across processes, workers that die and collectors that are away."""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from ramq.embedded.process import spawn
from storage.database import unit_of_work
from tests.services.checker import fill
from tests.services.collector import Collector, collecting
from tests.services.command_line import COMMAND
from tests.services.fleet import wait_for
from tests.services.forked_worker import ROOT
from tests.services.watch import leases_of
from tests.services.web import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.collector import Span
    from tests.services.fleet import Fleet

pytestmark = pytest.mark.services

IMAGES = 40
TRACE = "0af7651916cd43dd8448eb211c80319c"
STEPS = ("fetch", "decode", "infer", "write")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@contextmanager
def web_process(fleet: Fleet, **environment: str) -> Iterator[str]:
    """Give the address of a process of ``ramq web``."""
    log = fleet.folder / "web.log"
    process = spawn(
        [*COMMAND, "web", "--port", "0"],
        cwd=ROOT,
        log=log,
        stop_signal=signal.SIGKILL,
        env={**fleet.environment, **environment},
    )
    try:
        until = time.monotonic() + 60
        while not (found := re.search(r"The page is at (http://\S+)/", log.read_text())):
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def post(url: str, body: dict[str, Any], **headers: str) -> tuple[dict[str, Any], str]:
    """Return the answer and its header ``traceresponse``."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}, method="POST"
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer), answer.headers["traceresponse"]
    except urllib.error.HTTPError as error:
        return json.load(error), error.headers["traceresponse"]


def lines_of(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def below(collector: Collector, root: Span) -> list[Span]:
    """The spans of a trace that hang below a span, however far."""
    found, ids = [], {root.id}
    while more := [span for span in collector.spans if span.parent in ids and span not in found]:
        found += more
        ids |= {span.id for span in more}
    return found


def test_one_story_leads_from_a_request_to_the_index(
    services: Services, fleet: Fleet, tmp_path: Path, collector: Collector
) -> None:
    fill(tmp_path / "photos", IMAGES)
    with web_process(fleet, **collector.environment) as url:
        sent = f"00-{TRACE}-b7ad6b7169203331-01"
        problem, number = post(f"{url}/v1/jobs", {"source": str(tmp_path / "nowhere")}, traceparent=sent)
        assert (problem["trace_id"], number.split("-")[1]) == (TRACE, TRACE)
        job, number = post(f"{url}/v1/jobs", {"source": str(tmp_path / "photos")}, traceparent=sent)
        fleet.start(1, **collector.environment, RAMQ_LEASE_SECONDS="60")
        wait_for(services, job["id"], fleet, lambda view: view.is_over)
        collector.wait_for(lambda: len(collector.named("shard")) == 1 and collector.named("publish index"))
    collector.wait_for(lambda: len(collector.named("POST /v1/jobs")) == 2)

    (created,) = collector.named("create job")
    request = collector.by_id(created.parent)
    assert (request.name, request.service, request.trace) == ("POST /v1/jobs", "ramq-web", TRACE)
    assert number == f"00-{TRACE}-{request.id}-01"
    assert created.attributes["ramq.job.id"] == job["id"]

    listings = [span for span in collector.named("list") if span.attributes["ramq.job.id"] == job["id"]]
    assert {span.links["job"] for span in listings} == {(TRACE, created.id)}
    (claim,) = collector.named("claim shard")
    assert claim.links["job"] == (TRACE, created.id)
    assert claim.links["listing"] in {(span.trace, span.id) for span in listings}
    (shard,) = collector.named("shard")
    assert (shard.parent, shard.trace, shard.service) == (claim.id, claim.trace, "ramq-worker")
    assert shard.attributes["ramq.image.pending"] == 0
    (published,) = collector.named("publish index")
    assert published.links == {f"job {job['id']}": (TRACE, created.id)}

    with unit_of_work(services.engine) as session:
        ids = set(session.scalars(text("SELECT id FROM image")))
    assert len(ids) == IMAGES
    steps = below(collector, shard)
    for step in STEPS:
        about = [span.attributes for span in steps if span.name == step]
        seen = [number for each in about for number in each.get("ramq.image.ids", [each.get("ramq.image.id")])]
        assert sorted(seen) == sorted(ids), step

    lines = lines_of(fleet.log())
    assert {line["trace_id"] for line in lines if line["event"] in {"shard begun", "shard ended"}} == {shard.trace}
    assert {line["trace_id"] for line in lines if line["event"] == "listed"} <= {span.trace for span in listings}
    assert all(line["job"] == job["id"] and line["shard"] for line in lines if line["event"] == "shard begun")


def test_without_traces_the_number_of_a_request_is_in_the_log_of_workers(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    fill(tmp_path / "photos", 3)
    with serving(services) as url:
        sent = f"00-{TRACE}-b7ad6b7169203331-01"
        job, number = post(f"{url}/v1/jobs", {"source": str(tmp_path / "photos")}, traceparent=sent)
    fleet.start(1)
    wait_for(services, job["id"], fleet, lambda view: view.is_over)
    assert number.split("-")[1] == TRACE
    about = [line for line in lines_of(fleet.log()) if line["event"] in {"listed", "shard begun", "shard ended"}]
    assert {line["event"] for line in about} >= {"listed", "shard begun"}
    assert {line["trace_id"] for line in about} == {TRACE}


def test_the_shard_of_a_killed_worker_is_taken_over_by_a_trace_that_names_the_former_one(
    services: Services, fleet: Fleet, tmp_path: Path, collector: Collector
) -> None:
    fill(tmp_path / "photos", 64)
    fleet.environment |= {**collector.environment, "RAMQ_LEASE_SECONDS": "2", "RAMQ_BATCH_SIZE": "4"}
    job = services.jobs.create(str(tmp_path / "photos"))
    (first,) = fleet.start(1, NULL_MODEL_SECONDS="0.5")
    wait_for(services, job.id, fleet, lambda view: view.done > 0)
    assert leases_of(services, first)
    collector.wait_for(lambda: collector.named("claim shard") and collector.named("write"))
    fleet.kill(first)
    fleet.start(1)
    wait_for(services, job.id, fleet, lambda view: view.is_over)
    collector.wait_for(lambda: any(span.attributes["ramq.image.pending"] == 0 for span in collector.named("shard")))

    # On a busy machine a living worker may lose the lease too: then there are more than two claims.
    claims = sorted(collector.named("claim shard"), key=lambda span: span.attributes["ramq.shard.epoch"])
    for former, later in itertools.pairwise(claims):
        assert later.links["former claim"] == (former.trace, former.id)
        assert former.trace != later.trace
    assert "listing" in claims[0].links
    assert claims[-1].attributes["ramq.worker.id"] != claims[0].attributes["ramq.worker.id"]
    (ended,) = [span for span in collector.named("shard") if span.attributes["ramq.image.pending"] == 0]
    assert ended.trace == claims[-1].trace
    assert {claims[0].trace, claims[-1].trace} <= {span.trace for span in collector.named("write")}


def test_spans_name_no_key_no_query_and_no_password_unless_keys_are_asked_for(
    services: Services, fleet: Fleet, tmp_path: Path, collector: Collector
) -> None:
    folder = tmp_path / "photos"
    fill(folder, 3)
    (folder / "my-private-name.jpg").write_bytes(b"no picture")
    fleet.environment |= collector.environment
    with web_process(fleet) as url:
        job, _ = post(f"{url}/v1/jobs", {"source": str(folder)})
        with urllib.request.urlopen(f"{url}/v1/tags?q=my-private-word") as answer:
            assert answer.status == 200
        fleet.start(1)
        wait_for(services, job["id"], fleet, lambda view: view.is_over)
        collector.wait_for(lambda: collector.named("shard"))
    collector.wait_for(lambda: collector.named("GET /v1/tags"))
    everything = b"".join(collector.raw)
    assert b"my-private" not in everything
    assert str(folder).encode() not in everything
    assert services.settings.database_url is not None
    assert services.settings.database_url.encode() not in everything
    failed = [span for span in collector.spans if span.is_failed]
    assert {span.attributes["error.type"] for span in failed} == {"not_an_image"}

    fleet.kill(fleet.processes[0])
    fleet.start(1, RAMQ_TRACE_KEYS="true")
    again = services.jobs.retry(job["id"])
    wait_for(services, again.id, fleet, lambda view: view.is_over)
    collector.wait_for(lambda: b"my-private-name.jpg" in b"".join(collector.raw))


def test_a_collector_that_is_away_costs_nothing_but_its_spans_and_is_told_once(
    services: Services, fleet: Fleet, tmp_path: Path, collector: Collector
) -> None:
    collector.is_away = True
    fill(tmp_path / "photos", 200)
    fleet.environment |= {
        **collector.environment,
        "OTEL_BSP_MAX_QUEUE_SIZE": "64",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    job = services.jobs.create(str(tmp_path / "photos"))
    (process,) = fleet.start(1)
    done = wait_for(services, job.id, fleet, lambda view: view.is_over)
    assert done.done == 200
    collector.wait_for(lambda: "takes no spans" in fleet.log())
    collector.is_away = False
    fill(tmp_path / "more", 20)
    again = services.jobs.create(str(tmp_path / "more"))
    wait_for(services, again.id, fleet, lambda view: view.is_over)
    collector.wait_for(lambda: "takes spans again" in fleet.log())
    events = [line["event"] for line in lines_of(fleet.log())]
    collector.is_away = True
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert sum("takes no spans" in event for event in events) == 1
    assert sum("Queue full" in event for event in events) <= 1
    assert not any("Traceback" in line for line in fleet.log().splitlines())
