"""The vocabulary of a data set, as phases use it: its tags, what captions name, and the tags of other vocabularies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ram_core.labels import TagParser
from ram_core.vocabulary import TagVocabulary
from storage.results import vocabularies

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from workers.datasets.phase import Tools


class Tags:
    """Tags of a data set.

    Args:
        vocabulary: its vocabulary.
    """

    def __init__(self, vocabulary: TagVocabulary) -> None:
        self.vocabulary = vocabulary
        self._parser: TagParser | None = None

    @classmethod
    def load(cls, session: Session, tools: Tools, vocabulary_id: int) -> Tags:
        """Return the tags of a vocabulary. They are kept between the tasks of a version."""
        key = f"tags of vocabulary {vocabulary_id}"
        if key not in tools.cached:
            tools.cached[key] = cls(_vocabulary(session, vocabulary_id))
        found: Tags = tools.cached[key]
        return found

    def named_in(self, caption: str) -> set[int]:
        """Return the ids of the tags that a caption names."""
        if self._parser is None:  # its table of names takes a moment
            self._parser = TagParser(self.vocabulary)
        return {tag.id for tag in self._parser.parse(caption)}

    def called(self, name: str) -> list[int]:
        """Return the ids of the tags that have a name in this vocabulary. A number is no id here."""
        found = self.vocabulary.resolve(name)
        names = self.vocabulary.names
        return [tag_id for tag_id in found if names[tag_id] == name] if name.strip().isdecimal() else found


def _vocabulary(session: Session, vocabulary_id: int) -> TagVocabulary:
    view = vocabularies.view(session, vocabulary_id)
    tags = vocabularies.tags(session, vocabulary_id)
    return TagVocabulary(
        view.name,
        tuple(tag.name for tag in tags),
        tuple(tag.name_zh for tag in tags),
        np.array([tag.threshold for tag in tags], dtype=np.float32),
        None,
        tuple(tuple(tag.synonyms) for tag in tags) if any(tag.synonyms for tag in tags) else None,
    )
