"""The text in images: what workers read, with people's corrections, and the words that search finds in it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from psycopg.rows import namedtuple_row
from sqlalchemy import text

from storage.database import driver_connection
from storage.results import generations, read_words
from storage.results.reading_lines import LineChange, StoredLine, corners_of, corrected, stored
from storage.results.reading_views import ReadingView
from storage.tables import SCORE_SCALE
from storage.words import Words, clean, words_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from storage.results.reading_views import FoundLine, ReadingRow
    from storage.results.records import Provenance

STAGE = "text"

# The generation is part of the statements: as a parameter it would lock, and plan for, the partitions of all of them.
_WORDS_BEFORE = """
    SELECT image_id, tsvector_to_array(words) FROM reading_index
    WHERE generation_id = {generation_id:d} AND image_id = ANY(%(ids)b)
"""
_WRITE = """
    WITH mended AS (DELETE FROM failure WHERE job_id = %(job_id)s AND image_id = ANY(%(ids)b))
    INSERT INTO reading (image_id, generation_id, job_id, version, lines, confidences, corners, is_cut)
    SELECT image_id, {generation_id:d}, %(job_id)s, version, CAST(lines AS text[]), CAST(confidences AS smallint[]),
        CAST(corners AS smallint[]), is_cut
    FROM unnest(CAST(%(ids)b AS bigint[]), CAST(%(versions)b AS text[]), CAST(%(lines)b AS text[]),
        CAST(%(confidences)b AS text[]), CAST(%(corners)b AS text[]), CAST(%(is_cut)b AS bool[]))
        AS found (image_id, version, lines, confidences, corners, is_cut)
    ORDER BY image_id
    ON CONFLICT (image_id, generation_id) DO UPDATE SET job_id = excluded.job_id, version = excluded.version,
        lines = excluded.lines, confidences = excluded.confidences, corners = excluded.corners,
        is_cut = excluded.is_cut, read_at = now()
    WHERE (reading.job_id, reading.version, reading.lines, reading.confidences, reading.corners, reading.is_cut)
        IS DISTINCT FROM (excluded.job_id, excluded.version, excluded.lines, excluded.confidences, excluded.corners,
            excluded.is_cut)
"""
_WRITE_WORDS = """
    INSERT INTO reading_index (image_id, generation_id, words)
    SELECT image_id, {generation_id:d}, CAST(words AS tsvector)
    FROM unnest(CAST(%(ids)b AS bigint[]), CAST(%(words)b AS text[])) AS found (image_id, words) ORDER BY image_id
    ON CONFLICT (image_id, generation_id) DO UPDATE SET words = excluded.words, xid = pg_current_xact_id()
    WHERE reading_index.words IS DISTINCT FROM excluded.words
"""
_READ = """
    SELECT reading.image_id, generation.model, reading.lines, reading.confidences, reading.corners, reading.is_cut,
        reading.read_at, said.ids, said.corners AS said_corners, said.texts
    FROM unnest(%(ids)s::bigint[]) AS wanted (id)
    JOIN reading ON reading.image_id = wanted.id AND reading.generation_id = {generation_id:d}
    JOIN generation ON generation.id = reading.generation_id
    CROSS JOIN LATERAL (
        SELECT array_agg(id) AS ids, array_agg(corners) AS corners, array_agg(text) AS texts
        FROM line_correction WHERE line_correction.image_id = reading.image_id
    ) AS said
