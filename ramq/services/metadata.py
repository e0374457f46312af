"""What the files of images say: read it, and forget where images were taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.remembered import read_only
from storage.results import archives, metadata, sidecars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from storage.results.metadata import MetadataView

_AT_ONCE = 5_000
"""Images in a transaction."""


class MetadataClient:
    """What files say. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def views(self, image_ids: Sequence[int]) -> dict[int, MetadataView]:
        """Return what the files of images say, by their ids. Images whose file was not read are left out."""
        with read_only(self._engine) as session:
            return metadata.views(session, image_ids)

    def devices(self, kind: str, typed: str, limit: int) -> list[str]:
        """Return the names of cameras or lenses (``kind``) in which a text stands, by name."""
        with read_only(self._engine) as session:
            return metadata.devices(session, kind, typed, limit)

    def forget_places(self, archive: str | None = None) -> int:
        """Erase where images were taken. Return of how many. If interrupted, the same call does the rest.

        Files keep it, and workers store it again when they read them, unless ``RAMQ_KEEP_PLACE`` is false.

        Args:
            archive: only of this archive, by its number or URI; None: of all.

        Raises:
            NotFoundError: there is no such archive.
            UsageError: it is a part of an archive.
        """
        with unit_of_work(self._engine) as session:
            archive_id = None if archive is None else archives.whole(session, archive)
            sidecars.forget_places(session, archive_id)
        count = after = 0
        while True:
            with unit_of_work(self._engine) as session:
                done = metadata.forget_places(session, archive_id, after, _AT_ONCE)
            if not done:
                return count
            count, after = count + len(done), done[-1]
