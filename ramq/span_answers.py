"""The connection to a collector. Of its answers only the status and the headers count, so nothing more is read."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

_PROVIDERS = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)
"""Variables that name a package which makes the connection itself."""


class WithoutBodies(HTTPAdapter):
    """Reads no body: a collector that sends one without end would fill the memory of the process."""

    def send(self, request: PreparedRequest, *args: Any, **named: Any) -> Response:
        """Send a request, and return its answer with an empty body."""
        answer = super().send(request, *args, **named)
        answer.close()  # with the connection, in which the body still is
        answer.raw = io.BytesIO()
        return answer


def session() -> requests.Session | None:
    """Return the connection for the exporter; None: the variables of OpenTelemetry name another one."""
    if any(os.environ.get(name) for name in _PROVIDERS):
        return None
    made = requests.Session()
    for scheme in ("http://", "https://"):
        made.mount(scheme, WithoutBodies())
    return made
