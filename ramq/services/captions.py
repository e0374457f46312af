"""Captions for display: they follow what people said of tags.

A caption that is composed from tags is composed of the corrected ones. One that a model wrote stays as it is, and says
which tags it names that a person removed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ram_core.captions import composed_again, template_caption
from storage.results.views import COMPOSED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from ram_core.labels.parser import TagParser
    from storage.results.tags import Names
    from storage.results.views import ImageView
    from storage.search.search import Search
    from storage.search.views import Hit

View = TypeVar("View", "Hit", "ImageView")


class Captions:
    """Makes captions fit what people said. Thread-safe.

    Args:
        search: loads the vocabularies.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._parsers: dict[int, tuple[Names, TagParser]] = {}

    def as_corrected(self, session: Session, views: Iterable[View]) -> list[View]:
        """Return images whose captions match their tags, or say which removed tags they name."""
        return [
            _composed(view) if view.captioner in {COMPOSED, None} else self._compared(session, view) for view in views
        ]

    def _compared(self, session: Session, view: View) -> View:
        if not view.caption or not view.removed or view.generation_id is None:
            return view
        names = self._search.names_of(session, view.generation_id)
        removed = {name.lower() for name in view.removed}
        named = dict.fromkeys(tag.name for tag in self._parser(names).parse(view.caption))
        contradicts = tuple(name for name in named if name.lower() in removed)
        return replace(view, caption_contradicts=contradicts) if contradicts else view

    def _parser(self, names: Names) -> TagParser:
        """Return the parser of a vocabulary: it takes a sixth of a second to build one."""
        kept = self._parsers.get(names.vocabulary_id)
        if kept is None or kept[0] is not names:
            from ram_core.labels.parser import TagParser  # noqa: PLC0415  (most processes need no parser)
            from ram_core.vocabulary import TagVocabulary  # noqa: PLC0415

            thresholds = np.array(names.thresholds, dtype=np.float32)
            vocabulary = TagVocabulary("kept", names.names, names.names_zh, thresholds, synonyms=names.synonyms or None)
            kept = self._parsers[names.vocabulary_id] = (names, TagParser(vocabulary))
        return kept[1]


def _composed(view: View) -> View:
    """Compose a caption again if tags were corrected or are denied. An image may have had no tag before."""
    caption = view.caption
    if view.captioner == COMPOSED and (view.is_corrected or view.has_denied_tags):
        names = [tag.name for tag in view.tags if tag.is_assigned]
        caption = composed_again(caption, names) if caption else template_caption(names, are_things=False)
    return replace(view, caption=caption, captioner=view.captioner if caption else None)


def in_doubt(view: Hit | ImageView) -> str | None:
    """Return in words what of a caption is not so; None: nothing is known to be wrong."""
    return f"a person removed {', '.join(view.caption_contradicts)}" if view.caption_contradicts else None
