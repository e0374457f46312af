"""Read a page of hits from the database by primary key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.rows import namedtuple_row

from storage.database import driver_connection
from storage.objects.pages import file_of, number_of
from storage.results import near_copies, readings
from storage.results.copies import COUNT_OF
from storage.results.lookup import tag_views
from storage.results.views import COMPOSED
from storage.search.phrases import spans_in
from storage.search.views import Hit, ReadMatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from storage.results.policy import Policy
    from storage.results.tags import Names
    from storage.search.phrases import Phrase

# A join with a list of ids looks each id up in its own partition. A filter by the list would look in all of them. The
# generation is part of the statement: as a parameter it would lock, and plan for, the partitions of all generations.
_HITS = f"""
    SELECT record.image_id, corrected.tags, corrected.scores, record.caption, record.captioner,
        record.width, record.height,
        (record.tags, record.scores) IS DISTINCT FROM (corrected.tags, corrected.scores) AS is_corrected,
        image.key, image.missing_since, archive.uri, image.archive_id,
        ARRAY(SELECT name FROM correction WHERE correction.image_id = wanted.id AND NOT is_present) AS removed,
        (SELECT words FROM keyword WHERE keyword.image_id = wanted.id) AS keywords,
        {COUNT_OF.format(image_id="wanted.id")} AS duplicates,
        {near_copies.COUNT_OF.format(image_id="wanted.id")} AS near_copies,
        opening.share IS NOT NULL AS truncated, image.version, nullif(opening.pages, 1) AS pages
    FROM unnest(%(ids)s::bigint[]) AS wanted (id)
    JOIN record ON record.image_id = wanted.id AND record.generation_id = {{generation_id:d}}
    JOIN image ON image.id = record.image_id
    JOIN archive ON archive.id = image.archive_id
    LEFT JOIN opening ON opening.image_id = wanted.id
    CROSS JOIN LATERAL corrected_tags(record.image_id, record.generation_id, record.tags, record.scores) AS corrected
"""  # noqa: S608  (constants)


def lines_of(
    session: Session, phrases: dict[int, tuple[Phrase, ...]], generation_id: int | None
) -> dict[int, list[ReadMatch]]:
    """Return the lines in which phrases stand, by image, at most ``phrases.MAX_LINES`` of each; none: left out.

    Args:
        session: a transaction.
        phrases: what to look for in which images.
        generation_id: what read them; None: nothing did.
    """
    found: dict[int, list[ReadMatch]] = {}
    if generation_id is None:
        return found
    for image_id, view in readings.views(session, list(phrases), generation_id).items():
        spans = spans_in(phrases[image_id], [line.text for line in view.lines])
        if spans:
            found[image_id] = [ReadMatch(view.lines[number], list(at)) for number, at in spans.items()]
    return found


def hits_of(
    session: Session,
    generation_id: int,
    scores: dict[int, float],
    names: Names,
    threshold: float | None,
    policy: Policy,
) -> list[Hit]:
    """Return the hits for image ids with scores, in the order of the dictionary. Deleted images are omitted."""
    with driver_connection(session).cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute(_HITS.format(generation_id=generation_id), {"ids": list(scores)}, prepare=True)
        rows: Iterable[Any] = cursor
        found = {row.image_id: row for row in rows}
    return [
        Hit(
            image_id=image_id,
            key=row.key,
            archive=row.uri,
            score=score,
            tags=tag_views(row, names, threshold, policy.denied(row.archive_id), only_assigned=True),
            caption=row.caption,
            captioner=row.captioner if row.caption or row.captioner == COMPOSED else None,
            is_corrected=row.is_corrected,
            has_denied_tags=not policy.denied(row.archive_id).isdisjoint(row.tags),
            removed=tuple(row.removed),
            generation_id=generation_id,
            width=row.width,
            height=row.height,
            missing_since=row.missing_since,
            duplicates=max(1, row.duplicates),
            keywords=tuple(row.keywords or ()),
            near_copies=max(1, row.near_copies),
            truncated=row.truncated,
            page=number_of(row.version) if row.pages else None,
            pages=row.pages,
            file_key=file_of(row.key, row.version),
        )
        for image_id, score in scores.items()
        if (row := found.get(image_id))
    ]
