"""From new vectors to the requests that caused them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import driver_connection

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from storage.results.vectors import Window

MOST = 100
"""Jobs that a publication names. A span holds 128 links unless OTEL_SPAN_LINK_COUNT_LIMIT says otherwise."""


def of_window(session: Session, window: Window) -> list[tuple[int, str]]:
    """Return the newest jobs whose images have vectors in a window, each with the ``traceparent`` of its request."""
    query = f"""
        SELECT job.id, job.trace FROM job WHERE job.trace IS NOT NULL AND job.id IN (
            SELECT record.job_id FROM vector AS v
            JOIN record ON record.image_id = v.image_id AND record.generation_id = v.generation_id
            WHERE {window.condition("v")})
        ORDER BY job.id DESC LIMIT {MOST}
        """  # noqa: S608  (constants only)
    return [(int(job_id), trace) for job_id, trace in driver_connection(session).execute(query, window.values)]
