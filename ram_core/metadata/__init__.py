"""What a picture's file says of it: when, with what and where it was taken, and what people wrote into it.

``read`` takes untrusted bytes and never raises for them: what cannot be read is absent, not wrong.

``facts``     what is read, its bounds, and its form between processes
``blocks``    where a file keeps EXIF, IPTC and XMP
``exif``      tags of a TIFF structure
``iptc``      data sets of IPTC-IIM
``pdf_information`` of PDF files
``xmp``       properties of an XMP packet
``values``    text, numbers, dates and places as files write them
``no_pixels`` for pictures of which nothing else is asked
``chosen``    which of the three blocks is believed, for each fact
"""

from __future__ import annotations

from ram_core.metadata import pdf_information, xmp
from ram_core.metadata.blocks import blocks_of, is_xmp
from ram_core.metadata.chosen import chosen
from ram_core.metadata.facts import FileFacts
from ram_core.metadata.no_pixels import NoPixels
from ram_core.opening.formats import HEAD_BYTES, is_pdf

__all__ = ["FileFacts", "NoPixels", "is_sidecar", "read"]


def is_sidecar(body: bytes | memoryview) -> bool:
    """Return whether a file is XMP alone, and can be read to its end."""
    view = memoryview(body)
    return is_xmp(view) and xmp.is_whole(bytes(view))


def read(body: bytes | memoryview) -> FileFacts:
    """Return what the file of a picture says of it.

    Only headers are read, no pixels. Blocks and values above their bounds are left out.
    """
    try:
        if is_pdf(bytes(body[:HEAD_BYTES])):
            return pdf_information.facts(memoryview(body))
        return chosen(blocks_of(memoryview(body)))
    # Damaged files can trip any of the parsers, or ask for all memory, and the picture's pixels may be fine.
    except Exception:  # noqa: BLE001
        return FileFacts()
