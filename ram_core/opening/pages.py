"""Which files have pages, and one page of a TIFF as if it were the first."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ram_core.errors import UnreadableImageError
from ram_core.opening import formats
from ram_core.opening.tiff import Tiff

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType (TIFF 6.0, section 8)
_OLD_REDUCED = 2  # SubfileType, which it replaced


@dataclass(slots=True)
class Wanted:
    """Which page of a file is wanted, from 1, and how many pages the file has, as soon as that is known.

    ``is_cut`` says that there may be more pages behind these, which cannot be read.
    """

    page: int = 1
    pages: int = 1
    is_cut: bool = False

    def require_page(self) -> None:
        """Raise ``UnreadableImageError`` if the file has no such page: it was replaced by another one."""
        if self.page > self.pages:
            have = "one page" if self.pages == 1 else f"{self.pages:,} pages"
            raise UnreadableImageError("no_page", f"the file has {have} and no page {self.page:,}")


def may_have_pages(body: bytes | memoryview) -> bool:
    """Tell whether a file is of a kind that can have several pages. Animations have frames, which are no pages."""
    head = bytes(body[: formats.HEAD_BYTES])
    return formats.is_tiff(head) or formats.is_pdf(head)


def behind(pages: int) -> str:
    """Say of a file that pages behind the last of these cannot be read."""
    return f"pages behind page {pages:,} cannot be read: the file is cut short or damaged there"


def at_page(body: bytes | memoryview, wanted: Wanted) -> bytes | memoryview:
    """Return a TIFF file in which the wanted page is the first one, and say how many pages the file has.

    Smaller versions of another page and masks are no pages. A file of these alone is read by the first.

    Args:
        body: the file. If it is writable, it is changed; else it is copied, if the page is not the first in it.
        wanted: which page.

    Raises:
        UnreadableImageError: there is no such page.
    """
    tiff = Tiff(body)
    found, first = [], None
    for at, subfile, old_subfile in tiff.chain():
        first = at if first is None else first
        if not subfile & (_REDUCED | _MASK) and old_subfile != _OLD_REDUCED:
            found.append(at)
    wanted.pages, wanted.is_cut = max(1, len(found)), tiff.is_chain_broken
    wanted.require_page()
    if not found or found[wanted.page - 1] == first:
        return body
    view = memoryview(body)
    if view.readonly:
        view = memoryview(bytearray(view))
    start, code = tiff.first_at
    struct.pack_into(code, view, start, found[wanted.page - 1])
    return view
