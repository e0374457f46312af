"""What is sent to a collector of a request, and what is read of its answer."""

from __future__ import annotations

import resource
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from fastapi import FastAPI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from ramq.span_answers import session
from ramq.span_export import WithoutWhatWasSent

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDLESS = 1 << 30
CHUNK = b"x" * (1 << 20)


class Endless(BaseHTTPRequestHandler):
    """Answers with the status in the path, and a gigabyte."""

    sent = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path.strip("/")))
        self.send_header("Location", "/200")
        self.end_headers()
        type(self).sent = 0
        try:
            while self.sent < ENDLESS:
                self.wfile.write(CHUNK)
                type(self).sent += len(CHUNK)
        except OSError:
            pass  # the client has closed the connection

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def collector() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "result"),
    [(200, SpanExportResult.SUCCESS), (307, SpanExportResult.SUCCESS), (400, SpanExportResult.FAILURE)],
)
def test_an_answer_without_end_is_not_read(collector: str, status: int, result: SpanExportResult) -> None:
    provider, kept = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    provider.get_tracer("test").start_span("one").end()
    exporter = OTLPSpanExporter(f"{collector}/{status}", timeout=20, session=session())
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert exporter.export(kept.get_finished_spans()) is result
    assert time.monotonic() - began < 5
    assert Endless.sent < 64 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # in KiB
    exporter.shutdown()


def test_another_connection_that_variables_name_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "theirs")
    assert session() is None


def test_of_a_path_only_the_pattern_is_recorded() -> None:
    provider, kept = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(WithoutWhatWasSent())
    provider.add_span_processor(SimpleSpanProcessor(kept))
    app = FastAPI(
        telemetry={"auto_configure": False, "metrics": False, "logs": False, "tracer_provider": provider},
    )

    @app.get("/v1/images/{image_id}/keywords/{keyword}")
    def keyword(image_id: int, keyword: str) -> str:
        return f"{image_id} {keyword}"

    client = TestClient(app)
    assert client.get("/v1/images/7/keywords/my-secret").status_code == 200
    assert client.get("/nowhere/my-secret").status_code == 404
    spans = [span for span in kept.get_finished_spans() if "url.path" in (span.attributes or {})]
    found = [(span.attributes or {}).get("http.route") for span in spans]
    assert found == ["/v1/images/{image_id}/keywords/{keyword}", None]
    assert "my-secret" not in "".join(span.to_json() for span in kept.get_finished_spans())
