"""Vocabularies: list, add and show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import vocabularies
from storage.results.vocabularies import VocabularySpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Engine

    from storage.results.generation_views import VocabularyTag, VocabularyView


class VocabularyClient:
    """Vocabularies. Thread-safe. Every method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def list(self) -> list[VocabularyView]:
        """Return every vocabulary, oldest first."""
        with unit_of_work(self._engine) as session:
            return vocabularies.views(session)

    def add(self, path: Path, name: str | None = None) -> VocabularyView:
        """Store the vocabulary of a file. The default name is the file's name without extension.

        Raises:
            UsageError: the file is invalid. The message names the line.
            ConflictError: another vocabulary has the name.
        """
        from ram_core.errors import VocabularyError  # noqa: PLC0415  (only this method reads a file)
        from ram_core.vocabulary_file import read_vocabulary  # noqa: PLC0415

        try:
            read = read_vocabulary(path, name)
        except VocabularyError as error:
            raise UsageError(str(error)) from error
        thresholds = [float(threshold) for threshold in read.thresholds]
        spec = VocabularySpec(
            read.sha256, read.name, read.names, read.names_zh, thresholds, read.descriptions, read.synonyms
        )
        with unit_of_work(self._engine) as session:
            return vocabularies.add(session, spec)

    def show(self, name: str) -> tuple[VocabularyView, Sequence[VocabularyTag]]:
        """Return a vocabulary, by name or id, and its tags. Raises ``NotFoundError``."""
        with unit_of_work(self._engine) as session:
            view = vocabularies.find(session, name)
            return view, vocabularies.tags(session, view.id)
