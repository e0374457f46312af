"""Which of two generations tags the held-out pictures of a data set better, tag by tag, with pictures that changed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from storage.database import unit_of_work
from storage.datasets import items, labels, sources, versions
from storage.errors import UsageError
from storage.results import generations, lookup, tags
from storage.tables import SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.datasets.labels import Label
    from storage.datasets.sources import Recorded
    from storage.datasets.versions import VersionView

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class TagScore:
    """How a generation assigned a tag: to so many pictures, ``hits`` of which have it.

    ``average_precision`` is over its scores, where those too small to be stored count as 0; None: no picture has it, or
    all have.
    """

    assigned: int
    hits: int
    average_precision: float | None


@dataclass(frozen=True, slots=True)
class Changed:
    """A picture of which the generations differ. ``is_better`` if the second one is right."""

    image_id: int
    uri: str
    is_assigned: bool
    is_better: bool


@dataclass(frozen=True, slots=True)
class TagComparison:
    """A tag before and after.

    Attributes:
        tag_id: in the vocabulary of the data set.
        name: its name.
        images: held-out pictures that have it.
        before: of the first generation.
        after: of the second one.
        better: pictures of which the second one alone is right.
        worse: pictures of which the first one alone is right.
        examples: some of both.
    """

    tag_id: int
    name: str
    images: int
    before: TagScore
    after: TagScore
    better: int
    worse: int
    examples: list[Changed] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SetComparison:
    """Two generations on the held-out pictures of a version.

    Attributes:
        version: the version.
        images: held-out pictures that both generations recorded.
        without_record: those that one of them did not.
        by_people: labels among those compared that people gave or took.
        labels: labels that are compared, kept and dropped ones.
        before: the mean average precision of the first generation over tags that pictures have; None: there is none.
        after: of the second one.
        tags: those with the most changes first.
    """

    version: VersionView
    images: int
    without_record: int
    by_people: int
    labels: int
    before: float | None
    after: float | None
    tags: list[TagComparison]


class _Side:
    """What a generation recorded, in tags of the vocabulary of the data set."""

    def __init__(self, session: Session, generation_id: int, vocabulary_id: int) -> None:
        theirs = tags.load(session, generations.get(session, generation_id).vocabulary_id)
        ours = tags.load(session, vocabulary_id)
        self.generation_id = generation_id
        self._limits = [round(threshold * SCORE_SCALE) for threshold in theirs.thresholds]
        is_same = theirs.vocabulary_id == ours.vocabulary_id
        self._ours = [(tag_id,) if is_same else ours.ids(name) for tag_id, name in enumerate(theirs.names)]
        # tag -> position of a picture -> its stored score, and whether that is above the threshold
        self._found: dict[int, dict[int, tuple[int, bool]]] = defaultdict(dict)

    def add(self, position: int, record: Recorded) -> None:
        """Add what was recorded of a picture."""
        for tag_id, score in zip(record.tags, record.scores, strict=True):
            for own in self._ours[tag_id]:
                best = self._found[own].get(position, (0, False))
                self._found[own][position] = max(best, (score, score > self._limits[tag_id]))

    def assigned(self, tag_id: int) -> set[int]:
        """Return the positions of the pictures that have a tag, as this generation says."""
        return {position for position, (_, is_assigned) in self._found[tag_id].items() if is_assigned}

    def score(self, tag_id: int, having: set[int], among: Sequence[int]) -> TagScore:
        """Return how a tag was assigned among the pictures at some positions."""
        from ram_core.metrics import average_precision  # noqa: PLC0415  (a command that shows help needs none of it)

        found = self._found[tag_id]
        assigned = self.assigned(tag_id) & set(among)
        precision = None
        if 0 < len(having) < len(among):  # else any order is right
            scores = np.array([found.get(position, (0, False))[0] for position in among], np.float64)
            precision = average_precision(scores, np.array([position in having for position in among]))
        return TagScore(len(assigned), len(assigned & having), precision)


class DatasetEvaluationClient:
    """Compares generations on data sets. Thread-safe. Every method is one transaction.

    Args:
        engine: the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def compare(
        self,
        name: str,
        before: int,
        after: int,
        *,
        by_people: bool = False,
        limit: int = 20,
        examples: int = 3,
    ) -> SetComparison:
        """Compare the tags that two generations give to the held-out pictures of a data set with its labels.

        Args:
            name: of the data set, or ``name@number``.
            before: a generation.
            after: another one.
            by_people: compare only what people said of a tag of a picture, for and against it.
            limit: tags at most.
            examples: changed pictures at most of each tag.

        Raises:
            NotFoundError: there is no such data set or generation.
            UsageError: the generations are the same, or there is nothing to compare.
        """
        if before == after:
            raise UsageError(f"generation {before} cannot be compared with itself; give two generations")
        with unit_of_work(self._engine) as session:
            version = versions.find(session, name)
            sides = [_Side(session, each, version.vocabulary_id) for each in (before, after)]
            images, truth, without = _read(session, version, sides, by_people=by_people)
            if not images:
                raise UsageError(
                    f"no held-out picture of {name} is recorded by both generations; build the data set with a larger "
                    "--validation, or recognise its archives with both"
                )
            return _compared(session, version, sides, images, truth, without, limit, examples, by_people=by_people)


