"""What a job needs that gives other tags to recorded images, or the tags that people taught to new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.errors import UsageError
from storage.results import generations
from workers.messages import teaches_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.results.features import Stock
    from storage.tables import Generation


def source_of(session: Session, generation_id: int | None) -> Generation:
    """Return the generation with this id; None: the one in use. Raises ``UsageError`` if there is none."""
    if generation_id is not None:
        return generations.get(session, generation_id)
    serving = generations.default(session)
    if serving is None:
        raise UsageError("nothing is recorded yet; run `ramq enqueue SOURCE` first")
    return serving


def require_features(source: Generation, stock: Sequence[Stock]) -> None:
    """Raise ``UsageError`` unless the features of all images are kept."""
    images, kept = sum(each.images for each in stock), sum(each.with_features for each in stock)
    if kept < images:
        raise UsageError(
            f"generation {source.id} has no features for {images - kept:,} of {images:,} images; enqueue the archive "
            f"with RAMQ_FEATURES={teaches_from(source.model)} to recognise them again, or skip them with --skip-missing"
        )
