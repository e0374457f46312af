"""Read the headers of a tar file: which members it has, and where their bytes are.

Formats: POSIX ustar and pax (IEEE Std 1003.1, "pax Interchange Format"), GNU tar (GNU tar manual, "Basic Tar Format"),
and the old V7 one. Nothing that a header says is believed: numbers may be negative or larger than the file, names may
lead out of it, and there may be more headers than memory has room for.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

BLOCK = 512
"""Bytes of a header. The bytes of a member fill whole blocks."""

MAX_MEMBERS = 1_000_000
"""Files in a tar. Its names and places are in memory while it is listed: some 120 MB for so many."""

MAX_HEADERS = 4 * MAX_MEMBERS
"""Headers of any kind: folders, links and comments too."""

PADDING_BYTES = 64 * 1024
"""So far behind the end of a tar another one is looked for. Most writers fill up to 10,240 bytes with zeros."""

MAX_EXTENSION_BYTES = 1024 * 1024
"""Of a pax header or a long name. Real ones have a few hundred bytes."""

BAD_NAME_SIZE = -1
"""Stands for the size of a member whose name cannot be used."""

TOO_LONG_SIZE = -2
"""Stands for the size of a member whose name is too long. Only its beginning is kept."""

Fault = Literal["not_tar", "empty", "gzip", "zstd", "bzip2", "xz", "lz4", "damaged", "truncated", "too_many", "goes_on"]

_MAGICS: tuple[tuple[bytes, Fault], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
_ZEROS = bytes(BLOCK)
_REGULAR = {b"0", b"\0", b"7"}
_WITHOUT_DATA = {b"1", b"2", b"3", b"4", b"5", b"6"}
_EXTENSIONS = {b"L", b"K", b"g", b"x", b"X"}
"""Long names of GNU tar, and headers of pax for all members (``g``) or the next one (``x``; ``X``: of Solaris)."""


class Flaw(NamedTuple):
    """Why the headers of a tar file end early, and at which byte."""

    fault: Fault
    at: int


class Member(NamedTuple):
    r"""A file in a tar.

    Attributes:
        name: UTF-8, without ``./`` and ``/`` at the beginning. Other bytes are written as ``\xNN``.
        offset: of its first byte in the tar.
        size: in bytes; or ``BAD_NAME_SIZE``, ``TOO_LONG_SIZE``.
        mtime: seconds since 1970; 0: not known.
    """

    name: str
    offset: int
    size: int
    mtime: int


class TarIndex:
    """The files of a tar in byte order of their names, each name once. Of several with one name the last one counts.

    Attributes:
        flaw: why there may be more files than these; None: these are all.
    """

    def __init__(self, names: list[bytes], numbers: tuple[array[int], ...], flaw: Flaw | None) -> None:
        order = sorted(range(len(names)), key=names.__getitem__)  # stable: of the same names the last one comes last
        kept = [at for n, at in enumerate(order) if n + 1 == len(order) or names[order[n + 1]] != names[at]]
        self._names = [names[at] for at in kept]
        self._offsets, self._sizes, self._mtimes = (array("q", (column[at] for at in kept)) for column in numbers)
        self.flaw = flaw

    def __len__(self) -> int:
        return len(self._names)

    def _at(self, place: int) -> Member:
        name = self._names[place].decode()
        return Member(name, self._offsets[place], self._sizes[place], self._mtimes[place])

    def after(self, name: str | None) -> Iterator[Member]:
        """Yield the files after a name; None: all."""
        start = 0 if name is None else bisect_right(self._names, name.encode())
        return (self._at(place) for place in range(start, len(self._names)))

    def find(self, name: str) -> Member | None:
        """Return the file with this name."""
        wanted = name.encode()
        place = bisect_left(self._names, wanted)
        return self._at(place) if place < len(self._names) and self._names[place] == wanted else None


class _FlawError(Exception):
    def __init__(self, fault: Fault, at: int) -> None:
        super().__init__(fault)
        self.flaw = Flaw(fault, at)


class TooManyError(Exception):
    """There are more members than the caller has room for now."""


@dataclass(slots=True)
class _Extension:
    """What extended headers say of the next member. None: nothing."""

    name: bytes | None = None
    size: int | None = None
    mtime: int | None = None
    is_sparse: bool = False


def read_index(
    read: Callable[[int, int], bytes], size_bytes: int, *, max_name_bytes: int, room: int = MAX_MEMBERS
) -> TarIndex:
    """Return the files of a tar. Links, devices, folders and sparse files are left out.

    Args:
        read: returns bytes of the tar: from an offset on, so many of them; fewer if it ends.
        size_bytes: of the tar.
        max_name_bytes: longer names are cut.
        room: how many files the caller has room for, at most ``MAX_MEMBERS``.

    Raises:
        TooManyError: there are more files than ``room``, and this is less than ``MAX_MEMBERS``.
    """
    names: list[bytes] = []
    offsets, sizes, mtimes = array("q"), array("q"), array("q")
    flaw = None
    try:
        for member in _Headers(read, size_bytes).members():
            if len(names) >= room:
                flaw = Flaw("too_many", member.at)
                break
            name, size = _usable(member.name, member.size, max_name_bytes)
            names.append(name)
            offsets.append(member.at)
            sizes.append(size)
            mtimes.append(member.mtime)
    except _FlawError as error:
        flaw = error.flaw
    if flaw is not None and flaw.fault == "too_many" and room < MAX_MEMBERS:
        raise TooManyError
    return TarIndex(names, (offsets, sizes, mtimes), flaw)


class _Found(NamedTuple):
    name: bytes
    at: int
    size: int
    mtime: int


class _Headers:
    """The headers of a tar, one after the other."""

    def __init__(self, read: Callable[[int, int], bytes], size_bytes: int) -> None:
        self._read = read
        self._size_bytes = size_bytes
        self._extension = _Extension()
        self._shared = _Extension()

    def members(self) -> Iterator[_Found]:
        """Yield the regular files in the order of the tar."""
        at = 0
        for _ in range(MAX_HEADERS):
            block = self._header(at)
            if block is None:
                return
            kind, size = block[156:157], _number(block[124:136], at)
            if kind in _EXTENSIONS:
                self._extend(kind, at, size)
                end = at + BLOCK + padded(size)
            else:
                found, end = self._described(block, at, size)
                self._extension = _Extension()
                if found is not None:
                    yield found
            at = min(end, self._size_bytes)  # the padding of the last member may be missing
        raise _FlawError("too_many", at)

    def _extend(self, kind: bytes, at: int, size: int) -> None:
        """Read what an extended header says of the next member, or (``g``) of all that follow."""
        if size > MAX_EXTENSION_BYTES:
            raise _FlawError("damaged", at)
        body = self._bytes_at(at + BLOCK, size)
        if kind == b"L":
            self._extension.name = body.split(b"\0", 1)[0]
        elif kind != b"K":
            _read_pax(body, self._shared if kind == b"g" else self._extension, at)

    def _described(self, block: bytes, at: int, size: int) -> tuple[_Found | None, int]:
        """Return the member of a header, if it is a regular file, and where its data end."""
        own, shared, kind, data = self._extension, self._shared, block[156:157], at + BLOCK
        name = own.name if own.name is not None else shared.name
        size = next((said for said in (own.size, shared.size) if said is not None), size)
        mtime = next((said for said in (own.mtime, shared.mtime) if said is not None), None)
        is_regular = kind in _REGULAR and not (own.is_sparse or shared.is_sparse)
        if kind == b"S":
            data = self._after_sparse_map(block, data)
        if kind in _WITHOUT_DATA:
            return None, data
        if data + size > self._size_bytes:
            raise _FlawError("truncated", at)
        end = data + padded(size)
        name = _name_in(block) if name is None else name
        if not is_regular or name.endswith(b"/"):  # a folder, as old writers have it
            return None, end
        return _Found(name, data, size, _time_in(block) if mtime is None else mtime), end

    def _after_sparse_map(self, block: bytes, data: int) -> int:
        """Return where the data of an old GNU sparse file begin: behind further blocks of its map."""
        goes_on = block[482]
        while goes_on:
            goes_on = self._bytes_at(data, BLOCK)[504]
            data += BLOCK
        return data

    def _bytes_at(self, at: int, length: int) -> bytes:
        if at + length > self._size_bytes:
            raise _FlawError("truncated", at)
        found = self._read(at, length)[:length]
        if len(found) < length:  # it became shorter since it was listed
            raise _FlawError("truncated", at)
        return found

    def _header(self, at: int) -> bytes | None:
        """Return the header at a place; None at the end of the tar."""
        if at == self._size_bytes:  # some writers leave the blocks out that mark the end
            if at == 0:
                raise _FlawError("empty", 0)
            return None
        if at == 0 and self._size_bytes < BLOCK:
            raise _FlawError(_kind_of(self._bytes_at(0, self._size_bytes)), 0)
        block = self._bytes_at(at, BLOCK)
        if block == _ZEROS:
            self._require_end(at + BLOCK)
            return None
        if not _has_right_sum(block):
            raise _FlawError(_kind_of(block) if at == 0 else "damaged", at)
        return block

    def _require_end(self, at: int) -> None:
        """Raise an error if another tar follows, as after ``cat a.tar b.tar``. Other things there do no harm."""
        length = min(self._size_bytes - at, PADDING_BYTES) // BLOCK * BLOCK
        if length <= 0:
            return
        behind = self._read(at, length)[:length]
        for begin in range(0, len(behind) - BLOCK + 1, BLOCK):
            block = behind[begin : begin + BLOCK]
            if block != _ZEROS and _has_right_sum(block):
                raise _FlawError("goes_on", at + begin)


def _name_in(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    # GNU tar has other things where POSIX has the beginning of the name.
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return b"/".join(filter(None, (prefix, name)))


def _time_in(block: bytes) -> int:
    try:
        return _number(block[136:148], 0)
    except _FlawError:
        return 0


def _read_pax(body: bytes, extension: _Extension, at: int) -> None:
    """Take what matters from records such as ``20 path=a/b.jpg`` with a line end."""
    begin = 0
    while begin < len(body) and body[begin]:
        space = body.find(b" ", begin, begin + 20)
        length = body[begin:space] if space > 0 else b""
        end = begin + int(length) if length.isdigit() else 0
        if not begin < end <= len(body) or space >= end:
            raise _FlawError("damaged", at)
        key, _, value = body[space + 1 : end - 1].partition(b"=")
        if key == b"path":
            extension.name = value
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:
                raise _FlawError("damaged", at)
            extension.size = int(value)
        elif key == b"mtime":
            whole = value.partition(b".")[0]
            extension.mtime = int(whole) if whole.isdigit() and len(whole) < 18 else 0
        elif key.startswith(b"GNU.sparse."):
            extension.is_sparse = True
        begin = end


def texts_in(window: bytes, stem: str, endings: Container[str]) -> dict[str, bytes]:
    """Return the members in a part of a tar file that have the name of a picture and one of these endings.

    Args:
        window: whole blocks. The part may begin and end anywhere between them.
        stem: the name of the picture in the tar, without its ending.
        endings: of other members, without a dot.
    """
    found: dict[str, bytes] = {}
    for at in range(0, len(window) - BLOCK + 1, BLOCK):
        block = window[at : at + BLOCK]
        if block[156:157] not in _REGULAR or not _has_right_sum(block):
            continue
        name, _ = _usable(_name_in(block), 0, BLOCK)
        begins, _, ending = name.decode().rpartition(".")
        size = _size_in(block)
        if begins == stem and ending in endings and size is not None and at + BLOCK + size <= len(window):
            found[name.decode()] = window[at + BLOCK : at + BLOCK + size]
    return found


def _size_in(block: bytes) -> int | None:
    try:
        return _number(block[124:136], 0)
    except _FlawError:
        return None


_BEFORE_ESCAPE = re.compile("\\\\+(?=x[89a-f][0-9a-f]|[\udc80-\udcff])")
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")


def _usable(name: bytes, size: int, most: int) -> tuple[bytes, int]:
    """Return a name as a part of a key, and the size or what stands for it if the name cannot be used."""
    # What looks like an escaped byte, and is not, has twice as many backslashes: no two names become one key.
    text = _BEFORE_ESCAPE.sub(r"\g<0>\g<0>", name.decode(errors="surrogateescape"))
    text = _NOT_UTF_8.sub(lambda found: rf"\x{ord(found[0]) - 0xDC00:02x}", text)
    parts = [part for part in text.split("/") if part not in {"", "."}]
    plain = "/".join(parts)
    if not parts or ".." in parts or "\0" in plain:
        plain, size = plain.replace("\0", r"\x00") or "(no name)", BAD_NAME_SIZE
    encoded = plain.encode()
    if len(encoded) > most:
        return encoded[:most].decode(errors="ignore").encode(), TOO_LONG_SIZE
    return encoded, size


def _number(field: bytes, at: int) -> int:
    """Return a number of a header: octal digits, or as GNU tar writes large ones. Raises if it is none, or negative."""
    if field[0] & 0x80:
        number = int.from_bytes(field[1:])
        if field[0] != 0x80 or number >= 2**62:  # negative, or larger than any file
            raise _FlawError("damaged", at)
        return number
    digits = field.strip(b"\0 ")
    if not digits:
        return 0
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise _FlawError("damaged", at)
    return int(digits, 8)


def _has_right_sum(block: bytes) -> bool:
    try:
        said = _number(block[148:156], 0)
    except _FlawError:
        return False
    others = block[:148] + block[156:]
    plain = sum(others) + 8 * 0x20
    # Some old writers took bytes as signed.
    return said == plain or said == plain - 256 * sum(byte >> 7 for byte in others)


def _kind_of(begins: bytes) -> Fault:
    return next((kind for magic, kind in _MAGICS if begins.startswith(magic)), "not_tar")


def padded(size: int) -> int:
    """Return how many bytes a member of this size takes behind its header."""
    return -(-size // BLOCK) * BLOCK
