"""Regions like a region: the order of the regions of the images that match, and the hits of a page of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from storage.errors import NotFoundError, UsageError
from storage.index.condition import OneOf
from storage.index.selection import Selection
from storage.results import crops, generations, policies, regions
from storage.search import positions
from storage.search.fusion import chosen_by
from storage.search.hits import hits_of
from storage.search.orders import ByVector, Ranked, Taken
from storage.search.views import CropTag, Hit, HitRegion
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.index import VectorIndex
    from storage.search.orders import Order
    from storage.search.query import Match
    from storage.search.views import SearchQuery


@dataclass(frozen=True, slots=True)
class ByLikeness:
    """First a region, if it is one of those that match, then the others by similarity; see ``ByVector``.

    Regions at one place under several tags are equally like each other, so the region itself need not be the nearest.

    Attributes:
        found: the regions that match.
        vector: of the region.
        own: its row.
        generation_id: of the vectors.
    """

    cursor_length: ClassVar[int] = positions.LENGTH
    found: Selection
    vector: NDArray[np.float32]
    own: int
    generation_id: int

    @property
    def ranked_by(self) -> tuple[tuple[str, str, int], ...]:
        """See ``Order``."""
        return ((crops.STAGE, "region", self.generation_id),)

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next regions; see ``positions``."""
        others = ByVector(self.found, self.vector, self.own)
        if self.own not in self.found:
            return others.take(after, k)
        own_score = float(self.vector @ self.vector)
        own = Ranked(self.own, own_score, positions.position(1, own_score, own_score, self.own))
        first = [own] if after is None else []
        inner = None if after is None or after[-1] == self.own else (max(0, after[0] - 1), *after[1:])
        taken = others.take(inner, k - len(first))
        following = [replace(row, after=(row.after[0] + 1, *row.after[1:])) for row in taken.images]
        return Taken([*first, *following], None if taken.total is None else taken.total + 1)


@dataclass(frozen=True, slots=True)
class LikeRegion:
    """The regions like a region, nearest first, itself before all others.

    Attributes:
        generation_id: the generation of the stage ``crops`` whose vectors are compared.
        order: of rows of its index (``crops.row_id_of``), not of images.
    """

    generation_id: int
    order: ByLikeness

    @classmethod
    def of(cls, session: Session, index: VectorIndex, query: SearchQuery, images: Order) -> LikeRegion:
        """Rank the regions of the ``images`` that match the rest of a query.

        Raises:
            NotFoundError: there is no such region, or it has no vector, or no region has.
            UsageError: the query also asks for images like another one.
        """
        assert query.like_region is not None
        if query.like is not None:
            raise UsageError("a search is either for images like one, or for regions like one: remove one of them")
        generation = generations.default(session, crops.STAGE)
        if generation is None:
            raise NotFoundError("no region has a vector yet: run `ramq crops`, after `ramq locate`")
        own, vector = crops.vector_of(session, generation.id, *query.like_region)
        view = index.view(session, generation.id)
        hits = chosen_by(images)
        if hits is None:
            rows = Selection.of_images(view, images.found, vector)
        else:
            rows = Selection.of(view, OneOf(np.sort(hits), view.source.rows_each))
        return cls(generation.id, ByLikeness(rows, vector, own, generation.id))

    def hits(self, session: Session, match: Match, query: SearchQuery, ranked: Sequence[Ranked]) -> list[Hit]:
        """Return hits for rows of the index, in this order.

        Regions that people rejected, or that were replaced, since they were cropped are omitted, as deleted images are.
        So are regions and their tags that do not count in the archive of the image.
        """
        image_ids = list(dict.fromkeys(crops.image_of(row.image_id) for row in ranked))
        scores = dict.fromkeys(image_ids, 0.0)
        images = {
            hit.image_id: hit
            for hit in hits_of(session, match.generation.id, scores, match.names, query.threshold, match.policy)
        }
        rules = policies.of_images(session, image_ids)
        seen = regions.views(session, image_ids, with_masks=False)
        stored = {
            crop.row_id: crop for crop in crops.of_rows(session, self.generation_id, [r.image_id for r in ranked])
        }
        found = []
        for row in ranked:
            image_id, crop = crops.image_of(row.image_id), stored.get(row.image_id)
            if crop is None or image_id not in images or image_id not in seen:
                continue
            region = next((region for region in seen[image_id].regions if crop.is_of(region)), None)
            if region is not None:
                own = rules.get(image_id)
                tags = [CropTag(name, score) for name, score in crop.tags if own is None or not own.hides(fold(name))]
                shown = HitRegion(region.number, region.tag, region.box, tags)
                found.append(replace(images[image_id], score=min(row.score, 1.0), region=shown))
        return found
