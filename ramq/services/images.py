"""Single images: their results, thumbnails and originals."""

from __future__ import annotations

from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from ramq.services.captions import Captions
from ramq.services.missing import MissingClient
from ramq.services.originals import Original, is_pdf, png_of
from storage.errors import NotFoundError
from storage.objects.base import ObjectChangedError
from storage.objects.pages import PageStore, number_of
from storage.objects.source import open_store, parse_source, require_allowed
from storage.remembered import read_only
from storage.results import archives, lookup, merged, regions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from ram_core.recognition import Preprocessing
    from ramq.services.thumbnails import Thumbnails
    from ramq.settings import Settings
    from storage.objects.base import ObjectStore
    from storage.results.region_views import Box
    from storage.results.views import ImageView
    from storage.search.search import Search
    from workers.pipeline.decoders import Decoders


CROP_MARGIN = 0.05
"""Of the width and the height of a region, on each side. Boxes of detectors are tight."""


_MOST_DRAWN = 2
"""Pages that are drawn in full size at once: each may have ``RAMQ_MAX_PIXELS``, of 3 bytes."""


def with_margin(box: Box, margin: float) -> Box:
    """Return a box that is larger by this share of its own width and height on each side, within the picture."""
    left, top, right, bottom = box
    across, down = margin * (right - left), margin * (bottom - top)
    return max(left - across, 0.0), max(top - down, 0.0), min(right + across, 1.0), min(bottom + down, 1.0)


