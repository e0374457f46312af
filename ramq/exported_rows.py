"""Rows of an export, for the command line and the web: both write the same files."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from ramq.services.export import write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.wiring import Services
    from storage.search.query import Match
    from storage.search.views import Hit


def write_found(
    ramq: Services,
    found: tuple[Match | None, Iterator[Hit]],
    format_: str,
    file: IO[bytes],
    *,
    with_text: bool,
    vectors: str | None,
) -> None:
    """Write hits, with their regions and what their files say.

    Args:
        ramq: the services.
        found: the generation and vocabulary of the hits, and the hits (``Searches.export``).
        format_: a table, or ``coco``.
        file: the file to write to.
        with_text: whether tables have the lines of text.
        vectors: the space whose vectors tables have; None: none.
    """
    made_by, hits = found
    readings = ramq.readings.views if with_text else None
    of_space = None if vectors is None else ramq.stages.vectors(vectors)
    write_rows(hits, format_, file, made_by, readings, ramq.regions.views, vectors=of_space, told=ramq.metadata.views)
