"""Phase ``label`` of a build: the tags of each picture, and where each of them is from.

A task is a range of images. The tags are those assigned at the thresholds of the generation that the version was built
from (origin ``given``), those that captions name (``parsed``), and what people said (``corrected``, or dropped as
``removed``). A caption that a model wrote of the picture is taken too; one that was composed from tags says nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ram_core.labels import TagParser
from storage.database import unit_of_work
from storage.datasets import items, labels, said, sources
from storage.datasets.labels import Label
from storage.results import generations, tags
from storage.results.views import COMPOSED
from storage.tables import SCORE_SCALE
from workers.datasets.phase import Phase, by_images
from workers.datasets.vocabulary import own_ids
from workers.pipeline.tags import tag_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from ram_core.vocabulary import TagVocabulary
    from storage.datasets.items import Item
    from storage.datasets.sources import Recorded
    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from workers.datasets.phase import Tools, Write

IMAGES_PER_TASK = 1000


class Words:
    """Finds the tags of a vocabulary in captions.

    Args:
        vocabulary: the tags.
    """

    def __init__(self, vocabulary: TagVocabulary) -> None:
        self.vocabulary = vocabulary
        self._parser = TagParser(vocabulary)

    def tags(self, captions: Sequence[str]) -> set[int]:
        """Return the ids of the tags that captions name."""
        return {tag.id for caption in captions for tag in self._parser.parse(caption)}


def words_of(tools: Tools, version: VersionView) -> Words:
    """Return the finder of tags in captions. It is kept between tasks."""
    if "words" not in tools.cached:
        with unit_of_work(tools.engine) as session:
            tools.cached["words"] = Words(tag_vocabulary(session, version.vocabulary_id))
    return tools.cached["words"]  # type: ignore[no-any-return]


class Assigned:
    """Which tags of a data set's vocabulary a record of a generation assigns."""

    def __init__(self, session: Session, generation_id: int, version: VersionView, words: Words) -> None:
        generation = generations.get(session, generation_id)
        theirs = tags.load(session, generation.vocabulary_id)
        self._limits = [round(threshold * SCORE_SCALE) for threshold in theirs.thresholds]
        is_same = generation.vocabulary_id == version.vocabulary_id
        self._ours = own_ids(theirs.names, words.vocabulary, is_same=is_same)

    def tags(self, record: Recorded) -> set[int]:
        """Return the ids of the tags above their thresholds."""
        pairs = zip(record.tags, record.scores, strict=True)
        return {own for tag_id, score in pairs if score > self._limits[tag_id] for own in self._ours[tag_id]}


class LabelImages(Phase):
    """Finds the tags of pictures."""

    def plan(self, session: Session, version: VersionView) -> Sequence[dict[str, Any]]:
        """A task for each thousand images."""
        return by_images(session, version.id, IMAGES_PER_TASK)

    def run(self, tools: Tools, version: VersionView, task: Task) -> Write:
        """Find the tags of a range of images."""
        first, last = task.input["first"], task.input["last"]
        generation_id = version.settings["generation"]
        words = words_of(tools, version)
        with unit_of_work(tools.engine) as session:
            if "assigned" not in tools.cached:
                tools.cached["assigned"] = Assigned(session, generation_id, version, words)
            pictures = items.read(session, version.id, first, last)
            records = sources.recorded(session, generation_id, [item.image_id for item in pictures])
        assigned: Assigned = tools.cached["assigned"]
        told = [_with_caption(item, records.get(item.image_id)) for item in pictures]
        found = [
            Label(item.image_id, tag_id, [name for name, ids in named.items() if tag_id in ids])
            for item in told
            for named in (_named(item, records.get(item.image_id), assigned, words),)
            for tag_id in sorted(set().union(*named.values()))
        ]
        captioned = [new for old, new in zip(pictures, told, strict=True) if new is not old]

        def write(session: Session) -> dict[str, Any]:
            items.lock(session, version.id, first, last)
            items.set_captions(session, version.id, captioned)
            labels.put(session, version.id, found)
            said.apply(session, version.id, version.vocabulary_id, first, last)
            return {"images": len(pictures)}

        return write


def _with_caption(item: Item, record: Recorded | None) -> Item:
    """Return a picture with the caption that a model wrote of it, if there is one that it lacks."""
    if record is None or not record.caption or record.captioner == COMPOSED or record.caption in item.captions:
        return item
    return replace(item, captions=[*item.captions, record.caption], origins=[*item.origins, "generated"])


def _named(item: Item, record: Recorded | None, assigned: Assigned, words: Words) -> dict[str, set[int]]:
    """Return the tags of a picture by origin, in the order of ``labels.ORIGINS``."""
    return {"given": assigned.tags(record) if record is not None else set(), "parsed": words.tags(item.captions)}
