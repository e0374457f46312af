"""The condition to have a tag where the rules of an archive let it count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.index.condition import All, Any, HasTag, InArchive, Not

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storage.index.condition import Condition
    from storage.results.policy import Policy


def having(policy: Policy, tags: Iterable[tuple[int, int]]) -> Condition:
    """Return the condition to have one of these tags, (id, units), where it counts."""
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
