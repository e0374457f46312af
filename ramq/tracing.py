"""OpenTelemetry: turns the traces of ``storage.traces`` on, if the settings say so. Needs the extra ``ramq[otel]``.

Where spans go, how many are kept and what the service is called is said by the standard variables
(``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_SAMPLER``, ``OTEL_SERVICE_NAME``, …), which the SDK reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.version import release
from storage import traces
from storage.errors import UsageError
from storage.texts import without_secrets

if TYPE_CHECKING:
    from ramq.settings import Settings


def start(settings: Settings, service: str) -> None:
    """Turn traces on, if the settings say so. Call it when a process begins.

    Args:
        settings: the effective settings.
        service: the name of this kind of process, unless ``OTEL_SERVICE_NAME`` gives another one.

    Raises:
        UsageError: the extra is not installed, or a variable of OpenTelemetry is wrong.
    """
    if not settings.traces or traces.are_on():
        return
    try:
        from ramq.span_export import provide  # noqa: PLC0415  (loads the SDK)
    except ImportError as error:
        reason = f"OpenTelemetry is not installed ({error.name} is missing)"
        raise UsageError(f"RAMQ_TRACES is on, but {reason}: pip install 'ramq[otel]'") from error
    try:
        tracer = provide(service, release())
    except (ValueError, OSError) as error:
        said = without_secrets(str(error))
        raise UsageError(f"RAMQ_TRACES is on, but OpenTelemetry does not start: {said}; check OTEL_…") from error
    traces.turn_on(tracer, names_keys=settings.trace_keys)
