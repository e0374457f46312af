"""Requests to Milvus: collections, rows, filters, nearest vectors.

A row's key, ``pk``, is the negative image id. Milvus returns rows only in ascending order of their keys, and the newest
images are wanted first.
"""

from __future__ import annotations

import logging
import re
from contextlib import contextmanager
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np

from storage.errors import ServiceUnavailableError, UsageError
from storage.index.file_storage import SETTING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from urllib.parse import SplitResult

    from numpy.typing import NDArray
    from pymilvus import MilvusClient

    from storage.results.projection import RawRows

SCHEMES = ("milvus+http", "milvus+https", "milvus+file")

ROWS_AT_ONCE = 10_000
"""Rows per answer. Milvus returns at most 16,384."""

MOST_NEAREST = 16_384
"""Milvus' own limit for the number of nearest vectors."""

OLDEST = (2, 3, 5)
"""The oldest server that ramq was tested with. Servers before 2.3 have no fields that are lists."""

INDEXED_SINCE = (2, 5)
"""The first version with inverted indexes of every filtered field. Older servers test filters row by row."""

_LEAST_EFFORT, _MOST_EFFORT = 512, 32_768
"""Candidates of a search in a server's graph (``ef``), at least and at most. Left alone, a server keeps only as many as
are asked for, and misses neighbours."""

_ROWS_PER_UPSERT = 2_000  # about 8 MB with vectors of 1,024 numbers; a message may have 64 MB
_CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 60.0  # without a limit, the client repeats a request 75 times while the server is away
_NO_CONNECTION, _NO_DATABASE = 2, 800  # codes of the client and of Milvus
_LONGEST_DETAIL = 300  # characters
_KEY_DIGITS = 16_384
_MOST_TAGS = 4_096  # Milvus' own limit for an array
_FILTERED = ("archive", "job", "modified", "size", "key", "assigned")


