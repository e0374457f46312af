"""Manual corrections: users add tags that a model missed, and remove wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.services.author import LOCAL
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.results import corrections, elsewhere, generations, vocabularies
from storage.results.corrections import Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.results.tags import Names
    from storage.search.search import Search


class CorrectionClient:
    """Corrections. Thread-safe; every method is one transaction.

    Args:
        engine: the database.
        search: loads the vocabularies.
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
    ) -> list[str]:
        """Add and remove tags of images. Corrections override every model, and take effect at the next search.

        Returns:
            In words, which added tags search does not show, since the vocabulary in use does not have them.

        Args:
            image_ids: the images.
            add: tags to add, by name or id.
            remove: tags to remove.
            reset: tags whose corrections to delete, so that the models decide again.
            by: the author of the corrections.

        Raises:
            NotFoundError: an image does not exist.
            UnknownTagError: no vocabulary has the tag.
            UsageError: the same tag is given twice.
        """
        with unit_of_work(self._engine) as session:
            known = every_vocabulary(session, self._search)
            said = [Said(corrections.resolve(known, typed), typed, is_present=True) for typed in add]
            said += [Said(corrections.resolve(known, typed), typed, is_present=False) for typed in remove]
            free = [corrections.resolve(known, typed) for typed in reset]
            names = [name.lower() for name in [*(one.name for one in said), *free]]
            for name in names:
                if names.count(name) > 1:
                    raise UsageError(f"the tag {name!r} is given more than once; add, remove or reset it only once")
            if free:
                corrections.reset(session, image_ids, free)
            if said:
                corrections.put(session, image_ids, said, by)
            serving = generations.default(session)
            used = None if serving is None else known[0]
            return [
                f'"{one.name}" was kept, but search does not show it yet. '
                + (elsewhere.told(session, one.name) or "The vocabulary in use does not have it.")
                for one in said
                if one.is_present and used is not None and not used.ids(one.name)
            ]


def every_vocabulary(session: Session, search: Search) -> list[Names]:
    """Return every vocabulary. The one of the generation in use comes first."""
    serving = generations.default(session)
    first = [] if serving is None else [serving.vocabulary_id]
    ids = dict.fromkeys([*first, *(view.id for view in vocabularies.views(session))])
    return [search.vocabulary(session, vocabulary_id) for vocabulary_id in ids]
