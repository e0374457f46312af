"""Asks a share of the searches again, of the index and of its shadow, in the background, and compares the answers."""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, NamedTuple

import structlog

from ramq.services.shadow_tally import FIRST, Comparison, Tally
from storage.errors import RamqError, UsageError
from storage.index.pointers import ShadowUnreadyError
from storage.remembered import read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Engine

    from storage.index.file_storage import FileStorage
    from storage.search.compared import Compared
    from storage.search.search import Search
    from storage.search.views import HitPage, SearchQuery

log = structlog.get_logger(__name__)

MOST_WAITING = 16
"""Searches that wait for their comparison. Further ones are not compared."""

WAIT_SECONDS = 10.0
"""A search that waited longer is not compared: the machine has more important work."""

PAUSE_SECONDS = 30.0
"""For so long, nothing is compared after the shadow failed or lacked too much."""

WRITE_SECONDS = 30.0
"""How often the tally is written, if it changed."""

WORTH_TELLING = 0.8
"""Less agreement than this is logged."""


class _Asked(NamedTuple):
    """A search that waits."""

    query: SearchQuery
    compared: Sequence[Compared]
    since: float


class ShadowComparer:
    """Compares searches. Thread-safe.

    Both indexes are asked here in turns, at about the same moment. So their times mean the same, and the answer that
    somebody waits for costs nothing but its place in a queue.

    Args:
        engine: the database that is searched.
        both: returns searches over the index and over the shadow; called when they are first needed.
        place: returns where the tally is written.
        share: of the searches that are compared, 0 to 1.
    """

    def __init__(
        self,
        engine: Engine,
        both: Callable[[], tuple[Search, Search]],
        place: Callable[[], FileStorage],
        *,
        share: float,
    ) -> None:
        self.tally = Tally()
        self._engine = engine
        self._open = both
        self._both: tuple[Search, Search] | None = None
        self._place = place
        self._share = share
        self._waiting: Queue[_Asked] = Queue(MOST_WAITING)
        self._paused_until = float("-inf")
        self._is_running = False
        self._turn = self._written = 0

    def offer(self, query: SearchQuery, compared: Sequence[Compared]) -> None:
        """Perhaps compare a search that was answered. Returns at once, and raises nothing."""
        if not self._is_running or query.cursor is not None or random.random() >= self._share:  # noqa: S311 - a sample
            return
        if time.monotonic() < self._paused_until:
            self.tally.count("dropped")
            return
        try:
            self._waiting.put_nowait(_Asked(query, compared, time.monotonic()))
        except Full:
            self.tally.count("dropped")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Compare during the block, if there is anything to compare with."""
        if not self._share:
            yield
            return
        thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._is_running = True
        thread.start()
        try:
            yield
        finally:
            self._is_running = False
            # One that waits for the shadow ends with the process.
            thread.join(timeout=WAIT_SECONDS)

    def _run(self) -> None:
        written_at = time.monotonic()
        while self._is_running:
            with suppress(Empty):
                asked = self._waiting.get(timeout=0.5)
                self.take(asked.query, asked.compared, asked.since)
            if time.monotonic() - written_at > WRITE_SECONDS:
                self._write()
                written_at = time.monotonic()
        self._write()

    def take(self, query: SearchQuery, compared: Sequence[Compared], since: float) -> None:
        """Compare a search that waited since then, on the clock of ``time.monotonic``, and count it. Raises nothing."""
        if time.monotonic() - since > WAIT_SECONDS or time.monotonic() < self._paused_until:
            self.tally.count("dropped")
            return
        try:
            self._compare(query, compared)
        except ShadowUnreadyError:
            self.tally.count("unready")
            self._pause()
        except UsageError as error:
            self.tally.count("refused")
            log.debug("the shadow refuses a search", error=str(error))
        except RamqError as error:
            self.tally.count("failed")
            self._pause()
            log.warning("a search could not be compared with the shadow", error=str(error))
        except Exception:  # whatever it is, nobody waits for it
            self.tally.count("failed")
            self._pause()
            log.exception("a search could not be compared with the shadow")

    def _compare(self, query: SearchQuery, compared: Sequence[Compared]) -> None:
        if self._both is None:
            self._both = self._open()
        index, shadow = self._both
        self._turn += 1
        # Who is second may find what the first one read of the database in memory.
        if self._turn % 2:
            ours, other = self._page(index, query, compared), self._page(shadow, query, compared)
        else:
            other, ours = self._page(shadow, query, compared), self._page(index, query, compared)
        found = comparison(_kind_of(query, compared), ours, other)
        if found.is_same:
            self.tally.count("same", found)
            return
        again, _ = self._page(index, query, compared)
        if (_ids(again), again.total) != (_ids(ours[0]), ours[0].total):
            self.tally.count("changed")
            return
        self.tally.count("different", found)
        if found.agreement < WORTH_TELLING:
            first, second = _ids(ours[0]), _ids(other[0])
            log.warning(
                "the shadow disagrees",
                kind=found.kind,
                agreement=found.agreement,
                lacks=[image_id for image_id in first if image_id not in second],
                has=[image_id for image_id in second if image_id not in first],
                total=ours[0].total,
                shadow_total=other[0].total,
            )

    def _page(self, search: Search, query: SearchQuery, compared: Sequence[Compared]) -> tuple[HitPage, float]:
        """Return a page, and how many seconds it took."""
        with read_only(self._engine) as session:
            began = time.perf_counter()
            return search.page(session, query, compared), time.perf_counter() - began

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + PAUSE_SECONDS

    def _write(self) -> None:
        total = self.tally.outcomes.total()
        if total == self._written:
            return
        try:
            self.tally.write(self._place())
            self._written = total
        except (RamqError, OSError) as error:
            log.warning("what was compared with the shadow is not written", error=str(error))


def comparison(kind: str, ours: tuple[HitPage, float], other: tuple[HitPage, float]) -> Comparison:
    """Return how two answers differ, each with the seconds that it took."""
    first, second = ({hit.image_id: hit.score for hit in page.items[:FIRST]} for page, _ in (ours, other))
    both = first.keys() & second.keys()
    longer = max(len(first), len(second))
    return Comparison(
        kind,
        agreement=len(both) / longer if longer else 1.0,
        score_difference=max((abs(first[each] - second[each]) for each in both), default=0.0),
        is_total_same=ours[0].total == other[0].total,
        index_seconds=ours[1],
        shadow_seconds=other[1],
    )


def _kind_of(query: SearchQuery, compared: Sequence[Compared]) -> str:
    if query.like is not None or query.like_region is not None or any(each.of != "text" for each in compared):
        return "image"
    return "text" if compared else "tags"


def _ids(page: HitPage) -> list[int]:
    return [hit.image_id for hit in page.items[:FIRST]]
