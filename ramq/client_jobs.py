"""The part of the client that is about jobs: see ``ramq.client.Client``."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from pydantic import BaseModel

from ramq.schemas.jobs import FailureOut, JobOut
from ramq.schemas.stages import EstimateOut
from ramq.schemas.views import PageOut, WorkerOut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from storage.ledger.views import Priority

Model = TypeVar("Model", bound=BaseModel)

ONCE = "Idempotency-Key"
"""The header that makes it safe to repeat the request for a job."""


def job_body(  # noqa: PLR0913, PLR0917  (what a job may be asked for)
    source: str,
    model: str | None,
    caption: bool | None,  # noqa: FBT001
    priority: Priority,
    stages: Sequence[str],
    include: Sequence[str],
    exclude: Sequence[str],
    defaults: bool,  # noqa: FBT001
    pages: bool,  # noqa: FBT001
) -> dict[str, object]:
    """Return what a request for jobs sends: what is not as the server does by itself."""
    wanted = {
        "source": source,
        "model": model,
        "caption": caption,
        "priority": priority,
        "stages": list(stages) or None,
        "include": list(include) or None,
        "exclude": list(exclude) or None,
        "defaults": None if defaults else False,
        "pages": pages or None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


class JobCalls:
    """Requests under ``/v1/jobs``, ``/v1/stages`` and ``/v1/workers``."""

    @abstractmethod
    def _ask(
        self, model: type[Model], method: str, path: str, parameters: Mapping[str, object] | None = None, **sent: Any
    ) -> Model:
        """Send a request and read its answer."""

    @abstractmethod
    def _items(self, model: type[Model], path: str, parameters: Mapping[str, object]) -> Iterator[Model]:
        """Yield the items of all pages."""

    def enqueue(  # noqa: PLR0913  (what a job may be asked for)
        self,
        source: str,
        *,
        model: str | None = None,
        caption: bool | None = None,
        priority: Priority = "normal",
        stages: Sequence[str] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        defaults: bool = True,
        pages: bool = False,
    ) -> JobOut:
        """Start a job over ``s3://bucket/prefix``, a folder of the server, or a manifest.

        Args:
            source: the archive, or a part of one.
            model: name of the model; None: the server's.
            caption: whether to write captions; None: as the server does.
            priority: ``low``, ``normal`` or ``high``.
            stages: further stages, for example ``text``. Each is a job of its own, whose ``with_job`` is this one.
            include: patterns as in .gitignore: only keys that match one are listed. Empty: all.
            exclude: patterns of keys that are left out.
            defaults: whether known junk, sidecars and films are left out.
            pages: whether each page of a TIFF or PDF file is an image of its own.
        """
        body = job_body(source, model, caption, priority, stages, include, exclude, defaults, pages)
        return self._ask(JobOut, "POST", "/v1/jobs", json=body, headers={ONCE: str(uuid4())})

    def start_stage(
        self,
        stage: str,
        q: str | None = None,
        *,
        archive: str | None = None,
        priority: Priority = "normal",
        tags: Sequence[str] = (),
    ) -> list[JobOut]:
        """Start a stage on recorded images: all, those of an archive, or the hits of the search ``q``.

        ``tags`` are for ``locate``: what to look for; none: the tags that each image has.
        """
        body = {"q": q, "archive": archive, "priority": priority, "tags": list(tags)}
        return self._ask(PageOut[JobOut], "POST", f"/v1/stages/{stage}/jobs", json=body).items

    def estimate_stage(
        self, stage: str, q: str | None = None, *, archive: str | None = None, tags: Sequence[str] = ()
    ) -> EstimateOut:
        """Return how many images ``start_stage`` would work on and how long it may take. Nothing is started."""
        body = {"q": q, "archive": archive, "tags": list(tags)}
        return self._ask(EstimateOut, "POST", f"/v1/stages/{stage}/estimate", json=body)

    def job(self, job_id: int) -> JobOut:
        """Return a job with its counters."""
        return self._ask(JobOut, "GET", f"/v1/jobs/{job_id}")

    def jobs(self, *, watch: int | None = None, fold: bool = False) -> Iterator[JobOut]:
        """Yield every job, newest first.

        ``watch``: only the jobs that this watch began. ``fold``: of those of a watch that ended well, the newest.
        """
        return self._items(JobOut, "/v1/jobs", {"watch": watch, "fold": "1" if fold else None})

    def wait(self, job_id: int, *, timeout_seconds: float | None = None, poll_seconds: float = 1.0) -> JobOut:
        """Wait until the job is over, and return it. Raises ``TimeoutError`` after the time; the job goes on then."""
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not (job := self.job(job_id)).is_over:
            if end is not None and time.monotonic() + poll_seconds > end:
                raise TimeoutError(f"job {job_id} is {job.state} with {job.pending:,} images pending")
            time.sleep(poll_seconds)
        return job

    def pause(self, job_id: int) -> JobOut:
        """Pause a job within one batch. Finished work is kept."""
        return self._ask(JobOut, "POST", f"/v1/jobs/{job_id}/pause")

    def resume(self, job_id: int) -> JobOut:
        """Resume a paused or failed job."""
        return self._ask(JobOut, "POST", f"/v1/jobs/{job_id}/resume")

    def cancel(self, job_id: int) -> JobOut:
        """Cancel a job within one batch. Recorded results stay."""
        return self._ask(JobOut, "POST", f"/v1/jobs/{job_id}/cancel")

    def retry(self, job_id: int, error_class: str | None = None) -> JobOut:
        """Retry the failed images: all of them, or those of one class."""
        return self._ask(JobOut, "POST", f"/v1/jobs/{job_id}/retry", {"class": error_class})

    def failures(self, job_id: int, error_class: str | None = None) -> Iterator[FailureOut]:
        """Yield the failed images of a job, with their reasons."""
        return self._items(FailureOut, f"/v1/jobs/{job_id}/failures", {"class": error_class})

    def workers(self) -> list[WorkerOut]:
        """Return the workers that are or were recently alive."""
        return self._ask(PageOut[WorkerOut], "GET", "/v1/workers").items
