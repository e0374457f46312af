"""Originals, read in parts: what a browser asks for when it shows or downloads one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.objects.base import ObjectInfo, ObjectStore

# What browsers show and what cannot run code there; anything else is downloaded. By content, since names lie.
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
    """Return the media type that the first bytes of a picture speak of; None for what no browser shows."""
    for offset, signature, media_type in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return media_type
    return None


class Original:
    """An object of an archive as it is now, which may be newer than what was recorded of it."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store = store
        self.key = key

    def info(self) -> ObjectInfo:
        """Return its size and version. Raises as ``read``."""
        info = self._store.stat(self.key)
        if info.version.startswith("!"):
            b"".join(self._store.open(self.key, info.version, 0, 1))  # raises the reason
        return info

    def media_type(self, info: ObjectInfo) -> str:
        """Return the media type that its first bytes speak of; ``DOWNLOADED`` for what no browser should show."""
        head = b"".join(self.read(info, 0, min(_HEAD_BYTES, info.size_bytes))) if info.size_bytes else b""
        return media_type_of(head) or DOWNLOADED

    def read(self, info: ObjectInfo, start: int, length: int) -> Iterator[bytes]:
        """Return ``length`` bytes from ``start`` on, in chunks.

        Raises:
            ObjectMissingError, ObjectForbiddenError, ObjectChangedError: about this object, before the first chunk.
            StoreUnavailableError: worth another try later.
        """
        return self._store.open(self.key, info.version, start, length)
