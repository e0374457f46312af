"""Responses with pictures: an original, whole or in part, or a JPEG; 304 if the client already has it (RFC 9110)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from ramq.services.originals import DOWNLOADED, PDF

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ramq.services.originals import Original
    from storage.objects.base import ObjectInfo

_RANGE = re.compile(r"bytes=(?=.*\d)(\d{0,18})-(\d{0,18})")


def answer_with_jpeg(content: bytes, etag: str, caching: str, asked: Mapping[str, str]) -> Response:
    """Return the response with a JPEG to a request with the headers ``asked``; ``caching`` is its Cache-Control."""
    tag = f'"{etag}"'
    headers = {"ETag": tag, "Cache-Control": caching}
    if _is_known(tag, asked):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/jpeg", headers=headers)


def answer_with(original: Original, asked: Mapping[str, str]) -> Response:
    """Return the response to a request with the headers ``asked``. Raises the same errors as reading the original."""
    info = original.info()
    tag = f'"{quote(info.version)}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Cache-Control": "private, no-cache",
        # Whatever the bytes are, the browser must not run them as scripts of this site.
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if _is_known(tag, asked):
        return Response(status_code=304, headers=headers)
    start, end, status = 0, info.size_bytes, 200
    if asked.get("if-range", tag) == tag and (found := _RANGE.fullmatch(asked.get("range", "").strip())):
        part = _part(found[1], found[2], info.size_bytes)
        if part is None:
            headers["Content-Range"] = f"bytes */{info.size_bytes}"
            return Response(status_code=416, headers=headers)
        start, end, status = *part, 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size_bytes}"
    media_type = original.media_type(info)
    how = "attachment" if media_type in {DOWNLOADED, PDF} else "inline"
    name = quote(original.name, safe="")
    headers |= {"Content-Disposition": f"{how}; filename*=UTF-8''{name}", "Content-Length": str(end - start)}
    # The first bytes have been read above, so errors have led to an error status. A response to HEAD reads no more.
    content = _content(original, info, start, end - start)
    return StreamingResponse(content, status_code=status, media_type=media_type, headers=headers)


def _content(original: Original, info: ObjectInfo, start: int, length: int) -> Iterator[bytes]:
    yield from original.read(info, start, length)


def _is_known(tag: str, asked: Mapping[str, str]) -> bool:
    known = {part.strip().removeprefix("W/") for part in asked.get("if-none-match", "").split(",")}
    return bool(known & {tag, "*"})


def _part(first: str, last: str, size: int) -> tuple[int, int] | None:
    """Return the start and the exclusive end of a range, or None if the range is outside the original."""
    if not first:
        length = min(int(last or 0), size)
        return (size - length, size) if length else None
    start, end = int(first), min(int(last or size - 1) + 1, size)
    return (start, end) if start < end else None
