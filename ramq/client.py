"""A typed client of ramq's HTTP API, for programs on other machines.

    from ramq.client import Client

    with Client("https://ramq.example.org", token="…") as ramq:
        job = ramq.enqueue("s3://photos/2024/")
        job = ramq.wait(job.id)
        for hit in ramq.search("a red boat", not_tags=["palace"]):
            print(hit.key, hit.score)

Responses are the models of the API itself, so new fields of the API are available here too. Requests that are safe to
repeat are retried after a lost connection, a 429 or a 503, after the wait that the server asks for. Each new job is
requested with a unique key, so that a retry does not start a second job.
"""

from __future__ import annotations

from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote, urlencode

import urllib3
from pydantic import BaseModel, ValidationError
from urllib3.util import Retry, Timeout

from ramq.client_erasures import ErasureCalls
from ramq.client_jobs import ONCE
from ramq.client_keywords import KeywordCalls
from ramq.client_quotas import QuotaCalls
from ramq.client_scaling import ScalingCalls
from ramq.client_teaching import TeachingCalls
from ramq.client_users import UserCalls
from ramq.client_watches import WatchCalls
from ramq.schemas.generations import GenerationStateOut
from ramq.schemas.hits import FacetOut, FacetsOut, FileFacetsOut, HitOut, RegionFacetsOut
from ramq.schemas.problem import Problem
from ramq.schemas.readings import ReadingOut
from ramq.schemas.regions import RegionsOut
from ramq.schemas.training import TrainingCurveOut, TrainingOut
from ramq.schemas.views import ArchiveOut, DeletionOut, ImageOut, IndexOut, PageOut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

Model = TypeVar("Model", bound=BaseModel)

_CHUNK_BYTES = 64 * 1024
PAGE = 100
"""Items that the iterators request at a time."""

MOST = 500
"""The maximum number of items on a page."""

_IMAGES = "/v1/images/"

_HARMLESS = ("GET", "PUT", "DELETE")


