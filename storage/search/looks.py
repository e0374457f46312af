"""Images that look like one: ranked by the vectors of the stage ``look``, among the images that match."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from storage.errors import NotFoundError, UsageError
from storage.index.selection import Selection
from storage.results import generations, looks
from storage.search.orders import ByVector, Taken

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.index import VectorIndex
    from storage.search.views import SearchQuery


@dataclass(frozen=True, slots=True)
class ByLook:
    """Order by how much images look like one; see ``ByVector``.

    Attributes:
        found: the images that match, in the index of recognition, which has their tags.
        ranked: those of them that have a vector of how they look, in its index.
        vector: of the image.
        own: the image itself, which is left out.
    """

    cursor_length: ClassVar[int] = 1
    found: Selection
    ranked: Selection
    vector: NDArray[np.float32]
    own: int

    def take(self, after: tuple[int, ...] | None, k: int) -> Taken:
        """Return the next images."""
        return ByVector(self.ranked, self.vector, self.own).take(after, k)


def by_look(session: Session, index: VectorIndex, query: SearchQuery, found: Selection) -> ByLook | None:
    """Return the order of the images that match by how much they look like the one of the query.

    None: the query asks for no such order, or does not name one and the image has no such vector.

    Raises:
        UsageError: it asks for it, but its text, or no image, is to be compared.
        NotFoundError: it asks for it, but there are no such vectors, or the image has none.
    """
    if query.space not in {None, "text", looks.STAGE}:
        raise UsageError(f"there is no space {query.space!r}: use text or look")
    is_asked = query.space == looks.STAGE
    if is_asked and (query.text or query.like is None):
        raise UsageError("how images look is compared with that of a recorded image only: give an image with `like`")
    if query.like is None or query.text or query.space not in {None, looks.STAGE}:
        return None
    generation = generations.default(session, looks.STAGE)
    vector = None if generation is None else looks.vector_of(session, generation.id, query.like)
    if generation is None or vector is None:
        if is_asked:
            whose = "no image has" if generation is None else f"image {query.like} does not have"
            raise NotFoundError(f"{whose} a vector of how it looks yet: run `ramq look`")
        return None
    ranked = Selection.of_images(index.view(session, generation.id), found, vector)
    return ByLook(found, ranked, vector, query.like)
