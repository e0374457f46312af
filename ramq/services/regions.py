"""Where tags are in images: regions, and people's corrections of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.services.author import LOCAL
from ramq.services.corrections import every_vocabulary
from storage.database import unit_of_work
from storage.errors import NotFoundError
from storage.remembered import read_only
from storage.results import corrections, crops, generations, lookup, region_corrections, regions
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.results.region_views import Box, RegionCorrectionView, RegionsView
    from storage.search.search import Search
    from storage.standby import Databases


class RegionClient:
    """The regions of tags in images. Thread-safe; every method is one transaction.

    Args:
        databases: the database, and the standby that exports read.
        search: loads the vocabularies.
    """

    def __init__(self, databases: Databases, search: Search) -> None:
        self._databases, self._engine = databases, databases.engine
        self._search = search

    def get(self, image_id: int, generation: int | None = None) -> RegionsView:
        """Return the regions of one image, with people's corrections.

        Args:
            image_id: the image.
            generation: the generation of the stage ``locate`` that found them. None: the newest result of the image.

        Raises:
            NotFoundError: there is no such image or generation, or tags were not located in the image.
        """
        with read_only(self._engine) as session:
            return _regions(session, image_id, generation)

    def find(self, image_id: int) -> RegionsView | None:
        """Return the regions of one image, or None if tags were not located in it."""
        with read_only(self._engine) as session:
            return regions.views(session, [image_id]).get(image_id)

    def with_vectors(self, view: RegionsView | None) -> set[int]:
        """Return the numbers of those regions of an image that search can compare with others."""
        if view is None:
            return set()
        return self._databases.look(lambda session: crops.numbers_with_vectors(session, view.image_id, view.regions))

    def views(self, image_ids: Sequence[int]) -> dict[int, RegionsView]:
        """Return the regions of images by their ids, without images that were not located. Exports use it."""
        return self._databases.look(lambda session: regions.views(session, image_ids))

    def corrections(self, image_id: int) -> list[RegionCorrectionView]:
        """Return the corrections of regions of one image, oldest first."""
        with read_only(self._engine) as session:
            return region_corrections.of_image(session, image_id)

    def correct(self, image_id: int, tag: str, box: Box, *, is_there: bool, said_by: str = LOCAL) -> int:
        """Draw a region, or reject the regions of a tag at a place. The correction survives new results.

        Args:
            image_id: the image. Tags must have been located in it.
            tag: any name of a tag, or other words.
            box: left, top, right, bottom in 0..1.
            is_there: True: the tag is in this box; False: it is not.
            said_by: the author.

        Returns:
            The id of the correction.

        Raises:
            NotFoundError: there is no such image, or tags were not located in it.
            UsageError: the tag or the box is not valid.
        """
        with unit_of_work(self._engine) as session:
            known = every_vocabulary(session, self._search)
            # Dropping a generation takes these locks before it empties the table that is read here.
            regions.lock(session, [image_id])
            here = {fold(region.tag) for region in _regions(session, image_id, None).regions}
            if fold(tag) not in here:  # what was found under other words is corrected under these
                tag = corrections.known_as(known, tag)
            return region_corrections.correct(session, image_id, tag, box, said_by, is_there=is_there)

    def withdraw(self, image_id: int, correction_id: int) -> None:
        """Take a correction of an image back, so that its place is again as it was found.

        Raises:
            NotFoundError: the image has no such correction.
        """
        with unit_of_work(self._engine) as session:
            regions.lock(session, [image_id])
            if correction_id not in {one.id for one in region_corrections.of_image(session, image_id)}:
                raise NotFoundError(f"image {image_id} has no correction {correction_id} of a region")
            region_corrections.withdraw(session, correction_id)


def _regions(session: Session, image_id: int, generation: int | None) -> RegionsView:
    lookup.locate(session, image_id)
    if generation is not None:
        generations.get(session, generation, regions.STAGE)
    found = regions.views(session, [image_id], generation).get(image_id)
    if found is None:
        by = "" if generation is None else f" by generation {generation}"
        raise NotFoundError(f"tags were not located in image {image_id}{by} yet; locate them with `ramq locate`")
    return found
