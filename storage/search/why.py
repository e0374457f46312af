"""Why a search by a text or an image found an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.search.views import Why

if TYPE_CHECKING:
    from storage.results.tags import Names
    from storage.search.orders import Ranked
    from storage.search.views import Hit


def why_found(ranked: Ranked, hit: Hit, terms: tuple[tuple[int, ...], ...], names: Names) -> Why:
    """Return why an image was found.

    Args:
        ranked: its place.
        hit: the image.
        terms: the tags that the text names (``tag_names.Mention``).
        names: their vocabulary.
    """
    named = {tag_id for term in terms for tag_id in term}
    wide = [names.with_kinds(term) for term in terms] if hit.is_corrected or hit.removed else []
    kinds = {tag_id for term in wide for tag_id in term}
    added = {tag.id: tag.name for tag in hit.tags if tag.source == "person" and tag.id in kinds}
    given = {tag.id for tag in hit.tags}
    lost = [tag_id for term in wide if given.isdisjoint(term) for tag_id in term]
    return Why(
        similarity=next((each.similarity for each in ranked.spaces if each.of == "text"), None),
        tags=[tag.id for tag in hit.tags if tag.id in named or tag.id in added],
        is_read=ranked.is_read,
        is_told=ranked.is_told,
        spaces=ranked.spaces,
        added=list(added.values()),
        removed=list(dict.fromkeys(names.names[i] for i in lost if names.names[i].lower() in hit.removed)),
    )
