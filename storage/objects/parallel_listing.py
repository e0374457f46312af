"""List a large bucket faster: several ranges of keys in parallel, returned in the order of the keys.

A listing has one cursor, so pages must be returned in order. With one request at a time, the reader would wait for each
thousand keys. Therefore the remaining keys are cut into ranges, at folders or at guessed keys if there are none.
Threads list the first unfinished ranges, and the number of pages read ahead is limited. A range is all keys after one
string and up to another, so any cut is correct. A poor cut only costs time.

This requires keys in the order of their bytes, as S3 promises. Servers on a file system may order folders differently
(``a/b`` before ``a-b``). They are detected, and listed in their own order, one request at a time.
"""

from __future__ import annotations

import itertools
import os.path
import threading
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from storage.objects.base import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from storage.objects.base import ObjectInfo

WIDTH = 8
"""Number of parallel requests. The ledger records pages more slowly than this many deliver them."""

MOST_PAGES = 96
"""Limit of pages read ahead: some 40 MB."""

MOST_PAGES_OF_RANGE = 8
"""Limit of pages read ahead in one range. Then threads go on to the next range."""

CUT_AFTER = 2
"""A range with this many pages is cut when a thread is idle. If that fails, it is tried again after as many pages."""


MOST_LOOKS = 20
"""How often the end of a range is looked for again since keys were added there."""


class KeyPage(NamedTuple):
    """Result of one request: the keys as the server returns them, their properties, and whether there are more."""

    keys: list[str]
    infos: list[ObjectInfo]
    is_last: bool


class Lister(Protocol):
    """The two requests. Several threads call them."""

    def page(self, after: str) -> KeyPage:
        """Return the first keys after a string."""

    def folders(self, above: str, after: str) -> list[str]:
        """Return some folders (ending in ``/``) directly below the folder ``above`` that hold keys after a string."""


@dataclass(eq=False, slots=True)
class _Range:
    """Keys after ``after``, up to and including ``until``. ``pages`` have been read but not returned yet."""

    after: str
    until: str | None
    pages: deque[KeyPage] = field(default_factory=deque)
    reads: int = 0
    cut_at: int = CUT_AFTER
    last_keys: list[str] = field(default_factory=list)
    is_busy: bool = False
    is_being_cut: bool = False
    is_done: bool = False
    error: Exception | None = None


def list_in_parallel(
    lister: Lister, prefix: str, after: str, page_size: int, until: str | None = None
) -> Iterator[list[ObjectInfo]]:
    """Yield everything after ``after``, in order, in pages of ``page_size``.

    With ``until`` the listing ends where one that begins after ``until`` goes on, whatever the order of the keys is.
    Together they have each key once.

    Args:
        lister: makes the requests.
        prefix: the folder to list, ending in ``/``, or empty.
        after: list the keys after this one.
        page_size: objects per page; the last page, and the one before an error, may have fewer.
        until: the key after which another listing begins; None: list to the end.

    Raises:
        Exception: an error of ``lister``, after all pages before it.
    """
    if until is not None and not all(key > until for key in lister.page(until).keys):  # the server has its own order
        for page in _up_to(lister, after, until):
            yield page.infos
        return
    first = lister.page(after)
    count = _count_within(first.keys, until)
    if count:
        yield first.infos[:count]
    if until is not None and count < len(first.keys):
        for page in _up_to(lister, first.keys[count - 1] if count else after, until):
            yield page.infos
    elif not first.is_last:
        yield from _in_ranges(lister, _Ahead(lister, prefix, first.keys[-1], until), page_size, until)


def _in_ranges(lister: Lister, ahead: _Ahead, page_size: int, until: str | None) -> Iterator[list[ObjectInfo]]:
    left: list[ObjectInfo] = []
    try:
        for page in itertools.chain(ahead, _rest(lister, ahead, until)):
            left += page.infos
            while len(left) >= page_size:
                yield left[:page_size]
                del left[:page_size]
    except GeneratorExit:
        raise
    except Exception:
        if left:
            yield left
        raise
    finally:
        ahead.stop()
    if left:
        yield left


