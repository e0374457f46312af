"""While the sources of a data set are read: a sign of life every few seconds, whatever takes long."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.datasets import gathering
from storage.errors import RamqError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

log = structlog.get_logger()


@contextmanager
def heard(engine: Engine, hear: Callable[[Session], None]) -> Iterator[None]:
    """Call ``hear`` in a transaction of its own every few seconds, until a block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(gathering.PATIENCE_SECONDS / 8):
            try:
                with unit_of_work(engine) as session:
                    hear(session)
            except TransientError as error:
                log.warning("no sign of life given", error=str(error))
            except RamqError:
                return  # the step was cancelled: whoever reads the sources stops at the next transaction

    thread = threading.Thread(target=repeat, name="dataset-sources", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
