"""While the sources of a data set are read: a sign of life every few seconds, whatever takes long."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from storage.background import repeated
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

    def say() -> bool:
        try:
            with unit_of_work(engine) as session:
                hear(session)
        except TransientError as error:
            log.warning("no sign of life given", error=str(error))
        except RamqError:
            return False  # the step was cancelled: whoever reads the sources stops at the next transaction
        return True

    with repeated("dataset-sources", gathering.PATIENCE_SECONDS / 8, say):
        yield
