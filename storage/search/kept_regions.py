"""The images with regions of tags, kept between searches.

They are kept by tag, not by what was asked of it: ``count:dog>=2`` and ``area:dog<0.1`` are answered from the same
arrays. All are as they were at about one moment. Each search asks PostgreSQL in one statement what changed since, and
for the tags that are not kept yet. So it finds what was committed before it, exactly.

What changed is kept apart, since putting it into large arrays takes a while; ``KeptRegions.warm`` does that, and reads
all tags beforehand if they fit. It runs in a thread of its own.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from storage.results import region_search, regions
from storage.results.region_lists import EVERY
from storage.results.region_search import NONE, Counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.moments import Moment
    from storage.results.region_search import Changed

MAX_BYTES = 256 * 2**20
"""Of the arrays that are kept. An image takes about 9 bytes for each of its tags."""

MANY_CHANGES = 30
"""Kept apart. With more, ``warm`` puts them into the arrays."""

MOST_CHANGES = 300
"""Kept apart. With more, everything is forgotten, since nobody calls ``warm`` in this process."""

WARM_SHARE = 0.75
"""Of the memory that ``warm`` fills. The rest is for what people ask for."""

BYTES_EACH = 10
"""At most, of an image in a list."""

READ_AT_ONCE = 1_000_000
"""Images of tags that are read in one statement beforehand, and for which it holds a connection."""

FEW = 20_000
"""The tags of so many images can be looked up in PostgreSQL."""

_OVERHEAD = 500
"""Bytes of a list without images, beside its name."""

_BYTES_OF_CHARACTER = 4
"""At most, of a name."""

_SPAN = 2**27
"""Ids this close together are marked in an array of bools."""


@dataclass(frozen=True, slots=True)
class _State:
    """What is kept.

    Attributes:
        epoch: states with the same one follow each other. Their changes are complete since it began.
        moment: up to which changes are complete.
        lists: the images of a name, at ``moment`` or earlier, but not before the epoch began. None is empty, so that
            names that people make up take no memory.
        taken: bytes of the lists.
        changes: since the epoch began, oldest first.
        changed_ids: the images in ``changes``, ascending.
        is_complete: what is not in ``lists`` has no images but those in ``changes``.
    """

    epoch: int
    moment: Moment
    lists: Mapping[str, Counted]
    taken: int
    changes: tuple[Changed, ...] = ()
    changed_ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    is_complete: bool = False

    def has(self, name: str) -> bool:
        """Return whether the images of a name need not be read."""
        return self.is_complete or name in self.lists

    def of(self, name: str) -> Counted:
        """Return the images of a name as they are at ``moment``."""
        return self.as_changed(self.lists.get(name, NONE), name)

    def as_changed(self, base: Counted, name: str) -> Counted:
        """Return images of a name with the changes."""
        now = reduce(lambda small, change: small.changed(change.ids, change.now.get(name, NONE)), self.changes, NONE)
        return base.changed(self.changed_ids, now)

    def advanced(self, now: Moment, changed: Changed) -> _State:
        """Return the state at a later moment."""
        if not len(changed.ids):
            return replace(self, moment=now)
        changed_ids = np.union1d(self.changed_ids, changed.ids)
        # A standby tells of the same changes again as long as somebody writes.
        held = (each for each in self.changes if not np.isin(each.ids, changed.ids, assume_unique=True).all())
        return replace(self, moment=now, changes=(*held, changed), changed_ids=changed_ids)

    def adding(self, lists: Mapping[str, Counted]) -> _State:
        """Return the state with further lists, which are not older than the epoch."""
        new = {name: each for name, each in lists.items() if name not in self.lists}
        return replace(self, lists={**self.lists, **new}, taken=self.taken + _bytes(new)) if new else self

    def most_common(self, image_ids: NDArray[np.int64], limit: int | None) -> dict[str, int]:
        """Return the names of which most of these images (ascending) have regions, and how many. It is complete."""
        counts: Counter[str] = Counter()
        left = image_ids
        for change in reversed(self.changes):  # the last one of an image holds
            here = np.intersect1d(left, change.ids, assume_unique=True)
            counts.update({name: len(each.among(here).ids) for name, each in change.now.items()})
            left = np.setdiff1d(left, change.ids, assume_unique=True)
        counting = _Counting(left)
        most = [0] * (limit or 0)  # ascending
        for name, each in sorted(self.lists.items(), key=lambda item: -len(item[1].ids)):
            # Names with changes may have more images than their list.
            if name == EVERY or (most and len(each.ids) < most[0] and name not in counts):
                continue
            counts[name] += counting.of(each)
            if most:
                insort(most, counts[name])
                del most[0]
        counts.pop(EVERY, None)
        return first(counts, limit)


class KeptRegions:
    """Finds images by their regions. One per process; thread-safe.

    Args:
        max_bytes: how much is kept. What was not asked for the longest is forgotten first.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._state: _State | None = None
        self._warm_epoch = 0
        self._is_wanted = False
        self._epochs = count(1)
        self._asked: dict[str, int] = {}
        self._ticks = count()
        self._lock = Lock()

    def images(self, session: Session, names: Iterable[str]) -> dict[str, Counted]:
        """Return the images of these folded names; ``region_lists.EVERY`` for all located images."""
        wanted = list(names)
        self._is_wanted = True
        state = self._found(session, wanted)
        return {name: state.of(name) for name in wanted}

    def most_common(self, session: Session, image_ids: NDArray[np.int64], limit: int | None) -> dict[str, int] | None:
        """Return the tags of which most of these images (ascending) have regions: folded name, number of images.

        Most frequent first, equal ones by name; ``limit`` None: all. Returns None if the images are many
        and not all tags are kept yet.
        """
        if self._state is not None and self._state.is_complete:
            state = self._found(session, ())
            if state.is_complete:
                return state.most_common(image_ids, limit)
        if not len(image_ids) or not regions.is_any(session):
            return {}
        self._is_wanted = True
        return first(region_search.tags_of(session, image_ids.tolist()), limit) if len(image_ids) <= FEW else None

    @property
    def needs_warming(self) -> bool:
        """Whether regions are searched, and ``warm`` would make later searches faster."""
        state = self._state
        is_warm = state is not None and state.epoch == self._warm_epoch and len(state.changes) <= MANY_CHANGES
        return self._is_wanted and not is_warm

    def warm(
        self,
        transaction: Callable[[], AbstractContextManager[Session]],
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Read the images of all tags, the most frequent first, while there is room; put changes into the lists.

        No transaction lasts longer than reading some million numbers.

        Args:
            transaction: begins one.
            is_stopping: whether to end early.
        """
        with transaction() as session:
            if not regions.is_any(session):
                return
            self._found(session, [EVERY])
        self._fold()
        state = self._state
        if state is None or state.epoch == self._warm_epoch:
            return
        with transaction() as session:
            sizes = region_search.sizes(session)
        room = self._max_bytes * WARM_SHARE - state.taken
        is_whole = True
        empty: set[str] = set()  # by the time they are read
        for names in _portions({name: size for name, size in sizes.items() if name not in state.lists}):
            room -= sum(sizes[name] * BYTES_EACH + _fixed_bytes(name) for name in names)
            if is_stopping():
                return
            if room < 0:
                is_whole = False
                break
            with transaction() as session:
                empty.update(set(names) - self._found(session, names).lists.keys())
        with self._lock:
            now = self._state
            if now is not None and now.epoch == state.epoch:
                # Names that came up since were given to images that changed since.
                is_complete = is_whole and sizes.keys() - empty <= now.lists.keys()
                self._state = replace(now, is_complete=is_complete)
                self._warm_epoch = now.epoch

    def _found(self, session: Session, names: Sequence[str]) -> _State:
        """Return the state as it is now, with the lists of these names."""
        begun = self._state
        missing = [name for name in names if begun is None or not begun.has(name)]
        found = region_search.find(session, None if begun is None else begun.moment, missing)
        if begun is not None and found.changed is None:  # everything is read again
            begun, missing = None, list(names)
            found = region_search.find(session, None, missing)
        lists = {name: found.whole[name] for name in missing if name in found.whole}
        if begun is None:
            state = _State(next(self._epochs), found.now, lists, _bytes(lists))
        else:
            assert found.changed is not None
            state = begun.advanced(found.now, found.changed).adding(lists)
        if found.now.is_public:
            self._keep(begun, state, names)
        return state

    def _keep(self, begun: _State | None, state: _State, asked: Sequence[str]) -> None:
        with self._lock:
            now = self._state
            if begun is not None and now is not begun:
                if now is None or now.epoch != state.epoch:
                    return
                # Another search was faster. What was read here is not older than the epoch.
                state = now.adding(state.lists)
            self._asked.update((name, next(self._ticks)) for name in asked if name in state.lists)
            self._set(None if len(state.changes) > MOST_CHANGES else self._within(state))

    def _set(self, state: _State | None) -> None:
        """Keep this state, and the ticks of its names only."""
        if state is None or self._state is None or state.epoch != self._state.epoch:
            lists = {} if state is None else state.lists
            self._asked = {name: tick for name, tick in self._asked.items() if name in lists}
        self._state = state

    def _within(self, state: _State) -> _State:
        """Return the state without lists for which there is no room."""
        if state.taken <= self._max_bytes:
            return state
        lists = dict(state.lists)
        for name in sorted(lists, key=lambda name: self._asked.get(name, -1)):
            if _bytes(lists) <= self._max_bytes:
                break
            del lists[name]
            self._asked.pop(name, None)
        return replace(state, lists=lists, taken=_bytes(lists), is_complete=False)

    def _fold(self) -> None:
        """Put changes into the lists."""
        begun = self._state
        if begun is None or len(begun.changes) <= MANY_CHANGES:
            return
        new = {name for change in begun.changes for name in change.now} if begun.is_complete else set()
        folded = {name: begun.of(name) for name in {*begun.lists, *new}}
        with self._lock:
            now = self._state
            if now is None or now.epoch != begun.epoch:
                return
            # Lists that were read meanwhile may have the changes, or some of them.
            lists = {
                name: folded[name] if each is begun.lists.get(name) else now.as_changed(each, name)
                for name, each in now.lists.items()
            }
            lists |= {name: folded[name] for name in new if now.is_complete and name not in lists}
            lists = {name: each for name, each in lists.items() if len(each.ids)}
            changes = tuple(each for each in now.changes if not any(each is other for other in begun.changes))
            changed_ids = reduce(np.union1d, (each.ids for each in changes), np.empty(0, dtype=np.int64))
            epoch = next(self._epochs)
            if self._warm_epoch == now.epoch:
                self._warm_epoch = epoch
            self._set(
                self._within(
                    replace(
                        now, epoch=epoch, lists=lists, taken=_bytes(lists), changes=changes, changed_ids=changed_ids
                    )
                )
            )


class _Counting:
    """Counts how many of some images (ids, ascending) are in lists."""

    def __init__(self, image_ids: NDArray[np.int64]) -> None:
        self._ids = image_ids
        self._begin = int(image_ids[0]) if len(image_ids) else 0
        self._end = int(image_ids[-1]) + 1 if len(image_ids) else 0
        self._is_wanted: NDArray[np.bool_] | None = None
        if self._end - self._begin <= _SPAN:
            self._is_wanted = np.zeros(self._end - self._begin, dtype=np.bool_)
            self._is_wanted[image_ids - self._begin] = True

    def of(self, counted: Counted) -> int:
        """Return how many of the images are in this list."""
        if self._is_wanted is None:
            return len(counted.among(self._ids).ids)
        inside = counted.ids[slice(*np.searchsorted(counted.ids, (self._begin, self._end)))]
        return int(np.count_nonzero(self._is_wanted[inside.astype(np.int64) - self._begin]))


def first(counts: Mapping[str, int], limit: int | None) -> dict[str, int]:
    """Return the names with the highest counts, highest first, equal ones by name; no 0."""
    return dict(sorted(((n, c) for n, c in counts.items() if c), key=lambda item: (-item[1], item[0]))[:limit])


def _portions(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    names: list[str] = []
    taken = 0
    for name, size in sizes.items():
        if names and taken + size > READ_AT_ONCE:
            yield names
            names, taken = [], 0
        names.append(name)
        taken += size
    if names:
        yield names


def _bytes(lists: Mapping[str, Counted]) -> int:
    return sum(each.nbytes + _fixed_bytes(name) for name, each in lists.items())


def _fixed_bytes(name: str) -> int:
    return _OVERHEAD + _BYTES_OF_CHARACTER * len(name)
