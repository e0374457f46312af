"""Where links to merged images lead: their number stays known as long as the image that took over exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.database import driver_connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session


def note(session: Session, into: Mapping[int, int]) -> None:
    """Remember into which images these were merged: by their number. Before they are erased."""
    values = {"merged": list(into), "into": list(into.values())}
    pairs = "unnest(CAST(:merged AS bigint[]), CAST(:into AS bigint[])) AS pair (merged, into_id)"
    # What led to a merged image leads on.
    session.execute(
        text(f"UPDATE merged_image SET image_id = pair.into_id FROM {pairs} WHERE image_id = pair.merged"),  # noqa: S608
        values,
    )
    session.execute(
        text(
            f"""INSERT INTO merged_image (merged_id, image_id) SELECT merged, into_id FROM {pairs}
                ON CONFLICT (merged_id) DO UPDATE SET image_id = excluded.image_id"""  # noqa: S608  (constants)
        ),
        values,
    )


def into(session: Session, image_id: int) -> int | None:
    """Return the image that took over the one with this number; None: no image did."""
    if not 0 < image_id < 2**63:
        return None
    row = (
        driver_connection(session)
        .execute("SELECT image_id FROM merged_image WHERE merged_id = %s", (image_id,))
        .fetchone()
    )
    return None if row is None else int(row[0])
