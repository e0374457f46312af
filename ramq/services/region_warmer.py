"""Keeps the regions and the keywords that searches need in the memory of a server process."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.errors import RamqError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

    from storage.search.kept_keywords import KeptKeywords
    from storage.search.kept_regions import KeptRegions

log = structlog.get_logger(__name__)


class RegionWarmer:
    """Reads regions and keywords beforehand, in a thread of its own, at its start and when a search found them cold.

    Args:
        engine: the database that is searched.
        regions: returns what this process keeps of its regions.
        keywords: what it keeps of its keywords.
    """

    def __init__(self, engine: Engine, regions: Callable[[], KeptRegions], keywords: KeptKeywords) -> None:
        self._engine = engine
        self._regions = regions
        self._keywords = keywords
        self._is_woken = threading.Event()
        self._is_running = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the thread during the block."""
        self._is_running = True
        thread = threading.Thread(target=self._run, name="region warmer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_running = False
            self._is_woken.set()
            thread.join()

    def wake(self) -> None:
        """Say that a search ended. Nothing happens if that left no work, or without the thread."""
        if self._is_running and (self._regions().needs_warming or self._keywords.needs_warming):
            self._is_woken.set()

    def _run(self) -> None:
        while self._is_running:
            self._is_woken.clear()
            try:
                self._regions().warm(partial(unit_of_work, self._engine), lambda: not self._is_running)
                with unit_of_work(self._engine) as session:
                    self._keywords.warm(session)
            except RamqError as error:
                # Searches read what they need themselves, and wake this thread again.
                log.warning("not_read_beforehand", error=str(error))
            if self._is_running:
                self._is_woken.wait()
