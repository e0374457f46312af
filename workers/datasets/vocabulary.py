"""Names of tags in other vocabularies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ram_core.vocabulary import TagVocabulary


def called(vocabulary: TagVocabulary, name: str) -> list[int]:
    """Return the ids of the tags that have a name in a vocabulary. A number is no id here."""
    found = vocabulary.resolve(name)
    return [tag_id for tag_id in found if vocabulary.names[tag_id] == name] if name.strip().isdecimal() else found
