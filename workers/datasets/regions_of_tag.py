"""The regions of a tag with their features: crops of what a detector located, or whole pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from storage.database import unit_of_work
from storage.datasets import tag_regions
from storage.results.packing import CODE
from workers.datasets.judge import kinds_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from storage.datasets.tag_regions import TagImage
    from workers.datasets.judge import Question
    from workers.datasets.phase import Tools
    from workers.datasets.pictures import Pictures
    from workers.datasets.spool import Spool

PAGE = 2_000
"""Pictures that are read at once."""


class Tag(NamedTuple):
    """A tag of a data set's version."""

    version_id: int
    id: int
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The N regions of a tag. Their features are in a ``Spool``.

    Attributes:
        image_ids: (N,) int64.
        numbers: (N,) int16, of the region in its image; 0: the whole picture.
        boxes: (N, 4) float32: left, top, right, bottom as fractions of the picture.
        scores: (N,) float32: of the tag, as the judge sees it; NaN: it was not asked.
        labelled: int64 ids of the pictures that may lose the tag.
        said: of those whose tag a person confirmed.
        not_looked_at: how many other pictures have the tag.
    """

    image_ids: NDArray[np.int64]
    numbers: NDArray[np.int16]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labelled: NDArray[np.int64]
    said: frozenset[int]
    not_looked_at: int


class Collector:
    """Collects pictures and regions of a tag, page by page."""

    def __init__(self) -> None:
        self._ids: list[NDArray[np.int64]] = []
        self._numbers: list[NDArray[np.int16]] = []
        self._boxes: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float32]] = []
        self._labelled: list[NDArray[np.int64]] = []
        self._said: set[int] = set()
        self._not_looked_at = 0

    def add_regions(
        self,
        image_ids: Sequence[int],
        numbers: Sequence[int],
        boxes: Sequence[Sequence[float]],
        scores: Sequence[float],
    ) -> None:
        """Add regions."""
        self._ids.append(np.array(image_ids, dtype=np.int64))
        self._numbers.append(np.array(numbers, dtype=np.int16))
        self._boxes.append(np.array(boxes, dtype=np.float32).reshape(-1, 4))
        self._scores.append(np.array(scores, dtype=np.float32))

    def add_pictures(self, pictures: Sequence[TagImage], labelled: Sequence[int]) -> None:
        """Add a page of pictures, of which some may lose the tag."""
        self._said.update(picture.image_id for picture in pictures if picture.is_said)
        self._labelled.append(np.array(labelled, dtype=np.int64))
        self._not_looked_at += len(pictures) - len(labelled)

    def found(self) -> Found:
        """Return everything that was added."""
        return Found(
            _joined(self._ids, np.empty(0, np.int64)),
            _joined(self._numbers, np.empty(0, np.int16)),
            _joined(self._boxes, np.empty((0, 4), np.float32)),
            _joined(self._scores, np.empty(0, np.float32)),
            _joined(self._labelled, np.empty(0, np.int64)),
            frozenset(self._said),
            self._not_looked_at,
        )


def _joined(parts: list[NDArray[Any]], nothing: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([nothing, *parts])


def of_located(
    tools: Tools,
    tag: Tag,
    generation_id: int,
    question: Question | None,
    no_things: Mapping[int | None, frozenset[str]],
    spool: Spool,
) -> Found:
    """Return the regions that were located, and write their vectors to a spool.

    Args:
        tools: the database. A page is a transaction.
        tag: the tag.
        generation_id: of the stage ``crops``.
        question: what to ask about regions; None: nothing.
        no_things: see ``policies.no_things``: what was not looked for.
        spool: for the vectors.
    """
    collector, after = Collector(), 0
    names = (tag.name, *kinds_of(tag.name))
    while True:
        tools.go_on()
        with unit_of_work(tools.engine) as session:
            pictures, regions = tag_regions.located(
                session,
                version_id=tag.version_id,
                tag_id=tag.id,
                names=names,
                generation_id=generation_id,
                after=after,
                limit=PAGE,
            )
        with_regions = {region.image_id for region in regions}
        labelled = [
            picture.image_id
            for picture in pictures
            if picture.is_looked_at
            and not any(tag.name.lower() in no_things.get(where, ()) for where in (None, picture.archive_id))
            and (picture.image_id in with_regions or not picture.is_cut)
        ]
        kept = set(labelled)
        regions = [region for region in regions if region.image_id in kept]
        collector.add_pictures(pictures, labelled)
        collector.add_regions(
            [region.image_id for region in regions],
            [region.number for region in regions],
            [region.box for region in regions],
            [np.nan if question is None else question.score(region.tags) for region in regions],
        )
        if regions:
            packed = b"".join(region.vector for region in regions)
            spool.add(np.frombuffer(packed, dtype=CODE).reshape(len(regions), -1))
        if len(pictures) < PAGE:
            return collector.found()
        after = pictures[-1].image_id


def of_whole(tools: Tools, tag: Tag, source: Pictures, spool: Spool) -> Found:
    """Return whole pictures as regions, and write their features to a spool. ``source`` reads features."""
    collector, after = Collector(), 0
    while True:
        tools.go_on()
        with unit_of_work(tools.engine) as session:
            pictures = tag_regions.whole(
                session, version_id=tag.version_id, tag_id=tag.id, name=tag.name, after=after, limit=PAGE
            )
        ids, rows = source.read([picture.image_id for picture in pictures])
        collector.add_pictures(pictures, ids)
        collector.add_regions(ids, [0] * len(ids), [(0, 0, 1, 1)] * len(ids), [np.nan] * len(ids))
        spool.add(rows.astype(np.float16))
        if len(pictures) < PAGE:
            return collector.found()
        after = pictures[-1].image_id
