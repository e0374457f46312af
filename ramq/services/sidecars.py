"""XMP sidecars: what is known of images, in small files beside them that other programs read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal, TypeVar

from ram_core.hierarchy.wordnet import paths
from ram_core.stored_orientation import orientation_of
from ram_core.xmp_packet import PacketError, Words, written
from ram_core.xmp_regions import Regions
from storage.database import unit_of_work
from storage.errors import ForbiddenError, PermanentError, UsageError
from storage.objects.folder_writes import rewrite
from storage.objects.source import Source, open_bucket, parse_source, require_writable
from storage.results import sidecars
from storage.results.metadata import LEVELS
from storage.results.views import COMPOSED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from sqlalchemy import Engine

    from ramq.services.images import ImageClient
    from ramq.services.regions import RegionClient
    from storage.objects.base import S3Options
    from storage.objects.s3_writes import BucketWriter
    from storage.search.views import Hit

Naming = Literal["full", "lightroom"]

T = TypeVar("T")
RegionsOf = Callable[["Hit"], Regions | None]
Change = Callable[[bytes | None], bytes | None]
"""Gets what a sidecar holds, None if there is none, and returns what it shall hold; None: it stays as it is."""

AT_ONCE = 16
"""Sidecars that are read or written at the same time."""

_ENDING = ".xmp"
# Lightroom reads sidecars of camera raw alone, and expects them without the ending of the raw file.
_RAW = frozenset(
    {
        "3fr", "arw", "cr2", "cr3", "crw", "dcr", "erf", "iiq", "kdc", "mef", "mos", "mrw", "nef", "nrw", "orf", "pef",
        "raf", "raw", "rw2", "sr2", "srf", "srw", "x3f",
    }
)  # fmt: skip


@dataclass(slots=True)
class Written:
    """How many sidecars were written, had everything already, and could not be written.

    ``further_pages`` have none: a sidecar is beside a file, and speaks of its first page.
    """

    written: int = 0
    unchanged: int = 0
    left_out: int = 0
    without_regions: int = 0
    further_pages: int = 0


def write_sidecars(
    hits: Iterable[Hit],
    place: SidecarPlace,
    failed: Callable[[Hit, str], None],
    *,
    naming: Naming = "full",
    with_captions: bool = True,
    regions_of: RegionsOf | None = None,
) -> Written:
    """Write a sidecar for each hit, or bring the one that is there up to date. Originals are not touched.

    Args:
        hits: the images.
        place: where the sidecars go.
        failed: is told of each image whose sidecar could not be written.
        naming: ``full``: ``IMG_1.NEF.xmp``, which digiKam and darktable read. ``lightroom``: ``IMG_1.xmp`` for camera
            raw, ``IMG_1.JPG.xmp`` for other images.
        with_captions: also write captions of models, where nobody has written a description.
        regions_of: returns the regions of a hit; None: leave regions as they are.

    Raises:
        ForbiddenError: a bucket may not be written to.
        UsageError: a bucket ignores the conditions of writes.
    """
    found = Written()

    def write(hit: Hit) -> tuple[bool, bool]:
        regions, is_placed = None, True
        if regions_of is not None:
            try:
                regions = regions_of(hit)
            except NoPlaceError:
                is_placed = False  # the words are written
        is_new = place.rewrite(hit, _name(hit.key, naming), _changing(hit, regions, with_captions=with_captions))
        return is_new, is_placed

    for hit, result in _each(_first_pages(hits, found), write):
        try:
            is_new, is_placed = result()
        except ForbiddenError:
            raise
        except (PermanentError, UsageError, PacketError) as error:
            if fault := place.fault:
                raise UsageError(fault) from error
            found.left_out += 1
            failed(hit, str(error))
            continue
        found.written += is_new
        found.unchanged += not is_new
        found.without_regions += not is_placed
    return found


def _first_pages(hits: Iterable[Hit], found: Written) -> Iterator[Hit]:
    """Yield the hits that are files, and count the others."""
    for hit in hits:
        if hit.file_key in {hit.key, ""}:
            yield hit
        else:
            found.further_pages += 1


def _each(hits: Iterable[Hit], write: Callable[[Hit], T]) -> Iterator[tuple[Hit, Callable[[], T]]]:
    """Write several at once, since a bucket takes long to answer. Yield each with its result, in order."""
    waiting: deque[tuple[Hit, Future[T]]] = deque()
    with ThreadPoolExecutor(AT_ONCE, "sidecars") as pool:
        try:
            for hit in hits:
                waiting.append((hit, pool.submit(write, hit)))
                if len(waiting) > 4 * AT_ONCE:
                    first, future = waiting.popleft()
                    yield first, future.result
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result
        finally:  # what has not begun does not begin any more
            for _, future in waiting:
                future.cancel()


class NoPlaceError(Exception):
    """Where regions are in the stored picture is not known: its format turns it in another way than EXIF does."""


class RegionsInFiles:
    """The located regions of images, and how their files are stored. Thread-safe.

    Args:
        regions: the regions.
        images: the originals, of which the part that says the orientation is read.
    """

    def __init__(self, regions: RegionClient, images: ImageClient) -> None:
        self._regions = regions
        self._images = images

    def __call__(self, hit: Hit) -> Regions | None:
        """Return the regions of a hit; None: it was not located.

        Raises:
            NoPlaceError: its format turns pictures in another way than EXIF does.
            PermanentError: its original cannot be read.
        """
        view = self._regions.views([hit.image_id]).get(hit.image_id)
        if view is None:
            return None
        named = tuple((region.tag, region.box) for region in view.regions)
        if not named:
            return Regions(hit.width, hit.height, 1, ())
        with self._images.original(hit.image_id).file() as file:
            orientation = orientation_of(file)
        if orientation is None:
            raise NoPlaceError(f"where regions are in {hit.key} as it is stored is not known")
        return Regions(hit.width, hit.height, orientation, named)


class SidecarPlace:
    """Where sidecars go. Thread-safe.

    Args:
        to: a folder, or a bucket with a prefix, below which they lie by their keys. Keys of several archives may be
            equal, so it takes those of one. None: beside the originals.
        write_allow: buckets and prefixes that may be written to.
        s3: how to reach buckets.
        engine: the database, which knows the other images.
    """

    def __init__(self, to: Path | Source | None, write_allow: tuple[str, ...], s3: S3Options, engine: Engine) -> None:
        self._engine = engine
        self._to = to
        self._write_allow = write_allow
        self._s3 = s3
        self._archive: str | None = None
        self._writers: dict[str, BucketWriter] = {}
        self._lock = Lock()
        if isinstance(to, Source):
            require_writable(to, write_allow)

    @property
    def fault(self) -> str | None:
        """Why nothing more can be written to a bucket; None: nothing is known against it."""
        return next((writer.fault for writer in self._writers.values() if writer.fault), None)

    def rewrite(self, hit: Hit, name: str, change: Change) -> bool:
        """Change the sidecar of a hit, whose key is ``name``. Return whether one was written.

        Beside originals there may be one of another name, with words of people. It is completed if it belongs to this
        image alone. Else the new one begins with what it holds, since that would not be seen behind the new one.
        """
        if self._to is not None:
            self._require_one_archive(hit)
            return self._write(hit, name, change)
        if hit.missing:
            raise UsageError("its original is missing")
        completed: list[str] = []

        def changed(packet: bytes | None) -> bytes | None:
            completed.clear()
            other = None if packet is not None else self._other(hit, name)
            if other is None:
                return change(packet)
            if other[0].lower() == name.lower() or (name.startswith(hit.key) and not self._is_shared(hit)):
                completed.append(other[0])
                return None
            return change(other[1])

        is_written = self._write(hit, name, changed)
        return self._write(hit, completed[0], change) if completed else is_written

    def _other(self, hit: Hit, name: str) -> tuple[str, bytes] | None:
        """Return the first sidecar of a hit that has another name, and what it holds."""
        held: list[bytes | None] = []
        for other in sidecars.names_of(hit.key):
            if other != name:
                self._write(hit, other, held.append)  # which returns None: it stays as it is
                if (packet := held.pop()) is not None:
                    return other, packet
        return None

    def _is_shared(self, hit: Hit) -> bool:
        with unit_of_work(self._engine) as session:
            return sidecars.shares_stem(session, hit.image_id, hit.key)

    def _write(self, hit: Hit, name: str, change: Change) -> bool:
        if isinstance(self._to, Path):
            return rewrite(self._to, name, change, with_folders=True)
        beside = parse_source(hit.archive)
        if self._to is None and beside.in_tars:
            raise UsageError("its archive is in tar files, which are never written: use --out or --to")
        if self._to is None and beside.scheme == "file":
            return rewrite(Path(beside.root), name, change, with_folders=False)
        source = self._to or beside
        if self._to is None:
            require_writable(beside, self._write_allow)
        else:
            name = f"{self._to.prefix}/{name}" if self._to.prefix else name
        return self._writer(source.root).rewrite(name, change)

    def _require_one_archive(self, hit: Hit) -> None:
        with self._lock:
            self._archive = self._archive or hit.archive
        if hit.archive != self._archive:
            raise UsageError(f"it is not of {self._archive}: write the sidecars of each archive to a place of its own")

    def _writer(self, bucket: str) -> BucketWriter:
        from storage.objects.s3_writes import BucketWriter  # noqa: PLC0415  (boto3 takes a while to import)

        with self._lock:
            if bucket not in self._writers:
                self._writers[bucket] = BucketWriter(open_bucket(bucket, self._s3), "application/rdf+xml")
            return self._writers[bucket]


def _name(key: str, naming: Naming) -> str:
    if key.lower().endswith(_ENDING):
        raise UsageError("it is a sidecar itself")
    folder, slash, name = key.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    if naming == "lightroom" and dot and ending.lower() in _RAW:
        name = stem
    return f"{folder}{slash}{name}{_ENDING}"


def _given(keywords: Iterable[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return keywords of people as plain ones, and those with levels also as paths. Each level is a plain keyword."""
    found: list[str] = []
    hierarchies = []
    for word in keywords:
        levels = tuple(level for level in (each.strip() for each in word.split(LEVELS)) if level)
        found += levels
        if len(levels) > 1:
            hierarchies.append(levels)
    return found, hierarchies


def _changing(hit: Hit, regions: Regions | None, *, with_captions: bool) -> Change:
    names = [tag.name for tag in hit.tags]
    is_told = with_captions and hit.captioner not in {COMPOSED, None} and not hit.caption_contradicts
    given, hierarchies = _given(hit.keywords)
    every = tuple(dict.fromkeys((*names, *given)))
    words = Words(every, (*paths(names), *hierarchies), hit.caption if is_told else None, regions)

    def change(packet: bytes | None) -> bytes | None:
        has_regions = regions is not None and regions.named
        if packet is None and not every and not words.description and not has_regions:
            return None
        return written(packet, words)

    return change
