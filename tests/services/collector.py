"""A collector: receives spans over OTLP/HTTP, as OpenTelemetry's own does, and keeps them."""

from __future__ import annotations

import gzip
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Span:
    """A span as it was received. Ids are hexadecimal."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    seconds: float
    attributes: dict[str, Any]
    links: dict[str, tuple[str, str]]
    """What each linked span is to this one: its trace and its id."""
    is_failed: bool


@dataclass
class Collector:
    """What was received. ``raw`` has the bytes of every request."""

    url: str
    spans: list[Span] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    is_away: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that sends its spans here."""
        return {"RAMQ_TRACES": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def by_id(self, number: str) -> Span:
        (found,) = [span for span in self.spans if span.id == number]
        return found

    def wait_for(self, is_there: Callable[[], object], seconds: float = 120.0) -> None:
        until = time.monotonic() + seconds
        while not is_there():
            assert time.monotonic() < until, [(span.service, span.name) for span in self.spans]
            time.sleep(0.05)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Give a collector that runs while the block does."""
    collector = Collector("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if collector.is_away:
                self.send_error(503)
                return
            assert self.path == "/v1/traces"
            collector.raw.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            collector.spans += list(_spans_of(collector.raw[-1]))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _spans_of(body: bytes) -> Iterator[Span]:
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        about = {each.key: _value(each.value) for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=about["service.name"],
                    name=span.name,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    attributes={each.key: _value(each.value) for each in span.attributes},
                    links={
                        _value(link.attributes[0].value): (link.trace_id.hex(), link.span_id.hex())
                        for link in span.links
                    },
                    is_failed=span.status.code == span.status.STATUS_CODE_ERROR,
                )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)
