"""A number for every request: in the answer's header ``traceresponse``, in log lines, in problem documents, on its job.

It is the id of the request's trace (W3C Trace Context). A client that sends ``traceparent`` chooses it. It is given
whether traces are recorded or not.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers, MutableHeaders

from ramq.web.security import HEALTH_PATHS, METRICS_PATH
from storage import traces

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Any

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "traceresponse"
"""As in the W3C draft Trace Context Level 2: version, trace, span and flags, joined by hyphens."""


def trace_id() -> str | None:
    """Return the number of the request that this thread answers; None: it answers none."""
    return traces.labels(traces.current()).get("trace_id")


def is_for_machines(scope: MutableMapping[str, Any]) -> bool:
    """Return whether a request is one of many that nobody wants a trace of: of health, metrics and static files."""
    path: str = scope["path"]
    return path in {*HEALTH_PATHS, METRICS_PATH} or path.startswith("/static/")


def headers() -> dict[str, str]:
    """Return the header with the number of the request that this thread answers, for answers made outside."""
    number = traces.current()
    return {HEADER: number} if number else {}


class RequestIds:
    """Gives every request its number.

    Args:
        app: what answers the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # FastAPI has begun a span if traces are recorded.
        if not trace.get_current_span().get_span_context().is_valid:
            context = _new(Headers(scope=scope).get("traceparent"))
            # It is never taken back: an error is answered outside of this, and the task ends with its request.
            attach(trace.set_span_in_context(trace.NonRecordingSpan(context)))
        number = headers()

        async def send_with_number(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(number)
            await send(message)

        await self._app(scope, receive, send_with_number)


def _new(traceparent: str | None) -> trace.SpanContext:
    """Return a number of the trace that a client named, or of a new one."""
    carrier = {"traceparent": traceparent} if traceparent else {}
    named = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier, Context())).get_span_context()
    trace_id = named.trace_id if named.is_valid else secrets.randbits(128) or 1
    return trace.SpanContext(trace_id, secrets.randbits(64) or 1, is_remote=False)
