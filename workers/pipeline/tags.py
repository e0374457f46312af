"""Vocabularies of the database as models and parsers take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ram_core.vocabulary import TagVocabulary
from storage.results import vocabularies

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def tag_vocabulary(session: Session, vocabulary_id: int) -> TagVocabulary:
    """Return a vocabulary. Raises ``NotFoundError``."""
    view = vocabularies.view(session, vocabulary_id)
    tags = vocabularies.tags(session, vocabulary_id)
    described = tags[0].descriptions is not None
    return TagVocabulary(
        view.name,
        tuple(tag.name for tag in tags),
        tuple(tag.name_zh for tag in tags),
        np.array([tag.threshold for tag in tags], dtype=np.float32),
        tuple(tuple(tag.descriptions or ()) for tag in tags) if described else None,
        tuple(tuple(tag.synonyms) for tag in tags) if any(tag.synonyms for tag in tags) else None,
    )
