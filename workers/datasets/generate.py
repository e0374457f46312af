"""The step ``generate``: captions and tags that a model makes of every picture, beside those that it has.

Of each picture: what the parent has, and a generated caption, the tags that it names, and the tags that the model
assigns. A caption that is composed from tags says nothing new and is left out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from storage.database import unit_of_work
from storage.datasets import generated, items, labels, step_jobs
from storage.datasets.labels import Label
from storage.datasets.step_jobs import Wanted
from storage.results import corrections, vocabularies
from storage.tables import RECOGNITION, SCORE_SCALE
from workers.datasets.jobs import JobsPhase
from workers.datasets.label import words_of
from workers.datasets.phase import Phase, by_images
from workers.datasets.tally import TallyPhase, added
from workers.datasets.vocabulary import called, own_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from storage.datasets.items import Item
    from storage.datasets.sources import Recorded
    from storage.datasets.tasks import Task
    from storage.datasets.versions import VersionView
    from storage.results.corrections import Said
    from workers.datasets.label import Words
    from workers.datasets.phase import Tools, Write

RANGE = 2_000
"""Pictures of a task."""

COUNTED = (
    "pictures",
    "recognised",
    "changed",
    "captions",
    "captions_that_name_removed_tags",
    "removed_by_people",
    "labels_before",
)
FAILED_SHOWN = 100
"""Pictures of each class of failure in the version's counts, by their ids."""
UNKNOWN_SHOWN = 50
"""Names that the data set's vocabulary lacks, in the version's counts: those of the most pictures."""


def _wanted(_session: Session, version: VersionView) -> Wanted:
    """Return what its jobs do: recognition of the pictures that have no record yet."""
    asked = version.settings
    return Wanted(
        RECOGNITION,
        asked["model"],
        captioner=asked["captioner"],
        features=asked["features"],
        vocabulary_id=asked["vocabulary_id"],
        generation_id=asked["generation_id"],
    )


class LabelPhase(Phase):
    """Merges what was generated into what the parent has, in ranges of pictures."""

    def plan(self, session: Session, version: VersionView) -> Sequence[dict[str, Any]]:
        """Return the ranges."""
        assert version.parent_id is not None
        return by_images(session, version.parent_id, RANGE)

    def run(self, tools: Tools, version: VersionView, task: Task) -> Write:
        """Read what the parent has and what was generated, and return what writes both."""
        assert version.parent_id is not None
        first, last = task.input["first"], task.input["last"]
        words = words_of(tools, version)
        with unit_of_work(tools.engine) as session:
            jobs = [job.id for job in step_jobs.of_stage(session, version, RECOGNITION)]
            sources = [*step_jobs.generations(session, jobs), version.settings["generation_id"]]
            merging = _Merging(
                words,
                version.settings["captioner"],
                {number: _source(session, tools, version, words, number) for number in sources if number is not None},
            )
            pictures = items.read(session, version.parent_id, first, last)
            ids = [picture.image_id for picture in pictures]
            known: dict[int, list[Label]] = {image_id: [] for image_id in ids}
            for label in labels.between(session, version.parent_id, first, last):
                known[label.image_id].append(label)
            made = generated.read(session, list(merging.sources), ids)
            said = corrections.of_images(session, ids)
            failed = generated.failures(session, list(merging.sources), [i for i in ids if i not in made])
        new_items = [merging.merge(each, known[each.image_id], made.get(each.image_id), said) for each in pictures]

        def write(session: Session) -> dict[str, Any]:
            items.add(session, version.id, new_items)
            labels.put(session, version.id, merging.labels)
            return merging.result(failed)

        return write


@dataclass(frozen=True, slots=True)
class _Source:
    """The tags of a generation by their ids: names, own thresholds, and the tags of the data set that each means."""

    names: Sequence[str]
    thresholds: Sequence[float]
    ours: Sequence[Sequence[int]]


def _source(session: Session, tools: Tools, version: VersionView, words: Words, generation_id: int) -> _Source:
    """Return the tags of a generation. They are kept between tasks."""
    key = f"tags of generation {generation_id}"
    if key not in tools.cached:
        vocabulary_id = generated.vocabulary_of(session, generation_id)
        tags = vocabularies.tags(session, vocabulary_id)
        names = [tag.name for tag in tags]
        ours = own_ids(names, words.vocabulary, is_same=vocabulary_id == version.vocabulary_id)
        tools.cached[key] = _Source(names, [tag.threshold for tag in tags], ours)
    return tools.cached[key]  # type: ignore[no-any-return]