class ProblemError(Exception):
    """The server returned an error. ``problem`` is its problem document (RFC 9457); test ``problem.type``."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.detail} ({problem.type}, {problem.status})")
        self.problem = problem


class UnreachableError(Exception):
    """The server did not answer, or its response is not from this version of ramq."""


class Client(UserCalls, QuotaCalls, ErasureCalls, KeywordCalls, TeachingCalls, WatchCalls, ScalingCalls):
    """A client of one server. Thread-safe.

    Args:
        url: the server's URL, for example ``http://127.0.0.1:8765``.
        token: sent as a bearer token.
        timeout_seconds: the maximum wait for a connection, and for each read of a response.
        attempts: how often to send a request that is safe to repeat, before it fails.
    """

    def __init__(self, url: str, *, token: str | None = None, timeout_seconds: float = 60, attempts: int = 5) -> None:
        self._url = url.rstrip("/")
        retry = Retry(
            total=attempts - 1,
            backoff_factor=0.5,
            backoff_jitter=0.5,
            status_forcelist=(429, 502, 503, 504),
            allowed_methods=_HARMLESS,
            redirect=False,  # do not send the token to another server
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

    # Search --------------------------------------------------------------------------------------------------------

    def search(  # noqa: PLR0913  (one for each parameter that may be repeated or has parts)
        self,
        text: str | None = None,
        *,
        tags: Sequence[str] = (),
        any_tags: Sequence[str] = (),
        not_tags: Sequence[str] = (),
        like: int | None = None,
        not_like: Sequence[int] = (),
        like_region: tuple[int, int] | None = None,
        **filters: str | float | None,
    ) -> Iterator[HitOut]:
        """Yield hits, best first. Further pages are requested as needed.

        Args:
            text: words and the query language.
            tags: all of these.
            any_tags: at least one of these.
            not_tags: none of these.
            like: similar to this image.
            not_like: not these images, and with ``like`` less of what is similar to them.
            like_region: an image and the number of a region of it: yield regions like it, each with its ``region``.
            **filters: the other parameters of ``GET /v1/search``: ``archive``, ``job``, ``prefix``, ``threshold``,
                ``relevance``, ``space``.
        """
        region = None if like_region is None else "{}/{}".format(*like_region)
        named = {"like": like, "not_like": not_like, "like_region": region}
        wanted = {"q": text, "tag": tags, "any": any_tags, "not": not_tags, **named, **filters}
        return self._items(HitOut, "/v1/search", wanted)

    def search_by_image(self, picture: bytes, *, limit: int = 20, **filters: str | float | None) -> list[HitOut]:
        """Return the images most similar to a picture, which is given as the bytes of a file."""
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
        """Return the tags of the matching images, most frequent first. ``limit`` is the maximum number; None: all."""
        at_once = MOST if limit is None else min(limit, MOST)
        wanted = {"q": text, "tag": tags, "limit": at_once, **filters}
        return list(islice(self._items(FacetOut, "/v1/tags", wanted), limit))

    def located_tags(
        self, text: str | None = None, *, tags: Sequence[str] = (), **filters: str | float | None
    ) -> RegionFacetsOut | None:
        """Return the located tags of the matching images; None if the images are too many to count them."""
        return self._counted(text, tags, filters).regions

    def file_facets(
        self, text: str | None = None, *, tags: Sequence[str] = (), **filters: str | float | None
    ) -> FileFacetsOut | None:
        """Return the matching images by date, camera, archive and folder; None if they are too many to count them."""
        return self._counted(text, tags, filters).files

    def _counted(self, text: str | None, tags: Sequence[str], filters: Mapping[str, str | float | None]) -> FacetsOut:
        return self._ask(FacetsOut, "GET", "/v1/tags", {"q": text, "tag": tags, "limit": 1, **filters})

    def export(
        self,
        file: IO[bytes],
        text: str | None = None,
        *,
        tags: Sequence[str] = (),
        **filters: str | float | None,
    ) -> None:
        """Write all hits of a search into a file, in bounded memory. ``format="csv"`` and the like choose its format.

        Raises:
            UnreachableError: the connection broke before the file was complete.
        """
        self._receive("/v1/export", {"q": text, "tag": tags, **filters}, file)

    def _receive(self, path: str, wanted: Mapping[str, object], file: IO[bytes]) -> None:
        response = self._send("GET", path, wanted, preload_content=False)
        try:
            for chunk in response.stream(_CHUNK_BYTES):
                file.write(chunk)
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(f"{self._url} broke off before the file was complete: {error}") from error
        finally:
            response.release_conn()

    # Images --------------------------------------------------------------------------------------------------------

    def image(self, image_id: int) -> ImageOut:
        """Return everything that is known about an image."""
        return self._ask(ImageOut, "GET", f"/v1/images/{image_id}")

    def correct(self, image_id: int, tag: str, *, present: bool) -> ImageOut:
        """Add a tag to an image, or remove it. The correction overrides the model."""
        sent = {"present": present}
        return self._ask(ImageOut, "PUT", f"/v1/images/{image_id}/tags/{quote(tag, safe='')}", json=sent)

    def reset_tag(self, image_id: int, tag: str) -> ImageOut:
        """Remove the correction of a tag of an image, so that the model decides again."""
        return self._ask(ImageOut, "DELETE", f"/v1/images/{image_id}/tags/{quote(tag, safe='')}")

    def text(self, image_id: int, generation: int | None = None) -> ReadingOut:
        """Return the lines of text in an image, with their places. ``generation``: the one that read it."""
        return self._ask(ReadingOut, "GET", f"/v1/images/{image_id}/text", {"generation": generation})

    def text_file(self, image_id: int, format_: Literal["txt", "hocr", "alto"], generation: int | None = None) -> str:
        """Return the text in an image as plain text, hOCR or ALTO."""
        wanted = {"format": format_, "generation": generation}
        return self._send("GET", f"/v1/images/{image_id}/text", wanted).data.decode()

    def correct_text(self, image_id: int, polygon: Sequence[Sequence[float]], text: str | None) -> ReadingOut:
        """Correct the text at a place of an image: four corners (x, y) in 0..1. None: there is no text."""
        body = {"polygon": [list(corner) for corner in polygon], "text": text}
        return self._ask(ReadingOut, "POST", f"/v1/images/{image_id}/text/corrections", json=body)

    def reset_text(self, image_id: int, correction_id: int) -> ReadingOut:
        """Remove a correction of the text in an image."""
        return self._ask(ReadingOut, "DELETE", f"/v1/images/{image_id}/text/corrections/{correction_id}")

    def regions(self, image_id: int, generation: int | None = None) -> RegionsOut:
        """Return where tags are in an image."""
        return self._ask(RegionsOut, "GET", f"/v1/images/{image_id}/regions", {"generation": generation})

    def correct_region(self, image_id: int, tag: str, box: Sequence[float], *, is_there: bool) -> RegionsOut:
        """Draw a region of a tag (left, top, right, bottom in 0..1), or reject those that are at about this place."""
        body = {"tag": tag, "box": list(box), "is_there": is_there}
        return self._ask(RegionsOut, "POST", f"/v1/images/{image_id}/regions/corrections", json=body)

    def reset_region(self, image_id: int, correction_id: int) -> RegionsOut:
        """Remove a correction of the regions of an image."""
        return self._ask(RegionsOut, "DELETE", f"/v1/images/{image_id}/regions/corrections/{correction_id}")

    def crop(self, image_id: int, number: int, side: int = 256) -> bytes:
        """Return a JPEG of one region of an image, whose longest side is about ``side`` pixels, or fewer."""
        return self._send("GET", f"/v1/images/{image_id}/regions/{number}/crop", {"side": side}).data

    def thumbnail(self, image_id: int, size: int = 320) -> bytes:
        """Return a JPEG whose longest side is about ``size`` pixels."""
        return self._send("GET", f"/v1/images/{image_id}/thumbnail", {"size": size}).data

    def delete(self, image_id: int) -> DeletionOut:
        """Erase everything about an image. The original stays."""
        return self._ask(DeletionOut, "DELETE", f"/v1/images/{image_id}")

    def rename_archive(self, archive_id: int, uri: str, *, force: bool = False) -> ArchiveOut:
        """Give an archive its new address. With ``force``, none of its images needs to be there yet."""
        return self._ask(ArchiveOut, "PATCH", f"/v1/archives/{archive_id}", json={"uri": uri, "force": force})

    def remove_archive(self, archive_id: int) -> DeletionOut:
        """Erase everything about an archive. The originals stay."""
        return self._ask(DeletionOut, "DELETE", f"/v1/archives/{archive_id}")

    def archives(self) -> list[ArchiveOut]:
        """Return the archives, and how many images of each are listed and recorded."""
        return self._ask(PageOut[ArchiveOut], "GET", "/v1/archives").items

    def index(self) -> list[IndexOut]:
        """Return the state of each generation's index."""
        return self._ask(PageOut[IndexOut], "GET", "/v1/index").items

    def generations(self) -> list[GenerationStateOut]:
        """Return every generation and how much it has recorded."""
        return self._ask(PageOut[GenerationStateOut], "GET", "/v1/generations").items

    def trainings(self) -> list[TrainingOut]:
        """Return the trainings in the server's folder, the last one first."""
        return self._ask(PageOut[TrainingOut], "GET", "/v1/training").items

    def training(self, name: str) -> TrainingCurveOut:
        """Return a training with the course of its losses."""
        return self._ask(TrainingCurveOut, "GET", f"/v1/training/{quote(name, safe='')}")

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
            raise UnreachableError(
                f"the server at {self._url} is not this version of ramq; check the URL and its version"
            ) from error

    def _send(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, object],
        *,
        headers: Mapping[str, str] | None = None,
        **sent: Any,
    ) -> urllib3.BaseHTTPResponse:
        if not {".", ".."}.isdisjoint(path.split("/")):
            raise ValueError(f"{path}: '.' and '..' cannot be sent in an address, which would be another one")
        if headers and ONCE in headers:
            sent["retries"] = self._whatever_the_method
        url = f"{self._url}{path}?{urlencode(_pairs(parameters))}"
        try:
            response = self._pool.request(method, url, headers={**self._pool.headers, **(headers or {})}, **sent)
            # An image that was merged into another one. Only within this server, since the token is sent.
            if response.status == 308 and (there := response.headers.get("location", "")).startswith(_IMAGES):
                url = f"{self._url}{there}"
                response = self._pool.request(method, url, headers={**self._pool.headers, **(headers or {})}, **sent)
        except urllib3.exceptions.HTTPError as error:
            raise UnreachableError(f"{self._url} does not answer: {error}") from error
        if response.status >= 300:
            raise _refusal(self._url, response)
        return response


def _pairs(parameters: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the pairs of the query string, without None and empty values."""
    pairs = []
    for name, value in parameters.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        pairs += [(name, str(each)) for each in values if each is not None and each != ""]
    return pairs


def _refusal(url: str, response: urllib3.BaseHTTPResponse) -> Exception:
    try:
        return ProblemError(Problem.model_validate_json(response.data))
    except ValidationError:
        return UnreachableError(f"{url} answered {response.status}, but not as ramq does; check the URL")