def _read(
    session: Session, version: VersionView, sides: Sequence[_Side], *, by_people: bool
) -> tuple[list[int], dict[int, dict[int, Label]], int]:
    """Return the images that both sides recorded, tag -> position -> label, and how many images one side lacks."""
    images: list[int] = []
    truth: dict[int, dict[int, Label]] = defaultdict(dict)
    without = 0
    for part in items.ranges(session, version.id, _PAGE):
        held_out = [
            each.image_id for each in items.read(session, version.id, part.first, part.last) if each.is_validation
        ]
        records = [sources.recorded(session, side.generation_id, held_out) for side in sides]
        labelled = labels.of_images(session, version.id, held_out)
        for image_id in held_out:
            if not all(image_id in each for each in records):
                without += 1
                continue
            for side, each in zip(sides, records, strict=True):
                side.add(len(images), each[image_id])
            for label in labelled.get(image_id, ()):
                if not by_people or is_of_people(label):
                    truth[label.tag_id][len(images)] = label
            images.append(image_id)
    return images, truth, without


def is_of_people(label: Label) -> bool:
    """Return whether people gave a label, or took it."""
    return "corrected" in label.origins or label.reason == "removed"


def _compared(  # noqa: PLR0913, PLR0917  (what was read, in its parts)
    session: Session,
    version: VersionView,
    sides: Sequence[_Side],
    images: list[int],
    truth: Mapping[int, Mapping[int, Label]],
    without: int,
    limit: int,
    examples: int,
    *,
    by_people: bool,
) -> SetComparison:
    names = tags.load(session, version.vocabulary_id).names
    everywhere = range(len(images))
    compared: list[tuple[TagComparison, list[tuple[int, bool, bool]]]] = []
    for tag_id, told in truth.items():
        among = sorted(told) if by_people else everywhere
        having = {position for position, label in told.items() if label.reason is None}
        before, after = (side.assigned(tag_id) & set(among) for side in sides)
        changes = [
            (position, position in after, (position in having) == (position in after))
            for position in sorted(before ^ after)
        ]
        better = sum(is_better for _, _, is_better in changes)
        was, now = (side.score(tag_id, having, among) for side in sides)
        tag = TagComparison(tag_id, names[tag_id], len(having), was, now, better, len(changes) - better)
        compared.append((tag, changes))
    compared.sort(key=lambda each: (-len(each[1]), -each[0].images, each[0].name))
    shown = [(tag, _some(changes, examples)) for tag, changes in compared[:limit]]
    uris = {images[at]: _uri(session, images[at]) for _, some in shown for at, _, _ in some}
    return SetComparison(
        version,
        len(images),
        without,
        sum(is_of_people(label) for told in truth.values() for label in told.values()),
        sum(map(len, truth.values())),
        _mean([tag.before.average_precision for tag, _ in compared]),
        _mean([tag.after.average_precision for tag, _ in compared]),
        [
            replace(tag, examples=[Changed(images[at], uris[images[at]], *how) for at, *how in some])
            for tag, some in shown
        ],
    )


def _uri(session: Session, image_id: int) -> str:
    uri, key, _ = lookup.locate(session, image_id)
    return lookup.uri_of(uri, key)


def _some(changes: list[tuple[int, bool, bool]], count: int) -> list[tuple[int, bool, bool]]:
    """Return some changes, better and worse ones in turn."""
    kinds = [[change for change in changes if change[2] is is_better] for is_better in (True, False)]
    turns = sorted((turn, kind) for kind, some in enumerate(kinds) for turn in range(len(some)))
    return [kinds[kind][turn] for turn, kind in turns[:count]]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
