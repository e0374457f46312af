"""Where the database and the broker are."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.settings import Settings


@contextmanager
def addresses(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Provide the URLs of database and broker during the block: those in the settings, or the embedded ones."""
    if settings.database_url is not None:
        yield settings.database_url, settings.broker_url
        return
    from ramq.embedded import embedded  # noqa: PLC0415  (not needed if a database is set)

    with embedded(settings.data_dir) as services:
        yield services.database_url, services.broker_url