class _Merging:
    """Merges what was generated into what is known, picture by picture, and counts.

    Args:
        words: the tags of the data set.
        captioner: whose captions are taken; ``none``: nobody's.
        sources: the tags of each generation.
    """

    def __init__(self, words: Words, captioner: str, sources: Mapping[int, _Source]) -> None:
        self.sources = sources
        self.labels: list[Label] = []
        self._words = words
        self._captioner = captioner
        self._counts = Counter[str]()
        self._added: Counter[str] = Counter()
        self._named_again: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()

    def merge(
        self, item: Item, known: Sequence[Label], made: Recorded | None, said: Mapping[int, Sequence[Said]]
    ) -> Item:
        """Return a picture with its captions. Its labels are added to ``labels``."""
        self._counts["pictures"] += 1
        self._counts["labels_before"] += len(known)
        held = {label.tag_id: label for label in known}
        # Captions, labels and split were made of the other bytes: a build begins with the new ones.
        has_changed = made is not None and made.version != item.version
        self._counts["changed"] += has_changed
        if made is None or has_changed:
            self.labels += known
            return item
        self._counts["recognised"] += 1
        removed = {
            tag_id
            for one in said.get(item.image_id, ())
            if not one.is_present
            for tag_id in called(self._words.vocabulary, one.spelling)
        } | {label.tag_id for label in known if label.reason == "removed"}
        scores = self._scores(made)
        caption = made.caption if made.caption and made.captioner == self._captioner else None
        named: set[int] = set() if caption is None else self._words.tags([caption])
        if caption is not None and named & removed:
            self._counts["captions_that_name_removed_tags"] += 1
            caption, named = None, set()
        new = (scores.keys() | named) - removed
        self._counts["removed_by_people"] += len((scores.keys() | named) & removed)
        for tag_id in new:
            origins = [*(["parsed"] if tag_id in named else []), *(["generated"] if tag_id in scores else [])]
            held[tag_id] = self._label(item.image_id, tag_id, origins, held.get(tag_id), scores.get(tag_id), made)
        self.labels += held.values()
        if caption is None or caption in item.captions:
            return item
        self._counts["captions"] += 1
        return replace(item, captions=[*item.captions, caption], origins=[*item.origins, "generated"])

    def _label(
        self, image_id: int, tag_id: int, origins: list[str], held: Label | None, score: float | None, made: Recorded
    ) -> Label:
        if held is not None:
            if fresh := [origin for origin in origins if origin not in held.origins]:
                self._named_again["+".join(fresh)] += 1
            return replace(held, origins=[origin for origin in labels.ORIGINS if origin in {*held.origins, *origins}])
        self._added["+".join(origins)] += 1
        evidence = {"generation": made.generation_id} | ({} if score is None else {"score": score})
        return Label(image_id, tag_id, origins, certainty=score, evidence=evidence)

    def _scores(self, made: Recorded) -> dict[int, float]:
        """Return the scores of the tags of the data set that the model assigns; of several, the highest."""
        source = self.sources[made.generation_id]
        found: dict[int, float] = {}
        for source_id, units in zip(made.tags, made.scores, strict=True):
            # The model's own threshold: scores of one model say nothing at the thresholds of another.
            if units <= round(source.thresholds[source_id] * SCORE_SCALE):
                continue
            if not source.ours[source_id]:
                self._unknown[source.names[source_id]] += 1
            for tag_id in source.ours[source_id]:
                found[tag_id] = max(found.get(tag_id, 0.0), units / SCORE_SCALE)
        return found

    def result(self, failed: Mapping[int, str]) -> dict[str, Any]:
        """Return what the task did. ``failed``: the class of failure of pictures without a record."""
        lists: dict[str, list[int]] = {}
        for image_id, name in failed.items():
            lists.setdefault(name, []).append(image_id)
        return {
            **{name: self._counts[name] for name in COUNTED},
            "added": dict(self._added),
            "named_again": dict(self._named_again),
            "unknown": dict(self._unknown),
            "failed": lists,
        }


def _summary(_session: Session, _version: VersionView, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts of a version, from what its tasks did.

    ``recognised``, ``changed`` (other bytes than in the parent: left as they were) and ``failed`` (by class) are all
    ``pictures``; ``failed_images`` are the first ids of each class.
    ``labels_before`` and ``added`` (by origin) are all labels. ``named_again``: labels that were there and that the
    model or its caption named too. ``unknown``: tags of pictures that the data set's vocabulary lacks, by name.
    """
    total = added(results)
    unknown = Counter(total["unknown"])
    failed = {
        name: [image_id for each in results for image_id in each["failed"].get(name, ())] for name in total["failed"]
    }
    return {
        "generated": total
        | {
            "failed": {name: len(image_ids) for name, image_ids in failed.items()},
            "failed_images": {name: image_ids[:FAILED_SHOWN] for name, image_ids in failed.items()},
            "unknown": sum(unknown.values()),
            "unknown_names": dict(unknown.most_common(UNKNOWN_SHOWN)),
        }
    }


PHASES: Mapping[str, Phase] = {
    "jobs": JobsPhase(_wanted),
    "label": LabelPhase(),
    "tally": TallyPhase("label", _summary),
}
