"""Counts of tags without those that say less than another tag of the same image: a dog, and no animal."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

from storage.index.condition import All
from storage.search.having import having

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from storage.index.condition import Condition
    from storage.index.selection import Selection
    from storage.search.query import Match


def most_special(
    counts: Sequence[tuple[int, int]],
    limit: int,
    match: Match,
    units: Sequence[int],
    meeting: Callable[[Condition], Selection],
) -> list[tuple[int, int]]:
    """Return up to ``limit`` (tag, count), where an image counts for a tag only if it has no kind of this tag.

    Args:
        counts: (tag, number of images that have it), the most frequent first.
        limit: how many to return.
        match: the query.
        units: the threshold of each tag.
        meeting: returns those of the counted images that meet a condition.
    """
    most: list[tuple[int, int]] = []  # (-count, tag), ascending
    for tag_id, of_all in counts:
        # The others have no more images.
        if len(most) == limit and of_all < -most[-1][0]:
            break
        count = of_all
        if kinds := match.names.kinds_of(tag_id):
            has = (having(match.policy, ((each, units[each]) for each in tags)) for tags in ((tag_id,), kinds))
            count -= len(meeting(All(tuple(has))))
        if count > 0:
            insort(most, (-count, tag_id))
            del most[limit:]
    return [(tag_id, -negative) for negative, tag_id in most]
