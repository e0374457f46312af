"""Pages of PDF files as pictures, by PDFium (package pypdfium2). It is loaded for the first such file.

Neither scripts nor forms are run: PDFium is asked to draw what stands on the page, and its form module is never
initialised. The build that pypdfium2 installs has no JavaScript.
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ram_core.errors import UnreadableImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL import Image

    from ram_core.opening.pages import Wanted

DOTS_PER_INCH = 200
"""Enough to read the text of a page: 11 point letters are 30 pixels high."""

LONGEST, SHORTEST = 4_096, 1_024
"""Bounds of the longer side in pixels. Posters are drawn smaller, cards larger than at ``DOTS_PER_INCH``."""

_POINTS_PER_INCH = 72
_NEEDS_PASSWORD = 4  # FPDF_ERR_PASSWORD
_UNKNOWN_ENCRYPTION = 5  # FPDF_ERR_SECURITY


def draw(body: bytes | memoryview, wanted: Wanted, check: Callable[[int, int], None]) -> Image.Image:
    """Return a page of a PDF file as a picture on white, and say how many pages the file has.

    Args:
        body: the file.
        wanted: which page.
        check: called with the width and height in pixels before anything is drawn.

    Raises:
        UnreadableImageError: the package is missing, the file is encrypted or damaged, it has no such page, or what
            ``check`` raises.
    """
    with opened(body) as (pypdfium2, document):
        wanted.pages, page = len(document), wanted.page
        wanted.require_page()
        try:
            found = document[page - 1]
            width, height = found.get_size()
        except pypdfium2.PdfiumError as error:
            raise UnreadableImageError("corrupt", f"page {page:,} of the PDF file is damaged") from error
        if not (width > 0 and height > 0):
            raise UnreadableImageError("corrupt", f"page {page:,} of the PDF file has no size")
        longer = max(width, height) * DOTS_PER_INCH / _POINTS_PER_INCH
        scale = min(max(longer, SHORTEST), LONGEST) / max(width, height)
        check(max(1, round(width * scale)), max(1, round(height * scale)))
        picture: Image.Image = found.render(scale=scale, may_draw_forms=False).to_pil().convert("RGB")
        return picture


@contextmanager
def opened(body: bytes | memoryview) -> Iterator[tuple[Any, Any]]:
    """Open a file, without copying it if it is writable. Give PDFium and the document.

    Raises:
        UnreadableImageError: the package is missing, or the file is encrypted or damaged.
    """
    try:
        import pypdfium2  # noqa: PLC0415  (most processes never meet such a file)
    except ImportError as error:
        raise UnreadableImageError(
            "unsupported", "reading PDF needs the package pypdfium2: pip install 'ramq[pdf]' where the workers run"
        ) from error
    view = memoryview(body)
    held = bytes(view) if view.readonly else (ctypes.c_ubyte * len(view)).from_buffer(view)
    try:
        document = pypdfium2.PdfDocument(held)
    except pypdfium2.PdfiumError as error:
        if error.err_code == _NEEDS_PASSWORD:
            raise UnreadableImageError(
                "unsupported", "the PDF file is encrypted and needs a password: store a copy without one"
            ) from error
        if error.err_code == _UNKNOWN_ENCRYPTION:
            raise UnreadableImageError(
                "unsupported", "the PDF file is encrypted in a way that is not supported: store a copy without"
            ) from error
        raise UnreadableImageError("corrupt", "the PDF file is damaged, or has no pages") from error
    try:
        yield pypdfium2, document
    finally:
        document.close()
