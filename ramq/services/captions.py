"""Captions for display. A caption that is composed from tags follows the corrections of these tags."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ram_core.captions import composed_again

if TYPE_CHECKING:
    from storage.results.views import ImageView
    from storage.search.views import Hit

View = TypeVar("View", "Hit", "ImageView")

COMPOSED = "template"
"""The captioner that composes sentences from tags."""


def as_corrected(view: View) -> View:
    """Return an image whose template caption matches its tags: composed again if tags were corrected or are denied."""
    if view.captioner != COMPOSED or not view.caption or not (view.is_corrected or view.has_denied_tags):
        return view
    return replace(view, caption=composed_again(view.caption, [tag.name for tag in view.tags if tag.is_assigned]))
