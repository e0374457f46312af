"""Originals, which are read in parts for browsers that show or download them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

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
_HEAD_BYTES = 16
DOWNLOADED = "application/octet-stream"


def media_type_of(head: bytes) -> str | None:
    """Return the media type of an image by its first bytes, or None if browsers cannot show it."""
    for offset, signature, media_type in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return media_type
    return None


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

    def info(self) -> ObjectInfo:
        """Return its size and version. Raises the same errors as ``read``."""
        info = self._store.stat(self.key, self._version)
        if info.version.startswith("!"):
            b"".join(self._store.open(self.key, info.version, 0, 1))  # raises the reason
        return info

    def media_type(self, info: ObjectInfo) -> str:
        """Return the media type by its first bytes, or ``DOWNLOADED`` if browsers should not show it."""
        head = b"".join(self.read(info, 0, min(_HEAD_BYTES, info.size_bytes))) if info.size_bytes else b""
        return media_type_of(head) or DOWNLOADED

    def read(self, info: ObjectInfo, start: int, length: int) -> Iterator[bytes]:
        """Return ``length`` bytes from ``start`` on, in chunks.

        Raises:
            ObjectMissingError, ObjectForbiddenError, ObjectChangedError: about this object, before the first chunk.
            StoreUnavailableError: the store is unavailable; try again later.
        """
        return self._store.open(self.key, info.version, start, length)
