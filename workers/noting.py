"""Notes the words of what files said before words were noted, so that texts find them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.results import metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

IMAGES_AT_ONCE = 1_000
"""Of one transaction: some hundredths of a second."""


def note_words(engine: Engine, is_stopping: Callable[[], bool]) -> None:
    """Note the words of all images whose words were not noted yet. Nearly always there are none."""
    while not is_stopping():
        with unit_of_work(engine) as session:
            if metadata.note_words(session, IMAGES_AT_ONCE) < IMAGES_AT_ONCE:
                return
