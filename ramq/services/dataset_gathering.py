"""Reading the sources of a data set: which images, and which captions people gave them.

A source is a manifest, an archive or a folder in one (by URI, path or number), or a search in the query language.
Only images that ramq has recognised can be in a data set. All others are counted, and named.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from ramq.services.dataset_files import MAX_SIDECAR_BYTES, captions_of, is_caption, sidecar_captions
from ramq.services.dataset_files import read as read_file
from ramq.services.dataset_hearing import heard
from ramq.services.dataset_told import item, labels_of
from storage.batches import batched
from storage.database import unit_of_work
from storage.datasets import gathering, items, labels, matching, sources, versions
from storage.datasets.items import Item
from storage.datasets.sources import Place
from storage.errors import NotFoundError, PermanentError, TransientError, UsageError
from storage.objects.manifest import Manifest, is_manifest
from storage.objects.source import parse_source
from storage.objects.tables import column_name
from storage.objects.tars import TarStore
from storage.results import archives
from storage.search.views import SearchQuery
from workers.pipeline.retry import backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ramq.services.dataset_told import Told
    from ramq.services.search import SearchClient
    from storage.datasets.sources import Sidecar
    from storage.datasets.versions import VersionView
    from storage.objects.base import ObjectStore
    from storage.objects.source import ArchiveAccess
    from storage.results.tags import Names


_BLOCK = 5_000
_READERS = 16
_TRIES = 5
"""So often a file beside a picture is fetched, if its store fails for a moment each time."""
_NAMED = 100
"""Names of images that were left out which a version keeps."""


class Gatherer:
    """Reads sources into a version whose step is in its first phase.

    Args:
        engine: the database.
        version: the version. Its settings have the ``generation`` that recognised the images.
        search: finds the images of searches.
        access: which archives may be read.
    """

    def __init__(self, engine: Engine, version: VersionView, search: SearchClient, access: ArchiveAccess) -> None:
        self._engine = engine
        self._version = version
        self._generation_id: int = version.settings["generation"]
        self._search = search
        self._access = access
        self._places: dict[tuple[int, str], Place] = {}
        self._stores: dict[str, ObjectStore] = {}
        self._lock = threading.Lock()
        self._pictures = 0
        self.left_out: dict[str, int] = {}
        self.names: list[str] = []

    def add(self, source: str, column: str | None = None) -> None:
        """Add the images of a source. ``column`` is that of captions, of a manifest.

        Raises:
            NotFoundError: there is no such archive or manifest.
            UsageError: it is not valid, or none of its images is recognised.
        """
        if is_manifest(source):
            self._add_manifest(source, column)
        elif is_address(source):
            self._add_archive(source)
        else:
            self._add_query(source)

    def heard(self) -> AbstractContextManager[None]:
        """Return a block in which a sign of life is given every few seconds, whatever takes long."""
        return heard(self._engine, self._hear)

    def end(self, next_phase: str) -> None:
        """Say that all sources were read. Raises ``UsageError`` if there is no picture."""
        with unit_of_work(self._engine) as session:
            if not items.count(session, self._version.id):
                raise UsageError("no picture of the sources can be in the data set: " + (self._reasons() or "none"))
            left_out = {name: count for name, count in sorted(self.left_out.items()) if count}
            versions.add_counts(
                session, self._version.id, {"left_out": left_out, "left_out_names": self.names[:_NAMED]}
            )
            gathering.end(session, self._version.id, next_phase)

    # Sources -------------------------------------------------------------------------------------------------------

    def _add_archive(self, source: str) -> None:
        place = self._place(source)
        after = 0
        while True:
            with unit_of_work(self._engine) as session:
                self._hear(session)
                page = sources.add_archive(
                    session, self._version.id, self._generation_id, place, after=after, limit=_BLOCK
                )
            self._pictures += page.added
            if page.last is None:
                break
            after = page.last
        with unit_of_work(self._engine) as session:
            left_out = sources.left_out(session, self._generation_id, place)
            if any(left_out.values()):
                self.names += sources.left_out_names(session, self._generation_id, place, _NAMED)
        for reason, count in left_out.items():
            self._count(reason, count)
        if not after:
            raise UsageError(f"no image of {source} is recognised yet; run `ramq enqueue {source}` first")

    def _add_query(self, source: str) -> None:
        query = self._search.read(SearchQuery(), source, is_strict=True)
        found = self._search.image_ids(query)
        if not found:
            raise UsageError(f"no recognised image matches {source!r}; if it is an archive, give its URI or its folder")
        for block in batched(found, _BLOCK):
            with unit_of_work(self._engine) as session:
                self._hear(session)
                added = sources.add_images(session, self._version.id, self._generation_id, block)
            self._pictures += added

    def _add_manifest(self, source: str, column: str | None) -> None:
        manifest = Manifest(source, self._access.s3)
        self._access.require(manifest.place)
        manifest.version()
        root = manifest.survey(self._access.allow, reachable=self._access.is_reachable)
        place = self._place(root.uri, manifest.uri)
        archive = parse_source(place.uri)
        is_known = 0
        below = root.prefix if root.scheme == "s3" else ""
        named = None if column is None else column_name(column)
        has_column = column is None
        for block in batched(manifest.told(archive, below, lambda each: is_caption(each, named)), _BLOCK):
            has_column |= any(named in row for _, row in block)
            told: dict[str, list[str]] = {}
            for key, row in block:
                told.setdefault(key, []).extend(captions_of(row, named))
            is_known += self._add_named(place, told)
        if not has_column:
            raise UsageError(f"{source} has no column {column!r} (--caption-column)")
        if not is_known:
            raise UsageError(f"no image of {source} is recognised yet; run `ramq enqueue {source}` first")

    def _add_named(self, place: Place, told: dict[str, list[str]]) -> int:
        """Add images by their keys, with captions. Return how many are recognised."""
        with unit_of_work(self._engine) as session:
            self._hear(session)
            known = matching.by_key(session, place, told)
            records = sources.versions_of(session, self._generation_id, list(known.values()))
            items.add(
                session,
                self._version.id,
                [
                    Item(known[key], records[known[key]], captions=texts, origins=["given"] * len(texts))
                    for key, texts in told.items()
                    if known.get(key) in records
                ],
            )
        self._pictures += len(records)
        for key in told:
            if key not in known:
                self._count("unknown", 1, key)
            elif known[key] not in records:
                self._count("not_recognised", 1, key)
        return len(records)

    # Captions ------------------------------------------------------------------------------------------------------

    def add_captions(self, file: str, column: str | None = None) -> None:
        """Add the captions of a file to the images of the version. Those of other images are counted.

        Raises:
            UsageError: the file cannot be read, or has captions of none of the images.
        """
        if self._access.is_reachable:
            raise UsageError("a file of captions is read by the command line; a server takes manifests with captions")
        if not self._add_told(read_file(Path(file), column)):
            raise UsageError(
                f"{file} has captions of none of the images; its column of images must have URIs, keys, or paths below "
                "a source"
            )

    def _add_told(self, told: Iterable[Told]) -> int:
        matched = 0
        with unit_of_work(self._engine) as session:
            places = [*self._places.values(), *sources.places_of(session, self._version.id)]
        for block in batched(told, _BLOCK):
            with unit_of_work(self._engine) as session:
                self._hear(session)
                ids = matching.match(session, places, [each.name for each in block])
                given: dict[int, list[str]] = {}
                for each in block:
                    if each.name in ids:
                        given.setdefault(ids[each.name], []).extend(each.captions)
                there = self._give(session, given)
            matched += len(there)
            for each in block:
                if ids.get(each.name) not in there:
                    self._count("caption_unmatched", 1, each.name)
        return matched

    def add_told(self, told: Iterable[Told], root: str | None, names: Names, parse: Callable[[str], list[int]]) -> None:
        """Add pictures with captions and tags, of images that are recognised.

        Args:
            told: what a file says of each picture.
            root: where the paths in the file begin: a URI or a folder of an archive. None: they are keys, or whole.
            names: the vocabulary of the data set.
            parse: finds the ids of the tags that a caption names, where the file does not say.

        Raises:
            UsageError: the file has no picture that is recognised.
            NotFoundError: there is no archive with ``root``.
        """
        if root is None:
            with unit_of_work(self._engine) as session:
                places = [Place(each.id, "", each.uri) for each in archives.every(session)]
        else:
            places = [self._place(root)]
        matched, tells_splits = 0, True
        for block in batched(told, _BLOCK):
            with unit_of_work(self._engine) as session:
                self._hear(session)
                ids = matching.match(session, places, [each.name for each in block])
                records = sources.versions_of(session, self._generation_id, list(ids.values()))
                there: dict[int, list[Told]] = {}
                for each in block:
                    if ids.get(each.name) in records:
                        there.setdefault(ids[each.name], []).append(each)
                items.add(session, self._version.id, [item(id_, records[id_], rows) for id_, rows in there.items()])
                found = [
                    label for id_, rows in there.items() for label in labels_of(id_, rows, names, parse, self._unknown)
                ]
                labels.merge(session, self._version.id, found)
            matched += len(there)
            self._pictures += len(there)
            tells_splits &= all(each.is_validation is not None for each in block)
            for each in block:
                if each.name not in ids:
                    self._count("unknown", 1, each.name)
                elif ids[each.name] not in records:
                    self._count("not_recognised", 1, each.name)
        if not matched:
            reasons = self._reasons() or "it has none"
            raise UsageError(
                f"no picture of the file is recognised ({reasons}); run `ramq enqueue` on them first, and give the "
                "folder or URI that their paths begin in (--images)"
            )
        with unit_of_work(self._engine) as session:
            versions.add_counts(session, self._version.id, {"keeps_splits": tells_splits})

    def add_sidecars(self) -> None:
        """Add the captions in text files beside the pictures of the version."""
        after: int | None = 0
        while after is not None:
            with unit_of_work(self._engine) as session:
                self._hear(session)
                beside, after = sources.sidecars(session, self._version.id, after, _BLOCK)
            with ThreadPoolExecutor(_READERS) as readers:
                texts = list(readers.map(self._read, beside))
            told: dict[int, list[str]] = {}
            for each, captions in zip(beside, texts, strict=True):
                told.setdefault(each.image_id, []).extend(captions)
            with unit_of_work(self._engine) as session:
                self._give(session, told)

    def _read(self, beside: Sidecar) -> list[str]:
        uri = beside.archive_uri
        store = self._stores.get(uri) or self._stores.setdefault(uri, self._access.open(parse_source(uri)))
        try:
            return [text for name, body in _texts(store, beside) for text in sidecar_captions(name, body)]
        except (PermanentError, UsageError):
            self._count("sidecar_unreadable", 1, beside.key)
            return []

    def _give(self, session: Session, told: dict[int, list[str]]) -> set[int]:
        """Give captions to those of these images that are in the version. Return which these are."""
        there = items.of_images(session, self._version.id, list(told))
        items.add(
            session,
            self._version.id,
            [
                Item(each.image_id, each.version, captions=texts, origins=["given"] * len(texts))
                for each in there
                if (texts := list(dict.fromkeys(told[each.image_id])))
            ],
        )
        return {each.image_id for each in there}

    # Parts ---------------------------------------------------------------------------------------------------------

    def _hear(self, session: Session) -> None:
        gathering.hear(session, self._version.id, self._pictures)

    def _place(self, source: str, named: str | None = None) -> Place:
        """Return where the images of an address are. Raises ``NotFoundError`` that says how to have them recognised."""
        with unit_of_work(self._engine) as session:
            try:
                archive_id, prefix = archives.resolve(session, source)
            except NotFoundError as error:
                raise NotFoundError(f"{error}; `ramq enqueue {named or source}` has its images recognised") from None
            place = Place(archive_id, prefix, archives.uri(session, archive_id))
        return self._places.setdefault((archive_id, prefix), place)

    def _count(self, reason: str, count: int, name: str | None = None) -> None:
        with self._lock:
            self.left_out[reason] = self.left_out.get(reason, 0) + count
            if name is not None and len(self.names) < _NAMED:
                self.names.append(name)

    def _unknown(self, tag: str) -> None:
        self._count("unknown_tag", 1, tag)

    def _reasons(self) -> str:
        return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in self.left_out.items() if count)


def _texts(store: ObjectStore, beside: Sidecar) -> list[tuple[str, bytes]]:
    """Return the names and contents of what is beside a picture. A store that fails for a moment is asked again."""
    for attempt in range(_TRIES):
        try:
            if isinstance(store, TarStore):
                return store.texts_beside(beside.key, beside.version)
            return [(beside.key, bytes(store.fetch(beside.key, beside.version, MAX_SIDECAR_BYTES).body))]
        except TransientError:
            if attempt == _TRIES - 1:
                raise
            time.sleep(backoff_seconds(attempt))
    raise AssertionError  # the last try returned or raised


def is_address(source: str) -> bool:
    """Return whether a source is an archive, or a folder in one, and no search."""
    return source.isdecimal() or "://" in source or source.removeprefix("tar+").startswith(("/", "./", "../", "~"))
