"""The condition that an image has a tag, in the archives where the tag counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.index.condition import All, Any, HasTag, InArchive, Not

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storage.index.condition import Condition
    from storage.results.policy import Policy


def having(policy: Policy, tags: Iterable[tuple[int, int]]) -> Condition:
    """Return the condition that an image has one of these tags (id, units) and that the tag counts in its archive."""
    free: list[tuple[int, int]] = []
    parts: list[Condition] = []
    for tag_id, units in tags:
        has = HasTag(((tag_id, units),))
        denying = [InArchive(archive_id) for archive_id, denied in policy.within.items() if tag_id in denied]
        if tag_id in policy.elsewhere:
            allowing = [InArchive(archive_id) for archive_id, denied in policy.within.items() if tag_id not in denied]
            parts.append(All((has, Any(tuple(allowing)))))
        elif denying:
            parts.append(All((has, *map(Not, denying))))
        else:
            free.append((tag_id, units))
    if not parts:
        return HasTag(tuple(free))
    return Any((*([HasTag(tuple(free))] if free else []), *parts))
