"""A page of hits, of an order."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from storage.errors import UsageError
from storage.search import query as queries
from storage.search.cursors import decode_cursor, encode_cursor
from storage.search.fusion import FUSED_FIRST, Fused, spaces_of
from storage.search.language.reading import Note
from storage.search.told import note_of
from storage.search.views import HitPage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from storage.search.orders import Order, Ranked, Taken
    from storage.search.views import Hit, SearchQuery


def _bound(query: SearchQuery, order: Order, generation_id: int) -> str:
    """Return what positions in an order are valid for.

    By vectors: a text or an image, in generations. In other orders: all conditions and the order, in a generation.
    """
    asked: tuple[object, ...] = (query.text, query.like, query.unlike, query.like_region, order.ranked_by)
    if not order.ranked_by:
        tags = (query.tags, query.any_tags, query.not_tags, query.threshold)
        place = (query.archive, query.job, query.prefix)
        asked = (query.text, repr(query.where), tags, place, query.unlike, query.sort, generation_id)
    return sha256(json.dumps(asked).encode()).hexdigest()[:16]


def page_of(
    query: SearchQuery, order: Order, generation_id: int, hits_of: Callable[[Sequence[Ranked]], list[Hit]]
) -> HitPage:
    """Return the page of an order at the query's cursor.

    Args:
        query: has the cursor, and the number of hits.
        order: of what was found.
        generation_id: in which it was found.
        hits_of: gives the hits of rows, in their order. What was deleted since is omitted.

    Raises:
        UsageError: the cursor is not one of this order.
    """
    bound = _bound(query, order, generation_id)
    after = decode_cursor(query.cursor, order.cursor_length, bound) if query.cursor else None
    # The position in an order of regions counts the region itself, too.
    if after is not None and order.ranked_by and after[0] > queries.MAX_OFFSET + 1:
        raise UsageError("the cursor does not belong to this search: use next_cursor of the previous page")
    hits: list[Hit] = []
    while True:
        missing = query.limit - len(hits)
        taken = order.take(after, missing + 1)
        shown = taken.images[:missing]
        # Skip what was deleted since the snapshot, and fill the page with later ones.
        hits += hits_of(shown)
        is_last = len(taken.images) <= missing
        after = shown[-1].after if shown else after
        if is_last or len(hits) == query.limit:
            break
    cursor = None if is_last or after is None else encode_cursor(after, bound)
    ranking = spaces_of(order)
    return HitPage(
        hits,
        cursor,
        taken.total,
        taken.below,
        space=",".join(dict.fromkeys(each.space for each in ranking)) or None,
        unranked={each.space: each.unranked for each in ranking if each.unranked},
        notes=() if (note := note_of(order, query.text)) is None else (note,),
        ended=_ended(order, after, taken) if is_last else None,
    )


def _ended(order: Order, after: tuple[int, ...] | None, taken: Taken) -> Note | None:
    """Return why a ranking by vectors ends at its last page, if further images match."""
    if isinstance(order, Fused):
        if order.is_all or order.below is not None:
            return None
        return Note(
            f"The list ends here: of each space, the nearest {FUSED_FIRST:,} images are ranked together. Add tags or "
            "filters to see others, or name a single space."
        )
    place = after[0] if after and order.ranked_by else 0
    if place < queries.MAX_OFFSET or (taken.total is not None and taken.total <= place):
        return None
    return Note(
        f"The list ends here: a search by similarity ranks the nearest {queries.MAX_OFFSET:,}. Add tags or filters to "
        "see others."
    )