def _rest(lister: Lister, ahead: _Ahead, until: str | None) -> Iterator[KeyPage]:
    """Continue where ``ahead`` stopped: at ``until``, or because of the server's own order."""
    yield from _one_by_one(lister, ahead) if until is None else _up_to(lister, ahead.given, until)


def _up_to(lister: Lister, given: str, until: str) -> Iterator[KeyPage]:
    """Continue after ``given`` in the server's order, up to where the listing that begins after ``until`` goes on.

    If keys have the order of their bytes, only keys that were added meanwhile are left. Otherwise the end is not the
    first key that is greater than ``until``, but the first one that the other listing has.

    Raises:
        StoreUnavailableError: so many keys are added here that the end was not found.
    """
    seen: set[str] = set()
    looks = 0
    while looks < MOST_LOOKS:
        beyond = set(lister.page(until).keys)
        page = lister.page(given)
        end = next((place for place, key in enumerate(page.keys) if key in beyond), len(page.keys))
        # A greater key that the other listing did not have just now: was it added since, or is this the server's order?
        if any(key > until and key not in seen for key in page.keys[:end]):
            seen.update(page.keys)
            looks += 1
            continue
        if end:
            yield KeyPage(page.keys[:end], page.infos[:end], page.is_last)
        if end < len(page.keys) or page.is_last:
            return
        given, looks = page.keys[-1], 0
    raise StoreUnavailableError(f"keys are added faster than they are listed, after {until!r}")


def _one_by_one(lister: Lister, ahead: _Ahead) -> Iterator[KeyPage]:
    """Continue in the server's own order, where ``ahead`` had to stop."""
    if not ahead.is_disordered:
        return
    is_last, after = False, ahead.given
    while not is_last:
        page = lister.page(after)
        yield page
        is_last, after = page.is_last, page.keys[-1] if page.keys else after


