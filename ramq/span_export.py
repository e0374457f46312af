"""Sends spans to a collector over OTLP/HTTP. Only ``ramq.tracing`` imports this file, because it imports the SDK.

A collector that is away costs nothing but its spans. They wait in a queue of a fixed length, and a thread of the SDK
sends them. That they are lost is logged once, and once that they arrive again.
"""

from __future__ import annotations

import atexit
import logging
import threading
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from ramq.span_answers import session
from storage import traces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import Tracer

log = logging.getLogger(__name__)

EXIT_SECONDS = 3.0
"""How long the end of a process may wait for the collector to take the last spans."""

_QUERY, _PATH = "url.query", "url.path"


def provide(service: str, release: str) -> Tracer:
    """Make the provider of this process, and return the tracer of ramq. Raises ``ValueError`` on wrong variables."""
    about = Resource.create({"service.name": service, "service.version": release})
    provider = TracerProvider(resource=about.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(WithoutWhatWasSent())
    provider.add_span_processor(BatchSpanProcessor(ToldOnce(OTLPSpanExporter(session=session()))))
    trace.set_tracer_provider(provider)
    _quieten()  # not before: the SDK warns of variables that it does not understand
    atexit.register(_stop, provider)
    return provider.get_tracer("ramq", release)


def _stop(provider: TracerProvider) -> None:
    """Send the last spans. A collector that does not answer must not hold up the end of a process."""
    traces.turn_off()
    last = threading.Thread(target=provider.shutdown, name="last spans", daemon=True)
    last.start()
    last.join(EXIT_SECONDS)


def _quieten() -> None:
    """Keep the lines of the SDK out of the log: there is one for each try. ``ToldOnce`` says it in ours."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    overflow = logging.getLogger("opentelemetry.sdk._shared_internal")  # "Queue full, dropping Span."
    overflow.setLevel(logging.WARNING)
    overflow.addFilter(_Once())


class _Once(logging.Filter):
    """Lets each kind of line through once."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        is_new = record.msg not in self._said
        self._said.add(record.msg)
        return is_new


class WithoutWhatWasSent(SpanProcessor):
    """Keeps what people search for, names, and secrets in addresses out of spans.

    Of a query only the names stay, and of a path nothing: the attribute ``http.route`` has its pattern.
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002  (the SDK's)
        """Replace the path of a request, and the values of its query."""
        if _PATH in (span.attributes or {}):
            span.set_attribute(_PATH, "…")
        query = (span.attributes or {}).get(_QUERY)
        if isinstance(query, str):
            span.set_attribute(_QUERY, urlencode([(name, "…") for name, _ in parse_qsl(query, keep_blank_values=True)]))


class ToldOnce(SpanExporter):
    """Passes spans to an exporter, and logs when that begins to fail and when it works again.

    Args:
        exporter: sends the spans.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans. Those that cannot be sent are lost."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001  (whatever the SDK raises, work goes on without these spans)
            log.debug("spans were not sent", extra={"error": type(error).__name__})
            result = SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.warning("the collector takes spans again", extra={"lost": self._lost})
            self._lost = 0
        else:
            if not self._lost:
                log.warning("the collector takes no spans: they are lost until it does; check OTEL_EXPORTER_OTLP_…")
            self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        """Take no more spans."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits in the exporter."""
        return self._exporter.force_flush(timeout_millis)
