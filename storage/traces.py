"""Traces: spans of the work in hand, and how one process says to another where a trace began (W3C Trace Context).

``ramq.tracing`` turns them on. Until then nothing is recorded, no library is loaded for it, and every function here
returns at once. Spans hold numbers and names of ours. They never hold URLs, texts of errors, or keys of images, unless
``turn_on`` was told that keys may be named.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Tracer

    Attributes = Mapping[str, str] | Mapping[str, int] | Mapping[str, str | int | list[int]]
    Links = Mapping[str, str | None]

P = ParamSpec("P")

_HEADER = "traceparent"
_PARTS = 4


@dataclass(slots=True)
class _State:
    tracer: Tracer | None = None
    names_keys: bool = False


_state = _State()


def turn_on(tracer: Tracer, *, names_keys: bool) -> None:
    """Record spans with ``tracer``. ``names_keys``: spans of an image hold its key."""
    _state.tracer, _state.names_keys = tracer, names_keys


def turn_off() -> None:
    """Record no spans any more."""
    _state.tracer, _state.names_keys = None, False


def are_on() -> bool:
    """Return whether spans are recorded."""
    return _state.tracer is not None


def names_keys() -> bool:
    """Return whether spans may hold keys of images."""
    return _state.names_keys


def now() -> int:
    """Return the time as spans have it: nanoseconds since 1970."""
    return time.time_ns()


# Where a trace goes on ---------------------------------------------------------------------------------------------


def current() -> str | None:
    """Return the ``traceparent`` of the span in which this thread is; None: it is in none.

    A web server gives every request one, also if nothing is recorded.
    """
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(_HEADER)


def labels(traceparent: str | None) -> dict[str, str]:
    """Return the fields of log lines that belong to a span: ``trace_id`` and ``span_id``, hexadecimal."""
    parts = (traceparent or "").split("-")
    return {"trace_id": parts[1], "span_id": parts[2]} if len(parts) == _PARTS else {}


def _context_of(traceparent: str | None) -> Context:
    from opentelemetry.context import Context  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract({_HEADER: traceparent} if traceparent else {}, Context())


def _links_of(links: Links) -> list[Link]:
    from opentelemetry.trace import Link, get_current_span  # noqa: PLC0415

    named = ((name, get_current_span(_context_of(to)).get_span_context()) for name, to in links.items() if to)
    return [Link(context, {"ramq.link": name}) for name, context in named if context.is_valid]


# Spans -------------------------------------------------------------------------------------------------------------


def begin(name: str, parent: str | None, attributes: Attributes) -> Span | None:
    """Begin a span below the one that ``parent`` (a ``traceparent``) names. None: it is not recorded.

    Whoever gets it has to end it. Without a parent it is not recorded.
    """
    if _state.tracer is None or parent is None:
        return None
    span = _state.tracer.start_span(name, _context_of(parent), attributes=attributes)
    return span if span.is_recording() else None


def begin_below(span: Span | None, name: str, attributes: Attributes) -> Span | None:
    """Begin a span below another one of this process. None: it is not recorded. Whoever gets it has to end it."""
    if _state.tracer is None or span is None:
        return None
    from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

    return _state.tracer.start_span(name, set_span_in_context(span), attributes=attributes)


@contextmanager
def inside(span: Span | None) -> Iterator[None]:
    """Let a ``with`` block be what a span measures: log lines in it have its ids. End the span with the block.

    The error of a block is named by its class alone: its text may hold a key or a URL.
    """
    if span is None:
        yield
        return
    from opentelemetry.trace import use_span  # noqa: PLC0415

    with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except Exception as error:
            fail(span, type(error).__name__)
            raise


@contextmanager
def root(
    name: str, attributes: Attributes, links: Links | None = None, *, since: int | None = None
) -> Iterator[Span | None]:
    """Let a ``with`` block be the first span of a trace of its own. Yield it, or None if it is not recorded.

    Args:
        name: of the span.
        attributes: of the span.
        links: the ``traceparent`` of spans that it belongs to, each with what it is to this one.
        since: when it began, as ``now`` says; None: now.
    """
    if _state.tracer is None:
        yield None
        return
    from opentelemetry.context import Context  # noqa: PLC0415

    span = _state.tracer.start_span(
        name, Context(), attributes=attributes, links=_links_of(links or {}), start_time=since
    )
    with inside(span):
        yield span if span.is_recording() else None


def traced(name: str, result: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Return a decorator: each call is a span below the current one. Its attribute ``result`` is what it returns."""

    def decorate(function: Callable[P, int]) -> Callable[P, int]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> int:
            if _state.tracer is None:
                return function(*args, **kwargs)
            span = _state.tracer.start_span(name)
            with inside(span):
                returned = function(*args, **kwargs)
                span.set_attribute(result, returned)
                return returned

        return call

    return decorate


def fail(span: Span | None, code: str) -> None:
    """Mark a span as failed, with the stable code of the failure."""
    if span is None:
        return
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR, code)
