"""Notes about a query: what it finds besides what it says, and why it finds nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from storage.results import metadata, near_copies
from storage.results.tags import UnknownTagError
from storage.search import in_file
from storage.search import query as queries
from storage.search.kept_images import KeptImages
from storage.search.kept_regions import KeptRegions
from storage.search.language import FieldTerm, RegionTerm, TagTerm
from storage.search.language.reading import MAX_NOTES, Note
from storage.search.text_in_pictures import TextInPictures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from storage.results.tags import Names
    from storage.search.views import SearchQuery

_UNREAD = Note("No text was read in pictures yet, so read: finds nothing. `ramq read` reads it.")
_UNLOCATED = Note("Tags were located in no picture yet, so count: and area: find nothing. `ramq locate` locates them.")
_UNTOLD = Note(
    "It is not known yet what the files of images say, so taken:, camera:, lens:, near:, keyword: and rating: find "
    "nothing. `ramq metadata` reads it."
)
_NOT_SEARCHED = Note(
    "Near copies were not searched yet, so duplicate:near and nearly: find nothing. `ramq duplicates --near --find` "
    "searches for them."
)
_NAMED = 3
"""Kinds that a note names."""


def noting(session: Session, query: SearchQuery, vocabulary: Callable[[Session, int], Names]) -> SearchQuery:
    """Return ``query`` with notes about kinds that its tags find too, and about stages that found nothing yet.

    Args:
        session: a transaction.
        query: what to look for.
        vocabulary: returns a vocabulary by its id.
    """
    terms = () if query.where is None else tuple(queries.leaves(query.where, 2 * queries.MAX_DEPTH))
    tags = [term.name for term in terms if isinstance(term, TagTerm)]
    tags = list(dict.fromkeys((*query.tags, *query.any_tags, *query.not_tags, *tags)))
    asked = {term.name for term in terms if isinstance(term, FieldTerm | RegionTerm)}
    pictures = TextInPictures(session, KeptImages(), KeptRegions())
    notes = [
        *([_UNREAD] if "read" in asked and pictures.is_empty else []),
        *([_UNTOLD] if asked & in_file.FIELDS and not metadata.is_any(session) else []),
        *([_UNLOCATED] if asked & {"count", "area"} and pictures.regions.is_empty else []),
    ]
    is_near = any(isinstance(t, FieldTerm) and (t.name, t.value.casefold()) == ("duplicate", "near") for t in terms)
    if query.fold_near or is_near or "nearly" in asked:
        notes += _of_near_copies(near_copies.state(session))
    searched = queries.generation(session, query) if tags else None
    if searched is not None:
        notes += list(_of_kinds(vocabulary(session, searched.vocabulary_id), tags))[:MAX_NOTES]
    return replace(query, notes=(*query.notes, *notes)) if notes else query


def _of_near_copies(state: near_copies.NearState) -> list[Note]:
    """Say of which images it is not known whether they are near copies."""
    if state.found_at is None:
        return [_NOT_SEARCHED]
    lacking = [
        f"{count:,} {what}" for count, what in ((state.newer, "newer"), (state.unread, "without a hash")) if count
    ]
    if not lacking:
        return []
    return [
        Note(f"Near copies are as of {state.found_at:%Y-%m-%d %H:%M} UTC. Images not compared: {', '.join(lacking)}.")
    ]


def _of_kinds(names: Names, tags: list[str]) -> Iterator[Note]:
    for tag in tags:
        if general := names.general(tag):
            yield Note(f'No tag is named "{tag}". It finds its kinds: {_listed(names, general)}.')
            continue
        try:
            meant = names.meant(tag)
        except UnknownTagError:
            continue  # the search says so
        named = names.ids(tag)
        if kinds := meant[len(named) :]:
            only = " ".join(f"#{tag_id}" for tag_id in named)
            yield Note(f'"{tag}" also finds its kinds: {_listed(names, kinds)}. {only} finds this tag alone.')


def _listed(names: Names, tag_ids: tuple[int, ...]) -> str:
    shown = [names.names[tag_id] for tag_id in tag_ids[:_NAMED]]
    more = len(tag_ids) - len(shown)
    return f"{', '.join(shown)} and {more:,} more" if more else ", ".join(shown)
