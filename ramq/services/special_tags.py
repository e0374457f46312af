"""The order in which tags are shown: a poodle says more than a dog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ram_core.hierarchy.wordnet import most_special

if TYPE_CHECKING:
    from collections.abc import Iterable

    from storage.results.views import TagView


def special_first(tags: Iterable[TagView]) -> list[TagView]:
    """Return the tags of an image in their order, but those last of which it has a kind."""
    given = list(tags)
    special = set(most_special([tag.name for tag in given]))
    return sorted(given, key=lambda tag: tag.name not in special)
