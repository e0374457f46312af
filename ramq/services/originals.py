"""Originals, which are read in parts for browsers that show or download them."""

from __future__ import annotations

import io
import re
from typing import IO, TYPE_CHECKING

from storage.objects.pages import file_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from storage.objects.base import ObjectInfo, ObjectStore

# Formats that browsers show, and that cannot run code there. Anything else is downloaded. They are recognised by
# content, because file names may be wrong.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (4, b"ftypavif", "image/avif"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
)
_PDF = re.compile(rb"(?:\xef\xbb\xbf)?[\x00\s]{0,64}%PDF-")
"""As the decoders know it."""
_PNG_LEVEL = 3
"""Of compression. Higher ones take several times as long for a few per cent."""
_HEAD_BYTES = 72
_PART_BYTES = 64 * 1024
DOWNLOADED = "application/octet-stream"
PDF = "application/pdf"
"""Downloaded too: its viewers run scripts."""


def media_type_of(head: bytes) -> str | None:
    """Return the media type of an image by its first bytes, or None if browsers cannot show it."""
    for offset, signature, media_type in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return media_type
    return None


def is_pdf(head: bytes) -> bool:
    """Return whether a file that begins so is a PDF."""
    return _PDF.match(head) is not None


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    """Return (H, W, 3) uint8 RGB pixels as a PNG. The same pixels give the same bytes."""
    from PIL import Image  # noqa: PLC0415  (few commands need it)

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


class Original:
    """The current object of an image in its archive. It may be newer than the recorded version.

    Args:
        store: its archive.
        key: its key.
        version: as it was listed.
    """

    def __init__(self, store: ObjectStore, key: str, version: str) -> None:
        self._store = store
        self.key = key
        self._version = version

    @property
    def name(self) -> str:
        """The name of the file. That of a page of a file is the name of this."""
        key = file_of(self.key, self._version)
        return key.rstrip("/").rpartition("/")[2] or key

    def info(self) -> ObjectInfo:
        """Return its size and version. Raises the same errors as ``read``."""
        info = self._store.stat(self.key, self._version)
        if info.version.startswith("!"):
            b"".join(self._store.open(self.key, info.version, 0, 1))  # raises the reason
        return info

    def media_type(self, info: ObjectInfo) -> str:
        """Return the media type by its first bytes: ``PDF``, or else ``DOWNLOADED`` if browsers should not show it."""
        head = b"".join(self.read(info, 0, min(_HEAD_BYTES, info.size_bytes))) if info.size_bytes else b""
        return media_type_of(head) or (PDF if is_pdf(head) else DOWNLOADED)

    def read(self, info: ObjectInfo, start: int, length: int) -> Iterator[bytes]:
        """Return ``length`` bytes from ``start`` on, in chunks.

        Raises:
            ObjectMissingError, ObjectForbiddenError, ObjectChangedError: about this object, before the first chunk.
            StoreUnavailableError: the store is unavailable; try again later.
        """
        return self._store.open(self.key, info.version, start, length)

    def file(self) -> IO[bytes]:
        """Return it as a file of which only what is needed is read. Raises the same errors as ``read``."""
        return io.BufferedReader(_Parts(self, self.info()), _PART_BYTES)


class _Parts(io.RawIOBase):
    """An original that is read in parts."""

    def __init__(self, original: Original, info: ObjectInfo) -> None:
        self._original = original
        self._info = info
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._info.size_bytes}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the base class names any buffer
        length = min(len(buffer), self._info.size_bytes - self._at)
        if length <= 0:
            return 0
        body = b"".join(self._original.read(self._info, self._at, length))
        buffer[: len(body)] = body
        self._at += len(body)
        return len(body)
