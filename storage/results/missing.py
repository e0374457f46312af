"""Images of which people said something and whose files are missing: nothing that was said is lost with a file.

A person who knows better than the bytes can let such an image continue at another one, for example at the picture that
was edited and saved under the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.errors import ConflictError, NotFoundError, UsageError
from storage.results import archives, moves, said, teachings

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

_LISTED = f"""
    SELECT found.id AS image_id, archive.uri AS archive, found.key, found.missing_since,
        ARRAY(SELECT spelling FROM correction WHERE image_id = found.id AND is_present ORDER BY name) AS added,
        ARRAY(SELECT spelling FROM correction WHERE image_id = found.id AND NOT is_present ORDER BY name) AS removed,
        coalesce((SELECT words FROM keyword WHERE image_id = found.id), '{{}}') AS keywords,
        (SELECT count(*) FROM line_correction WHERE image_id = found.id) AS lines,
        (SELECT count(*) FROM region_correction WHERE image_id = found.id) AS regions,
        (SELECT count(*) FROM dataset_item WHERE image_id = found.id) AS in_datasets,
        (SELECT there.id FROM image AS there WHERE there.archive_id = found.archive_id AND there.id <> found.id
            AND there.missing_since IS NULL
            AND there.key = regexp_replace(found.key, ' \\(replaced, image [0-9]+\\).*$', '')) AS at_its_key
    FROM (
        SELECT image.* FROM image WHERE missing_since IS NOT NULL AND image.id > :after
          AND (CAST(:archive_id AS int) IS NULL OR archive_id = :archive_id) AND {said.OF_IMAGE}
        ORDER BY image.id LIMIT :limit
    ) AS found JOIN archive ON archive.id = found.archive_id ORDER BY found.id
"""  # noqa: S608  (constants)


@dataclass(frozen=True, slots=True)
class MissingView:
    """An image whose file is missing, and how much people said of it.

    Attributes:
        image_id: its number, which it keeps if the file appears again.
        archive: its URI.
        key: where it was last.
        missing_since: when a listing first did not find it, or found another picture at its key.
        added: tags that people gave it.
        removed: tags that people took from it.
        keywords: words that people gave it.
        lines: corrections of the text in it.
        regions: corrections of its regions.
        in_datasets: versions of data sets that it is in.
        at_its_key: the image that is at its key now; None: none is.
    """

    image_id: int
    archive: str
    key: str
    missing_since: datetime
    added: list[str]
    removed: list[str]
    keywords: list[str]
    lines: int
    regions: int
    in_datasets: int
    at_its_key: int | None


def views(session: Session, archive_id: int | None, *, after: int, limit: int) -> list[MissingView]:
    """Return images of which people said something and whose files are missing, by number, after one number."""
    values = {"archive_id": archive_id, "after": after, "limit": limit}
    return [MissingView(**row._mapping) for row in session.execute(text(_LISTED), values)]  # noqa: SLF001


def continue_at(session: Session, image_id: int, at: int) -> None:
    """Let an image whose file is missing continue where another image is, whose number then leads to it.

    Raises:
        NotFoundError: one of them does not exist.
        UsageError: the first is not missing, the second is, or they are of two archives.
        ConflictError: a worker is on one of them.
    """
    teachings.lock(session)
    held = "SELECT id, archive_id, missing_since FROM image WHERE id = ANY(:ids)"
    ids = [image_id, at]
    found = {row.id: row for row in session.execute(text(held), {"ids": ids})}
    for each in ids:
        if each not in found:
            raise NotFoundError(f"there is no image {each}")
    archive_id = found[image_id].archive_id
    archives.lock(session, [archive_id])
    found = {row.id: row for row in session.execute(text(held), {"ids": ids})}
    if image_id == at or archive_id != found[at].archive_id:
        raise UsageError("an image continues at another one of the same archive")
    if found[image_id].missing_since is None:
        raise UsageError(f"the file of image {image_id} is there: only an image whose file is missing can continue")
    if found[at].missing_since is not None:
        raise UsageError(f"the file of image {at} is missing: name one whose file is there")
    undecided = text("SELECT image_id FROM former_content WHERE image_id = ANY(:ids) ORDER BY 1 LIMIT 1")
    if (waits := session.scalar(undecided, {"ids": ids})) is not None:
        raise ConflictError(f"a job has yet to find out which picture image {waits} is: try again when it has ended")
    if taken := moves.hold_shards(session, archive_id, ids):
        raise ConflictError(f"a worker is on image {min(taken)}: try again in a minute")
    moves.join(session, [moves.Move(image_id, at)])
