"""The pictures of hits, for exports that contain them: read ahead, in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from ramq.services.originals import media_type_of
from storage.errors import NotFoundError, PermanentError
from storage.objects.pages import PAGE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from storage.search.views import Hit

    Fetch = Callable[[int], bytes]
    Failed = Callable[[Hit, str], None]


class Shown(Protocol):
    """What has a picture: a hit, or a picture of a data set."""

    @property
    def image_id(self) -> int:
        """The image."""


One = TypeVar("One", bound=Shown)
More = TypeVar("More")

AHEAD = 8
"""Pictures that are read at once. Each may be as large as ``RAMQ_MAX_OBJECT_BYTES``."""
_ENDINGS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/tiff": "tiff",
}
_RAW_ENDINGS = frozenset({"arw", "cr2", "cr3", "dng", "nef", "orf", "pef", "raf", "rw2", "srw", "x3f"})
"""Of cameras. Some begin as TIFF does."""
_OTHER_ENDINGS = _RAW_ENDINGS | {"heic", "heif", "jp2", "pbm", "pgm", "pnm", "ppm", "ico", "tga", "psd", "pcx", "jxl"}
"""Of formats that browsers do not show. Another one might mean something else to a reader, as ``json`` does."""


@dataclass(frozen=True, slots=True)
class Content:
    """The original of an image, or its page drawn.

    ``media_type`` is by its first bytes; None: a format that browsers do not show.
    """

    body: bytes
    media_type: str | None

    def ending(self, key: str) -> str:
        """Return the ending for its file name, without a dot: that of its format, or else of its key, or ``bin``."""
        last = key.rpartition(".")[2].lower()
        if self.media_type is not None and not (self.media_type == "image/tiff" and last in _RAW_ENDINGS):
            return _ENDINGS[self.media_type]
        return last if last in _OTHER_ENDINGS else "bin"

    def path(self, key: str) -> str:
        """Return the key, of a drawn page with the ending of what was drawn: ``scan.tif/page-00002.png``."""
        is_drawn = PAGE_NAME.fullmatch(key.rpartition("/")[2]) or key.lower().endswith(".pdf")
        return f"{key}.{self.ending(key)}" if is_drawn else key


def with_pictures(
    located: Iterable[tuple[One, More]], fetch: Fetch, failed: Callable[[One, str], None]
) -> Iterator[tuple[One, More, Content]]:
    """Yield each hit with what belongs to it and its picture, in the same order.

    Args:
        located: hits, each with its regions or other things.
        fetch: returns the picture of an image, a page of a file by itself (``ImageClient.picture``). It is called from
            several threads.
        failed: is told of each hit that is left out because its original cannot be read, and why.

    Raises:
        RamqError: nothing can be read at present, for example because a store is unavailable.
    """
    left = iter(located)
    reading: deque[tuple[One, More, Future[bytes]]] = deque()
    pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="export")
    try:
        while True:
            while len(reading) < AHEAD and (following := next(left, None)) is not None:
                hit, view = following
                reading.append((hit, view, pool.submit(fetch, hit.image_id)))
            if not reading:
                return
            hit, view, future = reading.popleft()
            try:
                body = future.result()
            except (PermanentError, NotFoundError) as error:
                failed(hit, str(error))
                continue
            yield hit, view, Content(body, media_type_of(body[:16]))
    finally:
        pool.shutdown(cancel_futures=True)
