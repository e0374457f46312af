"""Images that a text finds by what is said of them: keywords that people gave, what files say, and their names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import numpy as np

from storage.index.condition import All, OneOf
from storage.index.condition import Any as AnyOf
from storage.index.names import words_in
from storage.index.selection import Selection
from storage.results import metadata, metadata_search
from storage.results.metadata import folds_of
from storage.results.moments import union
from storage.search.fields import named
from storage.search.fusion import spaces_of
from storage.search.language import wanted_fields
from storage.search.language.reading import Note
from storage.search.orders import MAX_READ, ByText
from storage.search.phrases import spans_in, words_to_name
from storage.search.views import Told
from storage.texts import fold_seen, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.condition import Condition
    from storage.index.index import View
    from storage.results.metadata import MetadataView
    from storage.search.kept_images import KeptImages
    from storage.search.orders import Order, Ranked
    from storage.search.phrases import Phrase
    from storage.search.query import Match
    from storage.search.views import Hit, SearchQuery

_LIKE_A_NAME = re.compile(r"(?:(?=.*\d)(?=.*[^\W\d_]|.*\d{3})\S{3,200}|\S{1,200}\.[A-Za-z]{2,4})")

MAX_TOLD = 5
"""Keywords, titles and descriptions that a hit shows."""

_NOTHING = metadata.MetadataView()


def told_of(session: Session, kept: KeptImages, view: View, match: Match, text: str) -> NDArray[np.int64]:
    """Return the images that match and of which all words of a text are said: ids, ascending, at most ``MAX_READ``.

    The words may be in several places: one in a keyword that a person gave, another in the title in the file. A text
    without spaces that has a digit or an extension, such as ``IMG_2034``, is also found in the names of files.
    """
    found: NDArray[np.int64] | None = None
    for phrase in words_to_name(text):
        saying = metadata_search.with_words(phrase.plain_ways)
        ids = union([kept.matching(session, each) for each in saying])
        found = ids if found is None else np.intersect1d(found, ids, assume_unique=True)
        if not len(found):
            break
    either: list[Condition] = [] if found is None or not len(found) else [OneOf(found)]
    if _LIKE_A_NAME.fullmatch(text.strip()) and view.remote is None:
        either.append(named(words_in(text)))
    if not either:
        return np.empty(0, dtype=np.int64)
    narrowed = () if match.condition is None else (match.condition,)
    ids, _ = Selection.of(view, All((*narrowed, AnyOf(tuple(either))))).best_by_tags((), MAX_READ)
    return np.sort(ids)


def note_of(order: Order, text: str | None) -> Note | None:
    """Return how the words of a text were read, if images were found by what is said of them."""
    count = max((len(each.order.told) for each in spaces_of(order) if isinstance(each.order, ByText)), default=0)
    if not count or not text:
        return None
    if count == MAX_READ:
        return Note(
            f"The words stand in names, keywords, titles or descriptions of {count:,} images or more. The newest "
            f"{count:,} of them come first. name: and keyword: find all images that have them there."
        )
    come = "comes" if count == 1 else "come"
    return Note(
        f"The words also stand in names, keywords, titles or descriptions of {plural(count, 'image')}, which {come} "
        "first."
    )


def with_told(
    session: Session, query: SearchQuery, images: Sequence[Ranked], hits: list[Hit]
) -> Mapping[int, tuple[Told, ...]]:
    """Return what the search found in keywords, titles and descriptions of hits, by image; nothing: left out."""
    wanted = {fold_seen(term.value) for term in wanted_fields(query.where, "keyword")}
    by_words = {image.image_id for image in images if image.is_told}
    if not wanted and not by_words:
        return {}
    phrases = words_to_name(query.text or "") if by_words else ()
    files = metadata.views(session, [hit.image_id for hit in hits])
    found = {}
    for hit in hits:
        sought = phrases if hit.image_id in by_words else ()
        told = tuple(_told_of_hit(hit.keywords, files.get(hit.image_id, _NOTHING), wanted, sought))
        if told:
            found[hit.image_id] = told[:MAX_TOLD]
    return found


def _told_of_hit(
    given: Sequence[str], view: MetadataView, wanted: set[str], phrases: Sequence[Phrase]
) -> Iterator[Told]:
    lines: list[tuple[Literal["person", "keyword", "title", "description"], str | None]] = [
        *(("person", word) for word in given),
        *(("keyword", word) for word in view.keywords),
        ("title", view.title),
        ("description", view.description),
    ]
    for source, line in lines:
        if not line:
            continue
        spans = spans_in(phrases, [line]).get(0, ()) if phrases else ()
        is_asked = source in {"person", "keyword"} and not wanted.isdisjoint(folds_of([line]))
        if spans or is_asked:
            yield Told(source, line, list(spans))
