"""From what files say of an image to a sample: captions to tags, names of tags to ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ram_core.errors import TrainingError
from ram_core.labels import TagParser
from ram_core.training.data.dataset import Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ram_core.vocabulary import TagVocabulary


class Describer:
    """Makes samples.

    Args:
        vocabulary: the tags.
        parse: whether captions whose tags are not given are parsed. If not, they name none.
    """

    def __init__(self, vocabulary: TagVocabulary, *, parse: bool = True) -> None:
        self.vocabulary = vocabulary
        self._parser = TagParser(vocabulary) if parse else None

    def caption_tags(self, caption: str) -> list[int]:
        """Return the ids of the tags that a caption names, ascending."""
        return sorted({tag.id for tag in self._parser.parse(caption)}) if self._parser is not None else []

    def sample(self, name: str, captions: Iterable[str], tags: Iterable[int] = ()) -> Sample:
        """Return a sample: its tags are those given and those that its captions name. Blank captions are left out."""
        told = [caption for caption in captions if caption.strip()]
        by_caption = [self.caption_tags(caption) for caption in told]
        return Sample(name, told, by_caption, sorted({*tags, *(tag for named in by_caption for tag in named)}))

    def ids(self, tags: Sequence[Any], where: str) -> list[int]:
        """Return the ids of tags that are given by name, by id, or as ``{"name": …}``.

        Raises:
            TrainingError: the vocabulary has no such tag.
        """
        found: list[int] = []
        for tag in tags:
            named = tag.get("name") if isinstance(tag, dict) else tag
            if isinstance(named, int) and not isinstance(named, bool):
                found.append(named)
                continue
            ids = self.vocabulary.resolve(named) if isinstance(named, str) else []
            if not ids:
                near = self.vocabulary.suggest(named) if isinstance(named, str) else []
                meant = f" (did you mean {', '.join(near)}?)" if near else ""
                raise TrainingError(
                    f"{where}: vocabulary {self.vocabulary.name!r} has no tag {named!r}{meant}; remove it there, or "
                    "give the vocabulary that has it"
                )
            found.extend(ids)
        return sorted(set(found))
