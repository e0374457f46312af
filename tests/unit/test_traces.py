"""Traces without services: what is recorded, what stays out, and the number of a request."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from ramq.logs import configure_structlog
from ramq.settings import Settings
from ramq.span_export import ToldOnce, WithoutWhatWasSent
from ramq.tracing import start
from ramq.web.problems import install_problem_handlers, make_problem
from ramq.web.request_ids import HEADER, RequestIds
from storage import traces
from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def recorded() -> Iterator[InMemorySpanExporter]:
    """Traces are on; what they record."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(WithoutWhatWasSent())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces.turn_on(provider.get_tracer("test"), names_keys=False)
    yield exporter
    traces.turn_off()
    provider.shutdown()


def test_nothing_is_recorded_while_traces_are_off() -> None:
    assert traces.begin("shard", SENT, {}) is None
    with traces.root("list", {}) as span, traces.inside(None):
        assert span is None
        assert traces.current() is None


def test_a_trace_of_its_own_links_to_what_was_before(recorded: InMemorySpanExporter) -> None:
    with traces.root("claim shard", {"ramq.shard.id": 7}, {"job": SENT, "listing": None}):
        claim = traces.current()
    shard = traces.begin("shard", claim, {})
    step = traces.begin_below(shard, "fetch", {})
    assert shard is not None
    assert step is not None
    step.end()
    shard.end()
    first, fetched, held = recorded.get_finished_spans()
    (link,) = first.links
    assert trace.format_trace_id(link.context.trace_id) == TRACE
    assert dict(link.attributes or {}) == {"ramq.link": "job"}
    assert first.parent is None
    assert first.context.trace_id == held.context.trace_id == fetched.context.trace_id != link.context.trace_id
    assert (held.parent.span_id, fetched.parent.span_id) == (first.context.span_id, held.context.span_id)  # type: ignore[union-attr]


def test_an_error_is_named_by_its_class_and_its_text_stays_out(recorded: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), traces.root("list", {}):
        raise ValueError("secret")
    (span,) = recorded.get_finished_spans()
    assert span.attributes == {"error.type": "ValueError"}
    assert not span.events
    assert "secret" not in span.to_json()


def test_of_a_query_only_the_names_are_recorded(recorded: InMemorySpanExporter) -> None:
    with traces.root("GET /v1/search", {"url.query": "q=my+cat&cursor=&limit=5"}):
        pass
    (span,) = recorded.get_finished_spans()
    assert span.attributes == {"url.query": "q=%E2%80%A6&cursor=%E2%80%A6&limit=%E2%80%A6"}


def test_a_log_line_has_the_ids_of_its_span(recorded: InMemorySpanExporter, capsys: pytest.CaptureFixture[str]) -> None:
    configure_structlog("info")
    with traces.root("list", {}):
        structlog.get_logger().info("listed", job=3)
        named = traces.current()
    structlog.get_logger().info("outside")
    structlog.reset_defaults()
    inside, outside = map(json.loads, capsys.readouterr().err.splitlines())
    assert named is not None
    assert named.startswith(f"00-{inside['trace_id']}-{inside['span_id']}-")
    assert inside["job"] == 3
    assert "trace_id" not in outside


def test_a_collector_that_is_away_is_told_once_and_again_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    answers = [SpanExportResult.FAILURE, OSError("down"), SpanExportResult.SUCCESS, SpanExportResult.SUCCESS]

    class Flaky(InMemorySpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            answer = answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return answer

    exporter = ToldOnce(Flaky())
    with caplog.at_level(logging.WARNING, "ramq"):
        for _ in range(4):
            exporter.export([1, 2, 3])  # type: ignore[list-item]
    lost, back = caplog.records
    assert "takes no spans" in lost.message
    assert (back.message, back.lost) == ("the collector takes spans again", 6)  # type: ignore[attr-defined]


def test_without_the_extra_a_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ramq.span_export")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(UsageError, match=r"pip install 'ramq\[otel\]'"):
        start(Settings(traces=True), "ramq")


def test_a_wrong_variable_of_opentelemetry_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5000")  # more than the queue holds
    with pytest.raises(UsageError, match="check OTEL_"):
        start(Settings(traces=True), "ramq")


def test_while_traces_are_off_commands_and_workers_load_nothing_for_them() -> None:
    script = (
        "import sys, ramq.cli.jobs, ramq.services.jobs, storage.ledger.claims, storage.traces\n"
        "from ramq.settings import Settings; from ramq.tracing import start\n"
        "start(Settings(), 'ramq'); storage.traces.current()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The number of a request -------------------------------------------------------------------------------------------


@pytest.fixture
def client() -> TestClient:
    def number(_: Request) -> JSONResponse:
        return JSONResponse(make_problem(404, "not-found", "nothing here").model_dump())

    return TestClient(Starlette(routes=[Route("/", number)], middleware=[Middleware(RequestIds)]))


def test_every_answer_and_its_problem_have_the_same_number_and_no_two_requests_have_one(client: TestClient) -> None:
    answers = [client.get("/") for _ in range(2)]
    numbers = [answer.headers[HEADER].split("-") for answer in answers]
    assert [answer.json()["trace_id"] for answer in answers] == [each[1] for each in numbers]
    assert numbers[0][1] != numbers[1][1]
    assert {(each[0], each[3]) for each in numbers} == {("00", "00")}


def test_the_answer_to_a_crash_has_a_number_too() -> None:
    app = FastAPI(middleware=[Middleware(RequestIds)])
    install_problem_handlers(app, lambda *_: Response(), lambda _: None)

    @app.get("/")
    def crash() -> None:
        raise ZeroDivisionError

    answer = TestClient(app, raise_server_exceptions=False).get("/")
    assert answer.status_code == 500
    assert answer.json()["trace_id"] == answer.headers[HEADER].split("-")[1]


def test_a_client_may_choose_the_number(client: TestClient) -> None:
    answer = client.get("/", headers={"traceparent": SENT})
    assert answer.json()["trace_id"] == TRACE
    assert answer.headers[HEADER].split("-")[2] != SPAN


@pytest.mark.parametrize("sent", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01"])
def test_a_number_that_is_none_is_ignored(client: TestClient, sent: str) -> None:
    answer = client.get("/", headers={"traceparent": sent})
    assert answer.status_code == 200
    assert answer.json()["trace_id"] != TRACE
    assert len(answer.json()["trace_id"]) == 32
