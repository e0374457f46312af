"""Delete the files that searches no longer need."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.index.manifest import DamagedError, generation_folder
from storage.results import vectors as repository

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Engine

    from storage.index.pointers import Pointers
    from storage.index.store import SegmentStore

log = logging.getLogger(__name__)

GRACE_SECONDS = 900.0
"""How long files of a replaced manifest are kept: a reader may have just read its number."""

_GENERATION = re.compile(r"generation-(\d+)")
_MANIFEST = re.compile(r"manifest-(\d+)\.json")


def collect_garbage(
    engine: Engine,
    store: SegmentStore,
    *,
    grace_seconds: float = GRACE_SECONDS,
    only: Collection[int] | None = None,
    pointers: Pointers = repository,
) -> int:
    """Delete files that only older manifests refer to: neither published nor replaced within ``grace_seconds``.

    A generation that is being built is skipped until next time. ``only``: of these generations; None: of all.
    ``pointers``: where it is kept what is published.

    Returns:
        How many names were deleted.
    """
    deleted = 0
    for folder in store.place.names(""):
        match = _GENERATION.fullmatch(folder)
        if match is None:
            continue
        generation_id = int(match[1])
        if only is not None and generation_id not in only:
            continue
        with unit_of_work(engine) as session:
            if not pointers.lock_builder(session, generation_id, wait=False):
                continue
            if repository.vector_size(session, generation_id) is None:
                store.place.delete(folder)
                deleted += 1
                continue
            published = pointers.head(session, generation_id).pointer.manifest
            for name in _garbage(store, generation_id, published, grace_seconds):
                store.place.delete(f"{folder}/{name}")
                deleted += 1
    return deleted


def _garbage(store: SegmentStore, generation_id: int, published: int, grace_seconds: float) -> list[str]:
    ages = store.place.names(generation_folder(generation_id))
    manifests = {int(match[1]): name for name in ages if (match := _MANIFEST.fullmatch(name))}
    if published and published not in manifests:
        log.warning(
            "the published manifest is gone, nothing is deleted: run `ramq index rebuild`",
            extra={"generation_id": generation_id, "manifest": published},
        )
        return []
    kept = {manifests[published]} if published else set()
    following: int | None = None
    for number in sorted(manifests, reverse=True):
        replaced_seconds_ago = ages[manifests[following]] if following else 0.0
        if replaced_seconds_ago < grace_seconds:
            kept.add(manifests[number])
        following = number
    needed = set(kept)
    for number, name in manifests.items():
        if name in kept:
            try:
                manifest = store.manifest(generation_id, number)
            except DamagedError:
                continue  # incomplete, from a builder that died: it refers to no files
            needed |= {entry.name for entry in manifest.segments}
            needed |= {entry.dead for entry in manifest.segments if entry.dead}
    return [name for name, age in ages.items() if name not in needed and age > grace_seconds]
