"""Spaces: in which vectors a search compares its text and its image with the images of the archive.

``text`` is the space of recognition. The others are stages of their own (``results.spaces``). Only images with a vector
in a space are ranked by it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from storage.errors import NotFoundError, UsageError
from storage.results import generations, looks, lookup
from storage.results.spaces import LOOK, NAMES, SPACES, TEXT, made_by
from storage.search import query as queries
from storage.search.ranking import away

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.index import VectorIndex
    from storage.search.views import SearchQuery
    from storage.tables import Generation


@dataclass(frozen=True, slots=True)
class Compared:
    """A text or an image, as a vector with which the images of one space are compared.

    Attributes:
        space: one of ``results.spaces.NAMES``.
        of: what the vector is of; ``both``: it lies midway between a text and an image.
        vector: (D,) of length 1.
        generation_id: of the space; None: the generation of recognition that the query searches.
        names: (M, D) unit vectors of names of tags, by the encoder of the text, to measure the relevance cutoff; None:
            a text ranks all images.
    """

    space: str
    of: Literal["text", "image", "both"]
    vector: NDArray[np.float32]
    generation_id: int | None = None
    names: NDArray[np.float32] | None = None


def named(space: str | None) -> tuple[str, ...]:
    """Return the spaces that a query names, separated by commas. Raises ``UsageError`` if one does not exist."""
    names = tuple(dict.fromkeys(filter(None, (part.strip() for part in (space or "").split(",")))))
    for name in names:
        if name not in NAMES:
            raise UsageError(f"there is no space {name!r}: use {', '.join(NAMES[:-1])} or {NAMES[-1]}")
    return names


def serving(session: Session) -> tuple[str, ...]:
    """Return the spaces that have vectors, ``text`` first."""
    stages = generations.serving(session, SPACES)
    return (TEXT, *(space for space in SPACES if space in stages))


def of_text(
    session: Session, query: SearchQuery, usual: Sequence[str], compares_texts: Callable[[Generation], bool]
) -> dict[str, Generation]:
    """Return the spaces that rank images by the query's text, each with its generation.

    None without a text, and as long as nothing was recorded.

    Args:
        session: a transaction.
        query: those of its spaces that compare texts are used.
        usual: the spaces to use if the query names none, as far as they have vectors; ``text`` if none of them has.
        compares_texts: whether texts can be compared with the vectors of a generation of another space than ``text``.

    Raises:
        UsageError: no space that the query names compares texts.
        NotFoundError: a space that it names has no vectors.
    """
    asked = named(query.space)
    recognised = queries.generation(session, query) if query.text else None
    if recognised is None:
        return {}
    found = {space: recognised if space == TEXT else generations.default(session, space) for space in asked or usual}
    if asked:
        _require(found)
    used = {
        space: generation
        for space, generation in found.items()
        if generation is not None and (space == TEXT or compares_texts(generation))
    }
    if used or not asked:
        return used or {TEXT: recognised}
    able = comparing_texts(session, compares_texts)
    raise UsageError(f"{' and '.join(asked)} cannot compare texts; spaces that can: {', '.join(able)}")


def comparing_texts(session: Session, compares_texts: Callable[[Generation], bool]) -> tuple[str, ...]:
    """Return the spaces that have vectors with which texts can be compared, ``text`` first."""
    others = ((space, generations.default(session, space)) for space in SPACES)
    return (TEXT, *(space for space, generation in others if generation and compares_texts(generation)))


def of_picture(session: Session, query: SearchQuery) -> dict[str, Generation]:
    """Return the spaces that rank images by a picture, each with its generation; none: nothing was recorded.

    They are those that the query names, else ``look`` if there are such vectors, else ``text``. Raises
    ``NotFoundError``: a space that it names has no vectors.
    """
    asked = named(query.space)
    recognised = queries.generation(session, query)
    if recognised is None:
        return {}
    found = {space: recognised if space == TEXT else generations.default(session, space) for space in asked or (LOOK,)}
    if asked:
        _require(found)
    return {space: generation for space, generation in found.items() if generation} or {TEXT: recognised}


def of_image(session: Session, index: VectorIndex, query: SearchQuery, recognised: Generation) -> list[Compared]:
    """Return the vectors of the image that a query names, if it names one.

    They are those in the spaces that the query names, else that in ``look``, else that of recognition.

    Raises:
        NotFoundError: there is no such image, or it has no vector in one of these spaces.
    """
    asked = named(query.space)
    if query.like is None:
        return []
    if not asked:
        by_look = _in_space(session, LOOK, query.like)
        return [by_look or _in_text(session, index, query.like, recognised)]
    found = []
    for space in asked:
        if space == TEXT:
            found.append(_in_text(session, index, query.like, recognised))
        elif (compared := _in_space(session, space, query.like)) is not None:
            found.append(compared)
        else:
            lookup.locate(session, query.like)
            generation = generations.default(session, space)
            _require({space: generation})
            how = made_by(space, generation.model if generation else None)
            raise NotFoundError(f"image {query.like} has no vector in the space {space} yet: run `{how}`")
    return found


def away_from(
    session: Session, index: VectorIndex, query: SearchQuery, recognised: Generation, compared: Sequence[Compared]
) -> list[Compared]:
    """Return the same, with the vectors of images turned away from the images that the query is unlike.

    In each space, those without a vector there turn nothing.
    """

    def vector_of(each: Compared, image_id: int) -> NDArray[np.float32] | None:
        if each.space == TEXT:
            return index.vector_of(session, recognised.id, image_id)
        assert each.generation_id is not None
        return looks.vector_of(session, each.generation_id, image_id)

    turned = []
    for each in compared:
        found = [vector_of(each, image_id) for image_id in query.unlike] if each.of == "image" else []
        others = [vector for vector in found if vector is not None]
        turned.append(replace(each, vector=away(each.vector, np.stack(others))) if others else each)
    return turned


def _in_space(session: Session, space: str, image_id: int) -> Compared | None:
    generation = generations.default(session, space)
    vector = None if generation is None else looks.vector_of(session, generation.id, image_id)
    return None if generation is None or vector is None else Compared(space, "image", vector, generation.id)


def _in_text(session: Session, index: VectorIndex, image_id: int, recognised: Generation) -> Compared:
    lookup.locate(session, image_id)
    vector = index.vector_of(session, recognised.id, image_id)
    if vector is None:
        raise NotFoundError(f"image {image_id} has no vector of {recognised.model}: recognise it first")
    return Compared(TEXT, "image", vector)


def _require(found: dict[str, Generation | None]) -> None:
    for space, generation in found.items():
        if generation is None:
            raise NotFoundError(f"no image has a vector in the space {space} yet: run `{made_by(space)}`")
