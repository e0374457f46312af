"""What a file is, by its content, and why it cannot be read. Names and endings are not looked at."""

from __future__ import annotations

import re

from ram_core.errors import UnreadableImageError
from ram_core.opening import jpeg, tiff

PILLOW = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""Formats that Pillow opens. Its other formats run programs, contain scripts or had dangerous decoder bugs."""

SUPPORTED = f"{', '.join(PILLOW)}, HEIC, JPEG XL, PDF, and camera raw by its embedded picture"
"""What messages say of it."""

HEAD_BYTES = 1024
"""What the functions below want of a file."""

_HEVC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEIF = _HEVC | {b"mif1", b"msf1", b"mif2", b"miaf"}
_AVIF = frozenset({b"avif", b"avis"})
_MOST_BRANDS = 64

_JPEG_XL = re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL ")
_TIFF = re.compile(rb"II[*+]\x00|MM\x00[*+]")
_PDF = re.compile(rb"(?:\xef\xbb\xbf)?[\x00\s]{0,64}%PDF-")
_FILM = "a film"

# File types that are often stored next to images. They are recognised only to give a clear reason.
_KNOWN = (
    # MPEG-4 and QuickTime; old files of the latter begin with another box
    (re.compile(rb"....ftyp|\x00...(moov|mdat|wide|skip)", re.DOTALL), _FILM),
    (re.compile(rb"\x1aE\xdf\xa3"), _FILM),  # Matroska and WebM
    (re.compile(rb"RIFF....AVI ", re.DOTALL), _FILM),
    (re.compile(rb"\x00\x00\x01[\xba\xb3]"), _FILM),  # MPEG-1 and 2
    (re.compile(rb"(?:.{4})?G.{187}(?:.{4})?G.{187}(?:.{4})?G", re.DOTALL), _FILM),  # AVCHD: MPEG transport stream
    (re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), _FILM),  # Windows Media
    (re.compile(rb"FLV\x01"), _FILM),
    (re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 file"),
    (re.compile(rb"8BP[SB]"), "a Photoshop file"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "a PostScript file"),
    (re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!DOCTYPE svg[^>]*>\s*)?<svg", re.DOTALL), "an SVG file"),
    (re.compile(rb"\x00\x00\x01\x00"), "an icon"),
    (
        re.compile(rb"II\x1a\x00\x00\x00HEAPCCDR|\x00MRM|IIII"),
        "this format of camera raw",
    ),  # without the form of those in ``raw``
    (re.compile(rb"\x89PNG\r\n\x1a\n.{4}CgBI", re.DOTALL), "a PNG for iPhones only"),
)

# Signatures of the formats that are opened. A file that has one but cannot be opened is damaged.
_DECODED = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WEBP"),
    (re.compile(rb"GIF8"), "GIF"),
    (re.compile(rb"BM"), "BMP"),
    (_TIFF, "TIFF"),
    (re.compile(rb"....ftypavi[fs]", re.DOTALL), "AVIF"),
    (re.compile(rb"P[1-6]\s"), "PPM"),
)

_SAID_UNSUPPORTED = re.compile(
    r"unsupported|not supported|not yet supported|cannot handle|not implemented|security limit", re.IGNORECASE
)
"""In messages of decoders. What they say of a damaged file is seldom one of these."""


def is_heif(head: bytes) -> bool:
    """Tell whether a file is HEIC, or another picture in that container that is not AVIF."""
    brands = _brands(head)
    return bool(brands & _HEIF) and not brands & _AVIF and bytes(head[8:12]) != b"crx "


def is_jpeg_xl(head: bytes) -> bool:
    """Tell whether a file is JPEG XL."""
    return bool(_JPEG_XL.match(head))


def is_tiff(head: bytes) -> bool:
    """Tell whether a file is TIFF, or camera raw that is built like it."""
    return bool(_TIFF.match(head))


def is_pdf(head: bytes) -> bool:
    """Tell whether a file is PDF."""
    return bool(_PDF.match(head))


def _brands(head: bytes) -> set[bytes]:
    """Return what the box at the beginning of a file says that the file is (ISO 14496-12, section 4.3)."""
    if head[4:8] != b"ftyp":
        return set()
    length = min(int.from_bytes(head[:4], "big"), len(head), 16 + 4 * _MOST_BRANDS)
    return {head[8:12], *(head[at : at + 4] for at in range(16, length, 4))}


def unsupported(name: str) -> UnreadableImageError:
    """Return the error for a file that is fine but of a kind that is not read."""
    return UnreadableImageError("unsupported", f"{name} is not supported; supported formats: {SUPPORTED}")


def require_readable_tiff(body: bytes | memoryview) -> None:
    """Raise ``UnreadableImageError`` for a TIFF that Pillow would read wrongly."""
    if reason := tiff.why_unsupported(body, is_known=True):
        raise unsupported(reason)


def unidentified(body: bytes | memoryview) -> UnreadableImageError:
    """Return the error for a file whose header no decoder takes."""
    head = bytes(body[:HEAD_BYTES])
    for pattern, name in _KNOWN:
        if pattern.match(head) and not _brands(head) & (_AVIF | _HEIF):
            return unsupported(name)
    if reason := _unsupported_kind(body, head, is_known=False):
        return unsupported(reason)
    for pattern, name in _DECODED:
        if pattern.match(head):
            return UnreadableImageError("corrupt", f"damaged {name} file: its header cannot be read")
    return UnreadableImageError("not_an_image", "the content is not an image in any known format")


def undecodable(body: bytes | memoryview, error: Exception) -> UnreadableImageError:
    """Return the error for a file whose decoder raised ``error``."""
    if reason := _unsupported_kind(body, bytes(body[:HEAD_BYTES]), is_known=True):
        return unsupported(reason)
    message = " ".join(str(error).split())
    said = message if isinstance(error, OSError) else f"{type(error).__name__}: {message}"
    if _SAID_UNSUPPORTED.search(said):
        return UnreadableImageError("unsupported", f"this kind of file is not supported: {said}; convert it")
    if is_cut_short(error):
        return UnreadableImageError("truncated", f"the image is cut short: {message}")
    return UnreadableImageError("corrupt", f"the image is damaged: {said}")


def is_cut_short(error: Exception) -> bool:
    """Tell whether a decoder says that the file ends too early."""
    said = str(error).lower()
    return "truncated" in said or "end of file" in said


def _unsupported_kind(body: bytes | memoryview, head: bytes, *, is_known: bool) -> str | None:
    """Return what a file is if it may be fine and is of a kind that is not read."""
    if head.startswith(b"\xff\xd8"):
        return jpeg.why_unsupported(body)
    return tiff.why_unsupported(body, is_known=is_known) if is_tiff(head) else None