class _Ahead:
    """The ranges of one listing and the threads that read them.

    Attributes:
        given: the last key that was returned.
        is_disordered: the server does not order keys by their bytes; no more keys are returned.
    """

    def __init__(self, lister: Lister, prefix: str, after: str, until: str | None = None) -> None:
        self._lister = lister
        self._prefix = prefix
        self._ranges = [_Range(after, until)]
        self.given = after
        self.is_disordered = False
        self._changed = threading.Condition()
        self._is_stopped = False
        for number in range(WIDTH):
            threading.Thread(target=self._work, name=f"list-{number}", daemon=True).start()

    def __iter__(self) -> Iterator[KeyPage]:
        while self._ranges:
            with self._changed:
                self._changed.wait_for(self._has_news)
                if self.is_disordered:
                    return
                head = self._ranges[0]
                page = head.pages.popleft() if head.pages else None
                if page is None:
                    if head.error is not None:
                        raise head.error
                    del self._ranges[0]
                self._changed.notify_all()
            if page is not None:
                self.given = page.keys[-1]
                yield page

    def _has_news(self) -> bool:
        head = self._ranges[0]
        return bool(head.pages) or head.is_done or head.error is not None or self.is_disordered

    def stop(self) -> None:
        """Make the threads end after their current request."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    # Threads -------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopped or self._next() is not None)
                if self._is_stopped:
                    return
                task = self._next()
                assert task is not None
                chosen, is_cut = task
                if is_cut:
                    chosen.is_being_cut = True
                else:
                    chosen.is_busy = True
            if is_cut:
                self._cut(chosen)
            else:
                self._read(chosen)

    def _next(self) -> tuple[_Range, bool] | None:
        """Choose the range to read, or (True) to cut. None if there is nothing to do now."""
        kept = sum(len(one.pages) + one.is_busy for one in self._ranges)
        for position, one in enumerate(self._ranges):
            has_room = kept < MOST_PAGES or (position == 0 and not one.pages)
            if has_room and self._can_go_on(one) and not one.is_busy and len(one.pages) < MOST_PAGES_OF_RANGE:
                return one, False
        if kept < MOST_PAGES:  # the reader is fast enough: there are too few ranges
            for one in self._ranges:
                if self._can_go_on(one) and one.reads >= one.cut_at and not one.is_being_cut:
                    return one, True
        return None

    @staticmethod
    def _can_go_on(one: _Range) -> bool:
        return not one.is_done and one.error is None

    def _read(self, one: _Range) -> None:
        found, error = None, None
        try:
            found = self._lister.page(one.after)
        except Exception as caught:  # noqa: BLE001  (raised again when the reader gets there)
            error = caught
        with self._changed:
            one.is_busy = False
            one.error = error
            if found is not None:
                one.reads += 1
                self.is_disordered |= not is_ascending([one.after, *found.keys])
                # The range may have been cut since. Keys beyond its end belong to other ranges.
                count = len(found.keys) if one.until is None else bisect_right(found.keys, one.until)
                one.is_done = found.is_last or count < len(found.keys)
                if count:
                    one.after, one.last_keys = found.keys[count - 1], found.keys[:count]
                    one.pages.append(KeyPage(found.keys[:count], found.infos[:count], one.is_done))
            self._changed.notify_all()

    def _cut(self, one: _Range) -> None:
        try:
            cuts = self._folders_within(one.after, one.until) or _guesses(one.last_keys)
        except Exception:  # noqa: BLE001  (the listing will meet the same error, or succeed without a cut)
            cuts = []
        with self._changed:
            # Unique and sorted: some servers also name folders below the ones asked for, at every level again.
            cuts = sorted({cut for cut in cuts if cut > one.after and (one.until is None or cut < one.until)})
            if one.is_done or not cuts:
                one.cut_at *= 2
            else:
                ends: Sequence[str | None] = [*cuts[1:], one.until]
                at = self._ranges.index(one) + 1
                self._ranges[at:at] = [_Range(cut, end) for cut, end in zip(cuts, ends, strict=True)]
                one.until, one.reads, one.cut_at = cuts[0], 0, CUT_AFTER
            one.is_being_cut = False
            self._changed.notify_all()

    def _folders_within(self, after: str, until: str | None) -> list[str]:
        """Return up to ``WIDTH`` folders between two keys: the nearest ones first, then those of higher levels."""
        levels = [self._prefix]
        if after.startswith(self._prefix):
            names = after[len(self._prefix) :].split("/")[:-1]
            levels = list(itertools.accumulate((f"{name}/" for name in names), initial=self._prefix))
        cuts: list[str] = []
        for above in reversed(levels):
            found = self._lister.folders(above, after)
            self.is_disordered |= not is_ascending(found)
            inside = [folder for folder in found if folder > after and (until is None or folder < until)]
            cuts += inside[:: -(-len(inside) // WIDTH) or 1]
            if len(cuts) >= WIDTH:
                break
        return cuts[:WIDTH]


def _guesses(keys: list[str]) -> list[str]:
    """Guess later keys from some consecutive ones: after 0017 and 0019, 002 may come.

    Only letters and digits are guessed, and only those that the keys have where they begin to differ.
    """
    common = os.path.commonprefix([keys[0], keys[-1]])  # noqa: RUF071  (intended for strings)
    stem, last = common[:-1], common[-1:]
    signs = sorted({key[len(common)] for key in keys if len(key) > len(common)})
    inside = [sign for sign in signs if sign > last and sign.isascii() and sign.isalnum()]
    return [stem + sign for sign in inside[:: -(-len(inside) // WIDTH) or 1]] if last.isalnum() else []


def _count_within(keys: Sequence[str], until: str | None) -> int:
    """Return how many of the first keys are not greater than ``until``."""
    return next((place for place, key in enumerate(keys) if until is not None and key > until), len(keys))


def is_sorted(keys: Iterable[str]) -> bool:
    """Return whether keys have the order of their bytes. Equal ones do: of long keys only the beginning is kept."""
    return all(one <= other for one, other in itertools.pairwise(keys))


def is_ascending(keys: Sequence[str]) -> bool:
    """Return whether keys have the order of their bytes, and none comes twice."""
    return all(one < other for one, other in itertools.pairwise(keys))