"""


def write_readings(session: Session, rows: Sequence[ReadingRow], provenance: Provenance) -> None:
    """Store what was read. It replaces what was read in the same image under the same generation.

    Storing the same twice changes nothing. An image without text is stored too. The caller has locked the images.
    Tables are written in the order reading, failure, index, dictionary, and rows in order. This keeps transactions with
    common images from deadlocking.
    """
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.image_id)
    ids = [row.image_id for row in ordered]
    lines = [[_stored(line) for line in row.lines] for row in ordered]
    said = changes(session, ids)
    words = [words_with(each, said.get(image_id, ())) for image_id, each in zip(ids, lines, strict=True)]
    before = _write(session, ordered, lines, words, provenance)
    lost = set().union(
        *(set(before[image_id]) - each.spaced for image_id, each in zip(ids, words, strict=True) if image_id in before)
    )
    read_words.change(session, frozenset().union(*(each.spaced for each in words)), lost)


def _write(
    session: Session,
    rows: Sequence[ReadingRow],
    lines: Sequence[Sequence[StoredLine]],
    words: Sequence[Words],
    provenance: Provenance,
) -> dict[int, list[str]]:
    """Store rows that are in order of their ids. Return the words that some of these images had before."""
    connection = driver_connection(session)
    ids = [row.image_id for row in rows]
    generation_id = provenance.generation_id
    connection.execute(
        _WRITE.format(generation_id=generation_id),
        {
            "job_id": provenance.job_id,
            "ids": ids,
            "versions": [row.version for row in rows],
            # Arrays of arrays must have equal lengths, so each array is written in PostgreSQL's text form.
            "lines": [_array([_quoted(line.text) for line in each]) for each in lines],
            "confidences": [_array([line.confidence for line in each]) for each in lines],
            "corners": [_array([number for line in each for number in line.corners]) for each in lines],
            "is_cut": [row.is_cut for row in rows],
        },
        prepare=True,
    )
    # Others who write these images wait for this transaction since it wrote their readings.
    before = connection.execute(_WORDS_BEFORE.format(generation_id=generation_id), {"ids": ids}, prepare=True)
    had = {image_id: found or [] for image_id, found in before.fetchall()}
    vectors = {
        image_id: each.vector for image_id, each in zip(ids, words, strict=True) if each.vector or image_id in had
    }
    connection.execute(
        _WRITE_WORDS.format(generation_id=generation_id),
        {"ids": list(vectors), "words": list(vectors.values())},
        prepare=True,
    )
    return had


def views(session: Session, image_ids: Sequence[int], generation_id: int | None = None) -> dict[int, ReadingView]:
    """Return the text in images as people see it, by image. Images that were not read are left out.

    Args:
        session: a transaction.
        image_ids: which images.
        generation_id: what read them; None: the generation of the stage that serves search.
    """
    if generation_id is None:
        serving = generations.default(session, STAGE)
        if serving is None:
            return {}
        generation_id = serving.id
    if not image_ids:
        return {}
    with driver_connection(session).cursor(row_factory=namedtuple_row) as cursor:
        cursor.execute(_READ.format(generation_id=generation_id), {"ids": list(image_ids)}, prepare=True)
        rows: list[Any] = cursor.fetchall()
    return {
        row.image_id: ReadingView(
            image_id=row.image_id,
            generation_id=generation_id,
            model=row.model,
            lines=corrected(
                stored(row.lines, row.confidences, row.corners),
                [
                    LineChange(correction_id, tuple(corners), line)
                    for correction_id, corners, line in zip(
                        row.ids or (), row.said_corners or (), row.texts or (), strict=True
                    )
                ],
            ),
            is_cut=row.is_cut,
            read_at=row.read_at,
        )
        for row in rows
    }


def is_any(session: Session, generation_id: int) -> bool:
    """Return whether anything was read under a generation."""
    found = text(f"SELECT EXISTS (SELECT FROM reading WHERE generation_id = {generation_id:d})")  # noqa: S608  (a number)
    return bool(session.scalar(found))


def changes(session: Session, image_ids: Sequence[int]) -> Mapping[int, list[LineChange]]:
    """Return people's corrections of the lines of images, by image, oldest first."""
    found: dict[int, list[LineChange]] = defaultdict(list)
    rows = session.execute(
        text("SELECT id, image_id, corners, text FROM line_correction WHERE image_id = ANY(:ids) ORDER BY id"),
        {"ids": list(image_ids)},
    )
    for row in rows:
        found[row.image_id].append(LineChange(row.id, tuple(row.corners), row.text))
    return found


def words_with(lines: Sequence[StoredLine], said: Sequence[LineChange]) -> Words:
    """Return the words in an image, with people's corrections."""
    return words_of([line.text for line in corrected(lines, said)] if said else [line.text for line in lines])


def note_changes(session: Session, image_id: int) -> None:
    """Find the words in an image again, under every generation: people's corrections of it have changed."""
    rows = session.execute(
        text(
            """SELECT generation_id, lines, confidences, corners, tsvector_to_array(words) AS words
               FROM reading LEFT JOIN reading_index USING (image_id, generation_id)
               WHERE image_id = :id ORDER BY generation_id"""
        ),
        {"id": image_id},
    ).all()
    said = changes(session, [image_id]).get(image_id, [])
    added: set[str] = set()
    lost: set[str] = set()
    for row in rows:
        words = words_with(stored(row.lines, row.confidences, row.corners), said)
        added |= words.spaced
        lost |= set(row.words or ()) - words.spaced
        if words.vector is None and row.words is None:
            continue  # an image that never had words has no row
        session.execute(
            text(
                """INSERT INTO reading_index (image_id, generation_id, words)
                   VALUES (:id, :generation_id, CAST(:words AS tsvector))
                   ON CONFLICT (image_id, generation_id) DO UPDATE SET words = excluded.words,
                       xid = pg_current_xact_id()
                   WHERE reading_index.words IS DISTINCT FROM excluded.words"""
            ),
            {"id": image_id, "generation_id": row.generation_id, "words": words.vector},
        )
    read_words.change(session, added, lost)


def forget_lost(session: Session, image_ids: Sequence[int]) -> None:
    """Forget the words of readings that these images have no longer."""
    gone = text(
        """DELETE FROM reading_index WHERE image_id = ANY(:ids) AND NOT EXISTS (
               SELECT FROM reading WHERE reading.image_id = reading_index.image_id
               AND reading.generation_id = reading_index.generation_id)
           RETURNING tsvector_to_array(words)"""
    )
    lost = set().union(*(each or () for each in session.scalars(gone, {"ids": list(image_ids)})))
    read_words.change(session, (), lost)


def erase(session: Session, image_ids: Sequence[int]) -> int:
    """Erase the text in images, people's corrections of it, and the words that stood only there.

    Returns:
        How many readings were erased.
    """
    ids = {"ids": list(image_ids)}
    session.execute(text("DELETE FROM line_correction WHERE image_id = ANY(:ids)"), ids)
    erased = session.execute(text("DELETE FROM reading WHERE image_id = ANY(:ids)"), ids).rowcount  # type: ignore[attr-defined]
    words = text("DELETE FROM reading_index WHERE image_id = ANY(:ids) RETURNING tsvector_to_array(words)")
    lost = set().union(*(each or () for each in session.scalars(words, ids)))
    read_words.change(session, (), lost)
    return int(erased)


def _stored(line: FoundLine) -> StoredLine:
    confidence = round(min(max(line.confidence, 0.0), 1.0) * SCORE_SCALE)
    return StoredLine(clean(line.text), confidence, corners_of(line.polygon))


def _array(elements: Sequence[object]) -> str:
    return f"{{{','.join(map(str, elements))}}}"


def _quoted(line: str) -> str:
    escaped = line.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
