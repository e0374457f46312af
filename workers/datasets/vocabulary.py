"""Tags of other vocabularies, found by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ram_core.vocabulary import TagVocabulary


def called(vocabulary: TagVocabulary, name: str) -> list[int]:
    """Return the ids of the tags that have a name in a vocabulary. A number is no id here."""
    found = vocabulary.resolve(name)
    return [tag_id for tag_id in found if vocabulary.names[tag_id] == name] if name.strip().isdecimal() else found


def own_ids(names: Sequence[str], vocabulary: TagVocabulary, *, is_same: bool) -> list[Sequence[int]]:
    """Return, for each tag of a generation, the ids of the tags of a data set that are meant by it.

    Args:
        names: of the generation's tags.
        vocabulary: of the data set.
        is_same: whether both have the same vocabulary. Then ids are kept, since several tags may share a name.
    """
    return [(tag_id,) if is_same else called(vocabulary, name) for tag_id, name in enumerate(names)]
