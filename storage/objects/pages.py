"""Pages of files as images of their own: the keys and versions of these, and a store that knows them.

The first page of a file is the image of the file itself. A further one has the key of the file, a slash and
``page-00002``. In a folder no file can have such a name, since the file is no folder. The version of a page says which
page it is, and in which version of the file: so whoever reads an image by its key and version needs no other table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from storage.objects.base import CHANGED_VERSION, MAX_KEY_BYTES, MISSING_VERSION, Fetched

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from storage.objects.base import ObjectInfo, ObjectStore
    from storage.objects.ignoring import Ignoring

MOST_PAGES = 99_999
"""Keys have five digits, so that their order is that of the pages."""

VERSION_PREFIX = "page="
"""What the version of a page begins with. No store has such versions: ETags are hexadecimal, times are numbers."""

IS_PAGE = f"starts_with(image.version, '{VERSION_PREFIX}')"
"""In PostgreSQL: whether an ``image`` is a page of a file, and not the first."""

FILE_KEY = "left(image.key, -11)"
"""In PostgreSQL: the key of the file of such an image, without ``/page-00000``."""

IS_FURTHER_PAGE_OF = (
    """image.key > {key} || '/page-' COLLATE "C" AND image.key < {key} || '/page-:' COLLATE "C" AND """ + IS_PAGE
)
"""In PostgreSQL: whether an ``image`` of the same archive is a page of the file with a ``key``, and not the first."""

PAGE_NAME = re.compile("page-[0-9]{5}")
"""The last part of the key of a page."""

_NAME = re.compile(f"/{PAGE_NAME.pattern}$")
_VERSION = re.compile(r"page=([1-9][0-9]{0,4})@(.*)", re.DOTALL)
_NAME_BYTES = len("/page-00000")


class PagePlace(NamedTuple):
    """Where a page is: the key of its file, the version of this, and the number of the page, from 1."""

    key: str
    version: str
    number: int


def may_be_paged(key: str) -> bool:
    """Tell whether the name of a file is one of those that may have several pages."""
    return key.lower().endswith((".tif", ".tiff", ".pdf"))


def page_key(file_key: str, number: int) -> str:
    """Return the key of a page of a file. The first page has that of the file."""
    return file_key if number == 1 else f"{file_key}/page-{number:05d}"


def page_version(file_version: str, number: int) -> str:
    """Return the version of a page of a file in this version."""
    return file_version if number == 1 else f"{VERSION_PREFIX}{number}@{file_version}"


def number_of(version: str) -> int:
    """Return the number of the page that an image in this version is; 1: the first one, or not a page at all."""
    found = _VERSION.fullmatch(version)
    return int(found[1]) if found else 1


def place_of(key: str, version: str) -> PagePlace | None:
    """Return where a page is, by its key and version; None: it is an object of its own."""
    found, name = _VERSION.fullmatch(version), _NAME.search(key)
    if found is None or name is None:
        return None
    return PagePlace(key[: name.start()], found[2], int(found[1]))


def file_of(key: str, version: str) -> str:
    """Return the key of the file of an image: its own, unless it is a further page."""
    place = place_of(key, version)
    return key if place is None else place.key


def further_pages(file: ObjectInfo, pages: int, most: int) -> list[ObjectInfo]:
    """Return the pages of a file but the first, as they are recorded: at most ``most`` with the first."""
    if len(file.key.encode()) + _NAME_BYTES > MAX_KEY_BYTES:
        return []
    last = min(pages, most, MOST_PAGES)
    return [
        replace(file, key=page_key(file.key, number), version=page_version(file.version, number))
        for number in range(2, last + 1)
    ]


def looked_up(store: ObjectStore, entry: ObjectInfo) -> ObjectInfo:
    """Return an entry of a list as it is in the store. That of a page stays: its version is not known."""
    seen = store.stat(entry.key)
    return entry if seen.version == MISSING_VERSION and PAGE_NAME.fullmatch(entry.key.rpartition("/")[2]) else seen


@dataclass(frozen=True, slots=True)
class PageStore:
    """A store in which pages of files can be asked for, too: their bytes are those of the file.

    Attributes:
        base: the store of the files.
    """

    base: ObjectStore

    @property
    def holds_version(self) -> bool:
        """Whether all bytes that ``open`` returns are of the version that it was asked for."""
        return self.base.holds_version

    def check(self) -> None:
        """Raise the error that a job on this archive would meet first."""
        self.base.check()

    def pages(self, prefix: str, after: str | None, ignoring: Ignoring | None = None) -> Iterator[list[ObjectInfo]]:
        """Yield pages of the keys of the base. Pages of files are not listed: nobody has opened the files."""
        return self.base.pages(prefix, after, ignoring)

    def read_rules(self, ignoring: Ignoring, keys: Sequence[str]) -> None:
        """Give ``ignoring`` the files ``.ramqignore`` that a listing of these keys would meet."""
        self.base.read_rules(ignoring, keys)

    def stat(self, key: str, known: str = "") -> ObjectInfo:
        """Return the properties of one object, or of a page: those of its file."""
        place = place_of(key, known)
        if place is None:
            return self.base.stat(key, known)
        info = self.base.stat(place.key, place.version)
        return replace(info, key=key, version=_of_page(info.version, place))

    def fetch(self, key: str, version: str, max_bytes: int) -> Fetched:
        """Return an object's bytes; of a page, those of its file. Raises as the base."""
        place = place_of(key, version)
        if place is None:
            return self.base.fetch(key, version, max_bytes)
        fetched = self.base.fetch(place.key, place.version, max_bytes)
        return Fetched(fetched.body, _of_page(fetched.version, place))

    def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
        """Yield bytes of an object; of a page, those of its file. Raises as the base."""
        place = place_of(key, version)
        if place is None:
            return self.base.open(key, version, start, length)
        return self.base.open(place.key, place.version, start, length)


def _of_page(version: str, place: PagePlace) -> str:
    """Return the version of a page by that of its file. One that tells of a fault stays as it is."""
    return version if version.startswith("!") and version != CHANGED_VERSION else page_version(version, place.number)
