"""A typed client of ramq's HTTP API, for programs on other machines.

    from ramq.client import Client

    with Client("https://ramq.example.org", token="…") as ramq:
        job = ramq.enqueue("s3://photos/2024/")
        job = ramq.wait(job.id)
        for hit in ramq.search("a red boat", not_tags=["palace"]):
            print(hit.key, hit.score)

Answers are the models of the API itself, so a field that the API gains is a field here. Everything that can be asked
again without harm is: after a lost connection, a 429 or a 503, with the wait that the server names. A job is asked for
under a key of its own, so that asking twice starts one.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode
from uuid import uuid4

import urllib3
from pydantic import BaseModel, ValidationError
from urllib3.util import Retry, Timeout

from ramq.schemas.generations import GenerationStateOut
from ramq.schemas.problem import Problem
from ramq.schemas.views import (
    ArchiveOut,
    DeletionOut,
    FacetOut,
    FailureOut,
    HitOut,
    ImageOut,
    IndexOut,
    JobOut,
    PageOut,
    WorkerOut,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from storage.ledger.views import Priority

Model = TypeVar("Model", bound=BaseModel)

PAGE = 100
"""Items asked for at once by the iterators."""

MOST = 500
"""Items that a page may have."""

ONCE = "Idempotency-Key"
"""The header under which a job may be asked for again."""

_HARMLESS = ("GET", "PUT", "DELETE")


class ProblemError(Exception):
    """The server refused. ``problem`` is its problem document (RFC 9457); decide by ``problem.type``."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.detail} ({problem.type}, {problem.status})")
        self.problem = problem


class UnreachableError(Exception):
    """The server did not answer, or what answered is not ramq."""


