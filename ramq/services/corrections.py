"""What people say of images: tags that a model missed, and tags that are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import corrections, generations, vocabularies
from storage.results.corrections import Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.results.tags import Names
    from storage.search.search import Search

LOCAL = "local"
"""Who speaks where no token tells."""


class CorrectionClient:
    """Corrections. Thread-safe; every method is one transaction.

    Args:
        engine: the database.
        search: knows the vocabularies.
    """

    def __init__(self, engine: Engine, search: Search) -> None:
        self._engine = engine
        self._search = search

    def tag(
        self,
        image_ids: Sequence[int],
        *,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        reset: Sequence[str] = (),
        by: str = LOCAL,
    ) -> None:
        """Say which tags images have and have not, whatever any model says; it counts in the next search.

        Args:
            image_ids: of whom it is said.
            add: tags that they have, by name or id.
            remove: tags that they have not.
            reset: tags about which the models decide again.
            by: who says so.

        Raises:
            NotFoundError: an image is not there.
            UnknownTagError: no vocabulary has the tag.
            UsageError: two things are said of one tag.
        """
        with unit_of_work(self._engine) as session:
            known = every_vocabulary(session, self._search)
            said = [Said(corrections.resolve(known, typed), typed, is_present=True) for typed in add]
            said += [Said(corrections.resolve(known, typed), typed, is_present=False) for typed in remove]
            free = [corrections.resolve(known, typed) for typed in reset]
            names = [name.lower() for name in [*(one.name for one in said), *free]]
            for name in names:
                if names.count(name) > 1:
                    raise UsageError(f"say one thing of the tag {name!r}")
            if free:
                corrections.reset(session, image_ids, free)
            if said:
                corrections.put(session, image_ids, said, by)


def every_vocabulary(session: Session, search: Search) -> list[Names]:
    """Return every vocabulary, that of the generation that serves first."""
    serving = generations.default(session)
    first = [] if serving is None else [serving.vocabulary_id]
    ids = dict.fromkeys([*first, *(view.id for view in vocabularies.views(session))])
    return [search.vocabulary(session, vocabulary_id) for vocabulary_id in ids]
