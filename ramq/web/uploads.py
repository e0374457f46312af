"""Uploaded query pictures. They are read from a request, and kept for a while so that their results have a link."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile

from ramq.services.originals import media_type_of
from storage.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from starlette.requests import Request


async def read_picture(request: Request) -> bytes:
    """Return the bytes of the picture in ``request``: the first file of a form, or the body itself.

    Raises:
        UsageError: there is none.
    """
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form(max_files=1, max_fields=50) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            picture = await files[0].read() if files else b""
    else:
        picture = await request.body()
    if not picture:
        raise UsageError("the request contains no picture; send a form with the file field `image`")
    return picture


def picture_type(picture: bytes) -> str:
    """Return the media type of ``picture`` by its first bytes. Raises ``NotFoundError`` if browsers cannot show it."""
    media_type = media_type_of(picture)
    if media_type is None:
        raise NotFoundError("a browser cannot show this kind of picture")
    return media_type


class Pictures:
    """The most recent query pictures, in memory, named by their SHA-256. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, picture: bytes) -> str:
        """Keep ``picture``, remove the oldest ones if memory is short, and return its name."""
        name = hashlib.sha256(picture).hexdigest()
        with self._lock:
            self._pictures[name] = picture
            self._pictures.move_to_end(name)
            while len(self._pictures) > 1 and sum(map(len, self._pictures.values())) > self._max_bytes:
                self._pictures.popitem(last=False)
        return name

    def get(self, name: str) -> bytes:
        """Return the picture called ``name``. Raises ``NotFoundError`` if it is no longer kept."""
        with self._lock:
            picture = self._pictures.get(name)
            if picture is None:
                raise NotFoundError("this picture is no longer stored here; upload it again")
            self._pictures.move_to_end(name)
            return picture