class Client:
    """Speaks to one server. Thread-safe.

    Args:
        url: the server's address, for example ``http://127.0.0.1:8765``.
        token: sent as a bearer token.
        timeout_seconds: for a connection, and for each silence while an answer is read.
        attempts: how often a harmless request is made before it fails.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_seconds: float = 60, attempts: int = 5) -> None:
        self._url = url.rstrip("/")
        retry = Retry(
            total=attempts - 1,
            backoff_factor=0.5,
            backoff_jitter=0.5,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=_HARMLESS,
            redirect=False,  # a token is for this server alone
            raise_on_status=False,
        )
        headers = {"Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        timeout = Timeout(connect=min(timeout_seconds, 10), read=timeout_seconds)
        self._pool = urllib3.PoolManager(retries=retry, timeout=timeout, headers=headers)
        self._whatever_the_method = retry.new(allowed_methods=None)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the connections."""
        self._pool.clear()

    # Jobs ----------------------------------------------------------------------------------------------------------

    def enqueue(
        self, source: str, *, model: str | None = None, caption: bool | None = None, priority: Priority = "normal"
    ) -> JobOut:
        """Start a job over ``s3://bucket/prefix``, a folder of the server, or a manifest."""
        wanted = {"source": source, "model": model, "caption": caption, "priority": priority}
        body = {name: value for name, value in wanted.items() if value is not None}
        return self._ask(JobOut, "POST", "/v1/jobs", json=body, headers={ONCE: str(uuid4())})

    def job(self, job_id: int) -> JobOut:
        """Return a job with its counters."""
        return self._ask(JobOut, "GET", f"/v1/jobs/{job_id}")

    def jobs(self) -> Iterator[JobOut]:
        """Yield every job, newest first."""
        return self._items(JobOut, "/v1/jobs", {})

    def wait(self, job_id: int, *, timeout_seconds: float | None = None, poll_seconds: float = 1.0) -> JobOut:
        """Return the job when it is over. Raises ``TimeoutError`` if it is not in time; the job goes on then."""
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not (job := self.job(job_id)).is_over:
            if end is not None and time.monotonic() + poll_seconds > end:
                raise TimeoutError(f"job {job_id} is {job.state} with {job.pending:,} images pending")
            time.sleep(poll_seconds)
        return job

    def pause(self, job_id: int) -> JobOut:
        """Stop a job within one batch; nothing done is lost."""
        return self._ask(JobOut, "POST", f"/v1/jobs/{job_id}/pause")

    def resume(self, job_id: int) -> JobOut:
        """Let a paused or failed job go on."""
        return self._ask(JobOut, "POST", f"/v1/jobs/{job_id}/resume")

    def cancel(self, job_id: int) -> JobOut:
        """End a job within one batch; what is recorded stays."""
        return self._ask(JobOut, "POST", f"/v1/jobs/{job_id}/cancel")

    def retry(self, job_id: int, error_class: str | None = None) -> JobOut:
        """Try the failed images again, all of them or those of one class."""
        return self._ask(JobOut, "POST", f"/v1/jobs/{job_id}/retry", {"class": error_class})

    def failures(self, job_id: int, error_class: str | None = None) -> Iterator[FailureOut]:
        """Yield every image of a job that failed, with the reason."""
        return self._items(FailureOut, f"/v1/jobs/{job_id}/failures", {"class": error_class})

    def workers(self) -> list[WorkerOut]:
        """Return the workers that live or lived lately."""
        return self._ask(PageOut[WorkerOut], "GET", "/v1/workers").items

    # Search --------------------------------------------------------------------------------------------------------

    def search(
        self,
        text: str | None = None,
        *,
        tags: Sequence[str] = (),
        any_tags: Sequence[str] = (),
        not_tags: Sequence[str] = (),
        like: int | None = None,
        **filters: str | float | None,
    ) -> Iterator[HitOut]:
        """Yield hits, best first, for as long as they are taken.

        Args:
            text: words and the query language.
            tags: all of these.
            any_tags: at least one of these.
            not_tags: none of these.
            like: similar to this image.
            **filters: the other parameters of ``GET /v1/search``: ``archive``, ``job``, ``prefix``, ``threshold``,
                ``relevance``.
        """
        wanted = {"q": text, "tag": tags, "any": any_tags, "not": not_tags, "like": like, **filters}
        return self._items(HitOut, "/v1/search", wanted)

    def search_by_image(self, picture: bytes, *, limit: int = 20, **filters: str | float | None) -> list[HitOut]:
        """Return the images nearest to a picture, given as the bytes of a file."""
        sent = {"body": picture, "headers": {"Content-Type": "image/*"}}
        return self._ask(PageOut[HitOut], "POST", "/v1/search/image", {"limit": limit, **filters}, **sent).items

    def tags(
        self,
        text: str | None = None,
        *,
        tags: Sequence[str] = (),
        limit: int | None = 50,
        **filters: str | float | None,
    ) -> list[FacetOut]:
        """Return the tags of the images that match, the most frequent first: ``limit`` at most, or all of them."""
        at_once = MOST if limit is None else min(limit, MOST)
        wanted = {"q": text, "tag": tags, "limit": at_once, **filters}
        return list(islice(self._items(FacetOut, "/v1/tags", wanted), limit))

    # Images --------------------------------------------------------------------------------------------------------

    def image(self, image_id: int) -> ImageOut:
        """Return all that is known about an image."""
        return self._ask(ImageOut, "GET", f"/v1/images/{image_id}")

    def correct(self, image_id: int, tag: str, *, present: bool) -> ImageOut:
        """Say that an image has a tag, or that it has not, whatever the model says."""
        return self._ask(ImageOut, "PUT", f"/v1/images/{image_id}/tags/{quote(tag)}", json={"present": present})

    def reset_tag(self, image_id: int, tag: str) -> ImageOut:
        """Let the model decide again about a tag of an image."""
        return self._ask(ImageOut, "DELETE", f"/v1/images/{image_id}/tags/{quote(tag)}")

    def thumbnail(self, image_id: int, size: int = 320) -> bytes:
        """Return a JPEG with a longest side of about ``size`` pixels."""
        return self._send("GET", f"/v1/images/{image_id}/thumbnail", {"size": size}).data

    def delete(self, image_id: int) -> DeletionOut:
        """Erase what is known about an image; the original stays."""
        return self._ask(DeletionOut, "DELETE", f"/v1/images/{image_id}")

    def rename_archive(self, archive_id: int, uri: str, *, force: bool = False) -> ArchiveOut:
        """Say where an archive is now; ``force``: even if none of its images is there yet."""
        return self._ask(ArchiveOut, "PATCH", f"/v1/archives/{archive_id}", json={"uri": uri, "force": force})

    def remove_archive(self, archive_id: int) -> DeletionOut:
        """Erase all that is known of an archive; its originals stay."""
        return self._ask(DeletionOut, "DELETE", f"/v1/archives/{archive_id}")

    def archives(self) -> list[ArchiveOut]:
        """Return the archives and how much of each is listed and recorded."""
        return self._ask(PageOut[ArchiveOut], "GET", "/v1/archives").items

    def index(self) -> list[IndexOut]:
        """Return the state of the index of each generation."""
        return self._ask(PageOut[IndexOut], "GET", "/v1/index").items

    def generations(self) -> list[GenerationStateOut]:
        """Return every generation and how much it has recorded."""
        return self._ask(PageOut[GenerationStateOut], "GET", "/v1/generations").items

    # Requests ------------------------------------------------------------------------------------------------------

    def _items(self, model: type[Model], path: str, parameters: Mapping[str, object]) -> Iterator[Model]:
        cursor: str | None = None
        while True:
            page = self._ask(PageOut[model], "GET", path, {"limit": PAGE, **parameters, "cursor": cursor})  # type: ignore[valid-type]  # a type made at run time
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def _ask(
        self, model: type[Model], method: str, path: str, parameters: Mapping[str, object] | None = None, **sent: Any
    ) -> Model:
        response = self._send(method, path, parameters or {}, **sent)
        try:
            return model.model_validate_json(response.data)
        except ValidationError as error:
            raise UnreachableError(f"what answers at {self._url} is not this version of ramq") from error

    def _send(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, object],
        *,
        headers: Mapping[str, str] | None = None,
        **sent: Any,
    ) -> urllib3.BaseHTTPResponse:
        if headers and ONCE in headers:
            sent["retries"] = self._whatever_the_method
        url = f"{self._url}{path}?{urlencode(_pairs(parameters))}"
        try:
            response = self._pool.request(method, url, headers={**self._pool.headers, **(headers or {})}, **sent)
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(f"{self._url} does not answer: {error}") from error
        if response.status >= 300:
            raise _refusal(self._url, response)
        return response


def _pairs(parameters: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the query string's pairs; what is None or empty is not sent."""
    pairs = []
    for name, value in parameters.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        pairs += [(name, str(each)) for each in values if each is not None and each != ""]
    return pairs


def _refusal(url: str, response: urllib3.BaseHTTPResponse) -> Exception:
    try:
        return ProblemError(Problem.model_validate_json(response.data))
    except ValidationError:
        return UnreachableError(f"{url} answered {response.status} in a way that ramq does not")
