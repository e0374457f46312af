"""Search: tags in Postgres, vectors in the index, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import and_, or_

from ramq.kit.errors import NotFoundError
from storage import query as queries
from storage.models import Record
from storage.repositories import results, tags
from storage.views import Facet, Hit, ImageView, Page, SearchQuery

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.index import VectorIndex
    from storage.models import Generation
    from storage.query import Match
    from storage.repositories.tags import Names


class Search:
    """Answers queries. Thread-safe.

    Args:
        index: gives the vector index of this process; called when a query first needs vectors.
    """

    def __init__(self, index: Callable[[], VectorIndex]) -> None:
        self._index = index
        self._names: dict[int, Names] = {}

    def vocabulary(self, session: Session, vocabulary_id: int) -> Names:
        """Return a vocabulary, kept in memory from its first use on."""
        if vocabulary_id not in self._names:
            self._names[vocabulary_id] = tags.load(session, vocabulary_id)
        return self._names[vocabulary_id]

    def page(self, session: Session, query: SearchQuery, vector: NDArray[np.float32] | None = None) -> Page[Hit]:
        """Return a page of hits, best first.

        Args:
            session: a transaction.
            query: what to look for.
            vector: (D,) of length 1, in the space of the vectors of ``queries.generation``: the text or the picture.
                Made by the caller, before the transaction, because that may take a model.

        Raises:
            UsageError: see ``storage.query.resolve``; the image to be similar to is not there or has no vector.
        """
        match = queries.resolve(session, query, self.vocabulary)
        if match is None:
            return Page([])
        if vector is None and query.like is not None:
            vector = self._vector_of(session, match.generation, query.like)
        if vector is None:
            return self._by_tags(session, query, match)
        return self._by_vector(session, query, match, vector)

    def facets(self, session: Session, query: SearchQuery, limit: int) -> list[Facet]:
        """Count the tags of all images that match the query's tags and filters; its text does not narrow."""
        match = queries.resolve(session, query, self.vocabulary)
        return [] if match is None else results.facets(session, match, query.threshold, limit)

    def image(self, session: Session, image_id: int) -> ImageView:
        """Return one image. Raises ``NotFoundError``."""
        return results.image(session, image_id, self.vocabulary)

    def _vector_of(self, session: Session, generation: Generation, image_id: int) -> NDArray[np.float32]:
        results.place(session, image_id)
        vector = self._index().vector_of(session, generation.id, image_id)
        if vector is None:
            raise NotFoundError(f"image {image_id} has no vector of {generation.model} to compare with")
        return vector

    def _by_tags(self, session: Session, query: SearchQuery, match: Match) -> Page[Hit]:
        statement = match.scored().order_by(match.score.desc(), Record.image_id.desc()).limit(query.limit + 1)
        if query.cursor:
            score, image_id = queries.decode_cursor(query.cursor, (float, int))
            statement = statement.where(
                or_(match.score < score, and_(match.score == score, Record.image_id < image_id))
            )
        rows = [(image_id, score) for image_id, score in session.execute(statement)]
        shown = rows[: query.limit]
        more = queries.encode_cursor([float(shown[-1][1]), shown[-1][0]]) if len(rows) > query.limit else None
        hits = results.hits(session, match.generation.id, dict(shown), match.names, query.threshold)
        return Page(hits, more)

    def _by_vector(self, session: Session, query: SearchQuery, match: Match, vector: NDArray[np.float32]) -> Page[Hit]:
        offset = queries.decode_cursor(query.cursor, (int,))[0] if query.cursor else 0
        wanted = offset + query.limit
        if wanted > queries.MAX_OFFSET or offset < 0:
            return Page([])
        allowed = None
        if match.is_narrowed:
            allowed = np.fromiter(session.scalars(match.image_ids()), dtype=np.int64)
        ids, scores = self._index().search(session, match.generation.id, vector, wanted + 2, allowed_ids=allowed)
        # The image itself is its own nearest neighbour: not what was asked for.
        ranked = [
            (int(image_id), float(score)) for image_id, score in zip(ids, scores, strict=True) if image_id != query.like
        ]
        shown = ranked[offset:wanted]
        more = queries.encode_cursor([wanted]) if len(ranked) > wanted else None
        return Page(results.hits(session, match.generation.id, dict(shown), match.names, query.threshold), more)
