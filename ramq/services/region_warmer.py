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
        chosen: returns the database that searches read now, and what this process keeps of its regions and keywords.
    """

    def __init__(self, chosen: Callable[[], tuple[Engine, KeptRegions, KeptKeywords]]) -> None:
        self._chosen = chosen
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
        if not self._is_running:
            return
        _, regions, keywords = self._chosen()
        if regions.needs_warming or keywords.needs_warming:
            self._is_woken.set()

    def _run(self) -> None:
        while self._is_running:
            self._is_woken.clear()
            try:
                engine, regions, keywords = self._chosen()
                regions.warm(partial(unit_of_work, engine), lambda: not self._is_running)
                with unit_of_work(engine) as session:
                    keywords.warm(session)
            except RamqError as error:
                # Searches read what they need themselves, and wake this thread again.
                log.warning("not_read_beforehand", error=str(error))
            if self._is_running:
                self._is_woken.wait()
