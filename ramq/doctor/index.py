"""Checks of the index and of its shadow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.findings import Finding, fault
from storage.database import unit_of_work
from storage.errors import RamqError
from storage.results.index_rows import indexed
from storage.texts import without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from ramq.settings import Settings
    from storage.index.index import VectorIndex
    from storage.results.generation_views import IndexView

_MANY_WAITING = 100_000
"""More vectors than this outside the segments make searches slow."""


def index(settings: Settings, engine: Engine) -> list[Finding]:
    """Check the index: whether it answers, can be read, and has the vectors."""
    from ramq.services.index import make_index  # noqa: PLC0415  (faiss)

    views = _views("index", "RAMQ_INDEX_URL", engine, lambda: make_index(settings))
    if isinstance(views, Finding):
        return [views]
    return [finding for view in views if (finding := _in_need(view, settings.index_location)) is not None] or [
        Finding("index", "ok", _held(views, f"the index at {settings.index_location}"))
    ]


def shadow(settings: Settings, engine: Engine) -> list[Finding]:
    """Check the shadow of the index, if there is one: whether it answers, and is filled."""
    if settings.shadow_index_url is None:
        return []
    from ramq.services.shadow import SETTING, make_shadow_index  # noqa: PLC0415  (faiss)

    views = _views("shadow", SETTING, engine, lambda: make_shadow_index(settings))
    if isinstance(views, Finding):
        return [views]
    held = _held(views, f"the shadow of the index at {settings.shadow_index_url}")
    if any(view.vectors_indexed for view in views) or not any(view.vectors_stored for view in views):
        return [Finding("shadow", "ok", held)]
    return [Finding("shadow", "note", held, "ramq index shadow build")]


def _views(name: str, setting: str, engine: Engine, make: Callable[[], VectorIndex]) -> list[IndexView] | Finding:
    """Return the state of an index for each generation, or the fault because of which nobody knows."""
    try:
        reader = make()
        reader.check()
        with unit_of_work(engine) as session:
            return [reader.status(session, generation_id) for generation_id in indexed(session)]
    except RamqError as error:
        return fault(name, error, f"env | grep {setting}")


def _in_need(view: IndexView, location: str) -> Finding | None:
    """Return what is wrong with the index of a generation."""
    generation = f"generation {view.generation_id}"
    if view.manifest is not None and not view.segments and view.vectors_stored:
        detail = f"{generation}: the index at {without_secrets(location)} cannot be read"
        return Finding("index", "fault", detail, "ramq index rebuild")
    if view.delta > _MANY_WAITING:
        detail = f"{generation}: {view.delta:,} vectors are not in segments, so search is slow"
        return Finding("index", "fault", detail, "ramq index compact")
    return None


def _held(views: list[IndexView], place: str) -> str:
    stored, held = sum(view.vectors_stored for view in views), sum(view.vectors_indexed for view in views)
    return f"{held:,} of {stored:,} vectors in {without_secrets(place)}"