class ImageClient:
    """Single images. Thread-safe.

    Args:
        engine: the database.
        settings: the options of the stores, and the archives that may be read.
        search: reads the database, and loads the vocabularies.
        thumbnails: the thumbnails on disk.
        decoders: returns the processes that decode images. They start with the first thumbnail.
        is_reachable: whether other machines can reach this process.

    Attributes:
        missing: images of which people said something and whose files are missing.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        search: Search,
        *,
        thumbnails: Thumbnails,
        decoders: Callable[[], Decoders],
        is_reachable: bool,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._search = search
        self._thumbnails = thumbnails
        self._decoders = decoders
        self._is_reachable = is_reachable
        self._stores: dict[str, ObjectStore] = {}
        self._captions = Captions(search)
        self._drawing = BoundedSemaphore(_MOST_DRAWN)
        self.missing = MissingClient(engine)

    def get(self, image_id: int) -> ImageView:
        """Return one image. Raises ``NotFoundError``."""
        with read_only(self._engine) as session:
            return self._captions.as_corrected(session, [self._search.image(session, image_id)])[0]

    def merged_into(self, image_id: int) -> int | None:
        """Return the image that took over the one with this number, as after a move; None: no image did."""
        with read_only(self._engine) as session:
            return merged.into(session, image_id)

    def find(self, text: str, archive: str | None = None) -> int:
        """Return the id of the image that ``text`` names by id, key or URI.

        Raises:
            UsageError: it names no image, or several.
        """
        with read_only(self._engine) as session:
            inside = [archive_id for archive_id, _ in archives.resolve_all(session, archive)] if archive else None
            return lookup.resolve(session, text, inside)

    def find_all(self, texts: Sequence[str], archive: str | None = None) -> list[int]:
        """Return the ids of the images that ``texts`` name, in their order. See ``find``, which takes one."""
        with read_only(self._engine) as session:
            inside = [archive_id for archive_id, _ in archives.resolve_all(session, archive)] if archive else None
            return lookup.resolve_all(session, texts, inside)

    def thumbnail(self, image_id: int, size: int = 320) -> tuple[bytes, str]:
        """Return a JPEG no larger than ``size`` (rounded up to a kept size) and its ETag.

        Raises:
            NotFoundError: there is no such image.
            PermanentError: its object cannot be fetched or decoded.
        """
        with read_only(self._engine) as session:
            place = lookup.locate(session, image_id)

        def make(side: int) -> NDArray[np.uint8]:
            from workers.pipeline.decode import ThumbnailTransform  # noqa: PLC0415  (Pillow; not every command needs it)

            return self._pixels(place, ThumbnailTransform(side))

        return self._thumbnails.get(image_id, place[2], size, make)

    def crop(self, image_id: int, number: int, side: int = 256) -> tuple[bytes, str]:
        """Return a JPEG of one region, with a margin of ``CROP_MARGIN``, and its ETag. Masks are not applied.

        Args:
            image_id: the image.
            number: the number of the region in ``RegionsView``.
            side: maximum length of the longer side in pixels, rounded up to a kept size. Nothing is enlarged.

        Raises:
            NotFoundError: there is no such image, tags were not located in it, or it has no such region.
            PermanentError: its object cannot be fetched or decoded.
        """
        with read_only(self._engine) as session:
            place = lookup.locate(session, image_id)
            found = regions.views(session, [image_id]).get(image_id)
        region = next((one for one in found.regions if one.number == number), None) if found else None
        if region is None:
            raise NotFoundError(f"image {image_id} has no region {number}; /v1/images/{image_id}/regions lists them")
        return self._part(image_id, place, region.box, side)

    def part(self, image_id: int, box: Box, side: int = 256) -> tuple[bytes, str]:
        """Return a JPEG of the part of an image in a box (0..1), as ``crop`` does of a region, and its ETag.

        Raises:
            NotFoundError: there is no such image.
            PermanentError: its object cannot be fetched or decoded.
        """
        with read_only(self._engine) as session:
            place = lookup.locate(session, image_id)
        return self._part(image_id, place, box, side)

    def _part(self, image_id: int, place: tuple[str, str, str], box: Box, side: int) -> tuple[bytes, str]:
        box = with_margin(box, CROP_MARGIN)

        def make(side: int) -> NDArray[np.uint8]:
            from workers.pipeline.decode import CropTransform  # noqa: PLC0415  (Pillow; not every command needs it)

            return self._pixels(place, CropTransform(box, side))

        return self._thumbnails.crop(image_id, place[2], box, side, make)

    def _pixels(self, place: tuple[str, str, str], transform: Preprocessing) -> NDArray[np.uint8]:
        uri, key, version = place
        store = PageStore(open_store(parse_source(uri), self._settings.s3))
        fetched = store.fetch(key, version, self._settings.max_object_bytes)
        return self._decoders().decode(fetched.body, transform, page=number_of(version)).pixels

    def original(self, image_id: int) -> Original:
        """Return an image's original, which can be read in parts. Reading its archive must be allowed.

        Raises:
            NotFoundError: there is no such image.
            ForbiddenError: the archive is not in ``RAMQ_ARCHIVE_ALLOW``.
            PermanentError: its object is gone, or reading it is forbidden.
            StoreUnavailableError: the store is unavailable.
        """
        with read_only(self._engine) as session:
            uri, key, version = lookup.locate(session, image_id)
        return Original(self._readable(uri), key, version)

    def content(self, image_id: int) -> bytes:
        """Return the original of an image as it was listed. Reading its archive must be allowed.

        Raises:
            NotFoundError: there is no such image.
            ForbiddenError: the archive is not in ``RAMQ_ARCHIVE_ALLOW``.
            PermanentError: its object is gone, has changed since, is too large, or reading it is forbidden.
            StoreUnavailableError: the store is unavailable.
        """
        return self._content(image_id)[0]

    def _content(self, image_id: int) -> tuple[bytes, str]:
        """Return an original as it was listed, and the version of the image."""
        with read_only(self._engine) as session:
            uri, key, version = lookup.locate(session, image_id)
        # An export calls this for each image. Making a store and its connections anew takes longer than most answers.
        store = self._stores.get(uri) or self._stores.setdefault(uri, self._readable(uri))
        fetched = store.fetch(key, version, self._settings.max_object_bytes)
        if version and fetched.version != version:
            raise ObjectChangedError("the object changed after it was listed; enqueue its archive again")
        return bytes(fetched.body), version

    def picture(self, image_id: int) -> bytes:
        """Return the picture of an image as a file that shows just this image: its original, or a PNG.

        A page behind the first of a file, and any page of a PDF, is a PNG of all its pixels: whoever opens the original
        would see another page, or none. Raises as ``content``, and ``PermanentError`` if the page cannot be decoded.
        """
        body, version = self._content(image_id)
        if number_of(version) == 1 and not is_pdf(body):
            return body
        with self._drawing:
            return png_of(self._decoders().whole(body, page=number_of(version)))

    def _readable(self, uri: str) -> ObjectStore:
        source = parse_source(uri)
        require_allowed(source, self._settings.archive_allow, reachable=self._is_reachable)
        return PageStore(open_store(source, self._settings.s3))