class Milvus:
    """A Milvus database. Connects when it is first needed. Thread-safe.

    Args:
        url: ``milvus+http://user:password@host:19530/database`` or ``milvus+https://…`` for a server, or
            ``milvus+file:///path.db`` for a milvus-lite file, which only one process can open at a time.
        request_seconds: how long a request may take.
        setting: the setting that has the URL, for errors.

    Raises:
        UsageError: any other kind of URL.
    """

    def __init__(self, url: str, *, request_seconds: float = REQUEST_SECONDS, setting: str = SETTING) -> None:
        self._setting = setting
        parts = self._parts_of(url)
        self._is_file = parts.scheme == "milvus+file"
        self._options: dict[str, Any] = {"uri": unquote(parts.path)}
        if not self._is_file:
            port = parts.port or (443 if parts.scheme == "milvus+https" else 19530)
            self._options = {"uri": f"{parts.scheme.removeprefix('milvus+')}://{parts.hostname}:{port}"}
            if parts.username:
                self._options["token"] = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            if parts.path.strip("/"):
                self._options["db_name"] = parts.path.strip("/")
            self._options["timeout"] = _CONNECT_SECONDS
        self._request_seconds = request_seconds
        self._lock = Lock()

    def _parts_of(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            is_told = bool(parts.path.strip("/") if parts.scheme == "milvus+file" else parts.hostname)
            is_one = parts.scheme in SCHEMES and is_told and (parts.port is None or parts.port > 0)
            shown = f"{parts.scheme}://{parts.hostname or ''}"
        except ValueError:  # a port that is no number, or brackets that are not closed
            is_one, shown = False, url.rpartition("@")[2]
        if not is_one:
            raise UsageError(
                f"the index cannot be kept in {shown}: {self._setting} must be milvus+http://host:19530/database, "
                "milvus+https://… or milvus+file:///path.db"
            )
        return parts

    @cached_property
    def _opened(self) -> MilvusClient:
        try:
            from pymilvus import MilvusClient  # noqa: PLC0415  (an extra, and slow to import)
        except ImportError as error:
            raise UsageError(
                f"{self._setting} names Milvus, and a package for it is not installed: pip install 'ramq[milvus]'"
            ) from error
        # It logs each error with a traceback before it raises it.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        return MilvusClient(**self._options)

    @contextmanager
    def opened(self) -> Iterator[MilvusClient]:
        """Yield the client. Translate its errors.

        Raises:
            UsageError: the package is missing.
            ServiceUnavailableError: Milvus cannot be reached, or rejected the request.
        """
        try:
            with self._lock:  # only one thread connects
                client = self._opened
        except UsageError:
            raise
        except Exception as error:  # pymilvus' own classes may not be importable
            raise self._unavailable(error) from error
        from grpc import RpcError  # noqa: PLC0415
        from pymilvus.exceptions import MilvusException  # noqa: PLC0415

        try:
            yield client
        except (MilvusException, RpcError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> ServiceUnavailableError:
        """Return the error for people: what Milvus refused, or that it did not answer."""
        place = f"Milvus at {self._options['uri']}"
        status = _status_of(error)
        detail = _detail_of(error)
        if status == "UNAUTHENTICATED" and "token" not in self._options:
            said = (
                f"{place} wants a user and a password: set {self._setting} to milvus+http://user:password@host:19530/…"
            )
        elif status == "UNAUTHENTICATED":
            said = f"{place} rejects the user or the password in {self._setting}"
        elif getattr(error, "code", None) == _NO_DATABASE:
            said = f"{place} has no database {self._options.get('db_name')}: create it, or correct {self._setting}"
        elif status == "PERMISSION_DENIED":
            said = f"{place} does not allow this to the user in {self._setting}: {detail}"
        elif status == "DEADLINE_EXCEEDED":
            said = f"{place} ({self._setting}) did not answer within {self._request_seconds:.0f} seconds"
        elif status or getattr(error, "code", None) == _NO_CONNECTION or "_opened" not in self.__dict__:
            said = f"Milvus cannot be reached at {self._options['uri']} ({self._setting}): {detail}"
        else:
            said = f"{place} ({self._setting}) rejected the request: {detail}"
        return ServiceUnavailableError(said)

    def check(self) -> None:
        """Raise ``ServiceUnavailableError`` if Milvus cannot be used.

        It cannot be reached, rejects the user, lacks the database, or is too old for ramq's collections.
        """
        self._version()
        self.collections()  # servers tell their version to everybody

    def _version(self) -> tuple[int, int, int] | None:
        """Return the server's version; None if it is a build without a number.

        Raises:
            ServiceUnavailableError: the version is older than ``OLDEST``.
        """
        with self.opened() as client:
            said = str(client.get_server_version(timeout=self._request_seconds))
        found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
        if self._is_file or found is None:
            return None
        version = (int(found[1]), int(found[2]), int(found[3] or 0))
        if version < OLDEST:
            raise ServiceUnavailableError(
                f"Milvus at {self._options['uri']} ({self._setting}) is version {said}, which ramq does not work with: "
                f"upgrade it to {_dotted(INDEXED_SINCE)} or newer, or to {_dotted(OLDEST)} at least, where filters "
                "are slower"
            )
        return version

    def close(self) -> None:
        """Close the connection or the file, if it is open."""
        with self._lock:
            if "_opened" in self.__dict__:
                self._opened.close()

    # Collections ------------------------------------------------------------------------------------------------------

    def collections(self) -> list[str]:
        """Return the names of all collections."""
        with self.opened() as client:
            return list(client.list_collections(timeout=self._request_seconds))

    def has(self, collection: str) -> bool:
        """Return whether the collection exists."""
        with self.opened() as client:
            return bool(client.has_collection(collection, timeout=self._request_seconds))

    def create(self, collection: str, vector_size: int) -> None:
        """Create an empty collection for vectors of ``vector_size`` numbers, and load it for search."""
        version = self._version()
        # milvus-lite and older servers have no inverted indexes of arrays. They find the same rows without.
        has_filter_indexes = not self._is_file and (version is None or version >= INDEXED_SINCE)
        with self.opened() as client:
            from pymilvus import DataType  # noqa: PLC0415

            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("pk", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vector_size)
            for name in ("archive", "job", "modified", "size"):
                schema.add_field(name, DataType.INT64)
            schema.add_field("key", DataType.VARCHAR, max_length=_KEY_DIGITS)
            schema.add_field("assigned", DataType.ARRAY, element_type=DataType.INT16, max_capacity=_MOST_TAGS)
            schema.add_field("scores", DataType.JSON)
            indexes = client.prepare_index_params()
            indexes.add_index("vector", index_type="FLAT" if self._is_file else "AUTOINDEX", metric_type="IP")
            for name in _FILTERED if has_filter_indexes else ():
                indexes.add_index(name, index_type="INVERTED")
            # A search must see everything written before the watermark that it read, by any writer.
            client.create_collection(
                collection,
                schema=schema,
                index_params=indexes,
                consistency_level="Strong",
                timeout=self._request_seconds,
            )

    def drop(self, collection: str) -> None:
        """Drop a collection with all its rows."""
        with self.opened() as client:
            client.drop_collection(collection, timeout=self._request_seconds)

    def load(self, collection: str) -> None:
        """Load a collection for search. A restarted server may need this."""
        with self.opened() as client:
            client.load_collection(collection, timeout=self._request_seconds)

    def compact(self, collection: str) -> None:
        """Ask Milvus to remove deleted rows from its files. It does so later."""
        if self._is_file:
            return  # milvus-lite does it by itself and has no call for it
        with self.opened() as client:
            client.compact(collection, timeout=self._request_seconds)

    # Rows -------------------------------------------------------------------------------------------------------------

    def upsert(
        self, collection: str, raw: RawRows, vectors: NDArray[np.float16], assigned_units: NDArray[np.int32]
    ) -> None:
        """Write rows with their vectors (N, D). They replace existing rows of these images."""
        for start in range(0, len(raw.ids), _ROWS_PER_UPSERT):
            rows = range(start, min(start + _ROWS_PER_UPSERT, len(raw.ids)))
            with self.opened() as client:
                client.upsert(
                    collection,
                    [_entity(raw, row, vectors[row], assigned_units) for row in rows],
                    timeout=self._request_seconds,
                )

    def delete(self, collection: str, image_ids: Sequence[int]) -> None:
        """Delete images. Missing ones are not an error."""
        for start in range(0, len(image_ids), ROWS_AT_ONCE):
            with self.opened() as client:
                client.delete(
                    collection,
                    ids=[-image_id for image_id in image_ids[start : start + ROWS_AT_ONCE]],
                    timeout=self._request_seconds,
                )

    def count(self, collection: str, filter_: str) -> int:
        """Return the number of rows that match a filter."""
        with self.opened() as client:
            found = client.query(collection, filter=filter_, output_fields=["count(*)"], timeout=self._request_seconds)
            return int(found[0]["count(*)"])

    def rows(
        self, collection: str, filter_: str, fields: Sequence[str], limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield fields, and ``pk``, of the rows that match a filter, newest image first, at most ``limit``."""
        last = None
        left = limit
        while left is None or left > 0:
            asked = ROWS_AT_ONCE if left is None else min(left, ROWS_AT_ONCE)
            following = filter_ if last is None else f"({filter_}) and pk > {last}"
            with self.opened() as client:
                # milvus-lite only keeps the order if it expects a further request.
                found = client.query(
                    collection,
                    filter=following,
                    output_fields=["pk", *fields],
                    limit=asked,
                    timeout=self._request_seconds,
                    iterator="True",
                )
            yield from found
            if len(found) < asked:
                return
            last = found[-1]["pk"]
            left = None if left is None else left - len(found)

    def nearest(
        self, collection: str, filter_: str, query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return up to ``k`` (image ids, inner products with ``query`` (D,)) of the rows that match, best first."""
        limit = min(k, MOST_NEAREST)
        effort = {"params": {"ef": min(max(_LEAST_EFFORT, 2 * limit), _MOST_EFFORT)}}
        with self.opened() as client:
            (hits,) = client.search(
                collection,
                data=[query],
                filter=filter_,
                limit=limit,
                search_params={} if self._is_file else effort,
                timeout=self._request_seconds,
            )
        ids = np.array([-hit.id for hit in hits], dtype=np.int64)
        return ids, np.array([hit["distance"] for hit in hits], dtype=np.float32)


def _status_of(error: BaseException) -> str:
    """Return the name of the gRPC status with which a request failed; empty if Milvus itself answered."""
    for each in (error, error.__cause__):
        code = getattr(each, "code", None)
        name = getattr(code() if callable(code) else code, "name", None)
        if isinstance(name, str):
            return name
    return ""


def _detail_of(error: BaseException) -> str:
    """Return the reason as one line: gRPC's if there is one, which says more than the client's."""
    for each in (error, error.__cause__):
        details = getattr(each, "details", None)
        if callable(details) and details():
            return " ".join(str(details()).split())[:_LONGEST_DETAIL]
    return " ".join(str(getattr(error, "message", error)).split())[:_LONGEST_DETAIL]


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _entity(
    raw: RawRows, row: int, vector: NDArray[np.float16], assigned_units: NDArray[np.int32]
) -> dict[str, object]:
    facts = facts_of(raw, row)
    tags = {int(tag): units for tag, units in facts["scores"].items()}
    assigned = [tag for tag, units in tags.items() if tag < len(assigned_units) and units > assigned_units[tag]]
    return {**facts, "vector": vector.astype(np.float32), "assigned": assigned}


def facts_of(raw: RawRows, row: int) -> dict[str, Any]:
    """Return the fields of a row except its vector."""
    key = slice(int(raw.key_offsets[row]), int(raw.key_offsets[row + 1]))
    tags = slice(int(raw.tag_offsets[row]), int(raw.tag_offsets[row + 1]))
    scores = zip(raw.tags[tags].tolist(), raw.scores[tags].tolist(), strict=True)
    return {
        "pk": -int(raw.ids[row]),
        "archive": int(raw.archives[row]),
        "job": int(raw.jobs[row]),
        "modified": int(raw.modified[row]),
        "size": int(raw.sizes[row]),
        "key": raw.key_bytes[key].tobytes().hex(),
        "scores": {str(tag): units for tag, units in scores},
    }
