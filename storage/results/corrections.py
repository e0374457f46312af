"""Corrections: people's changes to the tags of images, whatever models say.

They are stored by name and apart from records, so that no job overwrites them. The SQL function ``corrected_tags``
combines a model's tags with corrections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import column, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import SmallInteger

from storage.database import driver_connection
from storage.errors import ConflictError, UsageError
from storage.results import images, vectors
from storage.results.moments import ids_of, union
from storage.results.tags import UnknownTagError
from storage.results.views import CorrectionView
from storage.tables import Correction, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.selectable import LateralFromClause

    from storage.results.tags import Names


@dataclass(frozen=True, slots=True)
class Said:
    """A correction: the tag is present, or not. ``name`` is from a vocabulary, ``spelling`` is as typed."""

    name: str
    spelling: str
    is_present: bool


def corrected() -> LateralFromClause:
    """Return the corrected tags and scores of a ``Record`` of the same query, to be joined to it."""
    made = func.corrected_tags(Record.image_id, Record.generation_id, Record.tags, Record.scores)
    return made.table_valued(column("tags", ARRAY(SmallInteger)), column("scores", ARRAY(SmallInteger))).lateral()


def resolve(vocabularies: Sequence[Names], typed: str) -> str:
    """Return the name of the tag that ``typed`` means, from the first vocabulary that has it.

    Raises:
        UnknownTagError: none has it; the message suggests similar names of the first vocabulary.
        UsageError: it means several tags, as a Chinese word may.
    """
    if "\x00" in typed:
        raise UsageError("a tag must not contain a NUL character")
    unknown = UnknownTagError(typed, (), "No vocabulary is known yet: recognise an archive first.")
    for number, names in enumerate(vocabularies):
        try:
            found = [names.names[tag_id] for tag_id in names.find(typed)]
        except UnknownTagError as error:
            if number == 0:
                unknown = UnknownTagError(
                    typed, error.near, "To use your own tags, add a vocabulary: `ramq vocab add`."
                )
            continue
        if len({name.lower() for name in found}) > 1:
            raise UsageError(f"{typed!r} matches several tags: use one of {', '.join(found)}")
        return found[0]
    raise unknown


def known_as(vocabularies: Sequence[Names], typed: str) -> str:
    """Return the name of the tag that ``typed`` means, from the first vocabulary that has it; else ``typed`` itself.

    For what may have any name, such as what is looked for in pictures. A number is no id here, and English words that
    several tags share stay as they are.

    Raises:
        UsageError: it means several tags, as a Chinese word may, which detectors do not understand.
    """
    known = next((names for names in vocabularies if names.ids(typed)), None)
    if known is None or typed.strip().isdecimal():
        return typed
    if typed.isascii() and len({known.names[tag_id].lower() for tag_id in known.ids(typed)}) > 1:
        return typed
    return resolve([known], typed)


def put(session: Session, image_ids: Sequence[int], said: Sequence[Said], said_by: str) -> None:
    """Store corrections of images. They replace earlier ones of the same tags.

    A tag that came with a keyword is there because of this correction from now on: no undoing takes it away.

    Raises:
        NotFoundError: one of the images does not exist.
        ConflictError: a correction of the picture that an image showed before would be lost.
    """
    _put(session, image_ids, said, said_by)
    _part_from_acts(session, image_ids, [one.name for one in said], said_by)


def put_with_act(session: Session, image_ids: Sequence[int], said: Said, said_by: str) -> None:
    """Store a correction that an act on keywords makes, which can be undone. Raises the errors of ``put``."""
    _put(session, image_ids, [said], said_by)


def _put(session: Session, image_ids: Sequence[int], said: Sequence[Said], said_by: str) -> None:
    images.lock(session, image_ids)
    _require_undisputed(session, image_ids, [one.name for one in said])
    session.execute(
        text(
            """
            INSERT INTO correction (image_id, name, spelling, is_present, said_by)
            SELECT image_id, lower(said.name), said.spelling, said.is_present, :said_by
            FROM unnest(CAST(:ids AS bigint[])) AS image_id,
                unnest(CAST(:names AS text[]), CAST(:spellings AS text[]), CAST(:present AS bool[]))
                    AS said (name, spelling, is_present)
            ORDER BY image_id, lower(said.name)
            ON CONFLICT (image_id, name) DO UPDATE SET spelling = excluded.spelling,
                is_present = excluded.is_present, said_by = excluded.said_by, said_at = now()
            WHERE correction.is_present <> excluded.is_present
            """
        ),
        {
            "ids": sorted(set(image_ids)),
            "said_by": said_by,
            "names": [one.name for one in said],
            "spellings": [one.spelling for one in said],
            "present": [one.is_present for one in said],
        },
    )
    vectors.touch(session, image_ids)


_PART = """
    WITH parted AS (
        UPDATE keyword_said SET tag_before = NULL FROM keyword_act, unnest(tags) AS tag
        WHERE keyword_act.id = act_id AND image_id = ANY(:ids) AND tag_before IS NOT NULL
            AND lower(tag) = ANY(SELECT lower(name) FROM unnest(CAST(:names AS text[])) AS name)
        RETURNING image_id, lower(tag) AS name
    )
    UPDATE correction SET said_by = :said_by, said_at = now() FROM parted
    WHERE (correction.image_id, correction.name) = (parted.image_id, parted.name) AND correction.said_by <> :said_by
"""


def _part_from_acts(session: Session, image_ids: Sequence[int], names: Sequence[str], said_by: str) -> None:
    """Let tags that acts on keywords added be the word of a person, who says the same or something else of them."""
    session.execute(text(_PART), {"ids": list(image_ids), "names": list(names), "said_by": said_by})


def _require_undisputed(session: Session, image_ids: Sequence[int], names: Sequence[str]) -> None:
    """Keep a new correction from replacing one of another picture, which a job is about to part from this one."""
    disputed = session.execute(
        text(
            """SELECT image_id, correction.spelling FROM former_content AS former JOIN correction USING (image_id)
               WHERE image_id = ANY(:ids) AND said_at <= former.changed_at
                 AND name IN (SELECT lower(name) FROM unnest(CAST(:names AS text[])) AS name)
               ORDER BY image_id LIMIT 1"""
        ),
        {"ids": list(image_ids), "names": list(names)},
    ).one_or_none()
    if disputed is not None:
        raise ConflictError(
            f"image {disputed.image_id} shows another picture than the one of which {disputed.spelling!r} was said. "
            "The end of a job on its archive parts the two: say it again then"
        )


def reset(session: Session, image_ids: Sequence[int], names: Sequence[str]) -> None:
    """Delete the corrections of these tags: the models' results apply again. Raises ``NotFoundError``."""
    images.lock(session, image_ids)
    session.execute(
        text(
            """DELETE FROM correction WHERE image_id = ANY(:ids)
               AND name IN (SELECT lower(name) FROM unnest(CAST(:names AS text[])) AS name)"""
        ),
        {"ids": list(image_ids), "names": list(names)},
    )
    _part_from_acts(session, image_ids, names, "")
    vectors.touch(session, image_ids)


def of_image(session: Session, image_id: int) -> list[CorrectionView]:
    """Return the corrections of an image, by name."""
    rows = session.scalars(select(Correction).where(Correction.image_id == image_id).order_by(Correction.name))
    return [CorrectionView(row.name, row.is_present, row.said_by, row.said_at) for row in rows]


@dataclass(frozen=True, slots=True)
class Answers:
    """What people said about one tag: ids of images that have it, and of images that do not. ``name`` is as typed."""

    name: str
    yes: list[int]
    no: list[int]


def answers(session: Session, name: str | None = None, least: int = 1) -> list[Answers]:
    """Return what people said about tags, by name: about one, or about all that ``least`` images have."""
    rows = session.execute(
        text(
            """
            SELECT (array_agg(spelling ORDER BY said_at DESC))[1] AS name,
                coalesce(array_agg(image_id ORDER BY image_id) FILTER (WHERE is_present), '{}') AS yes,
                coalesce(array_agg(image_id ORDER BY image_id) FILTER (WHERE NOT is_present), '{}') AS no
            FROM correction WHERE CAST(:name AS text) IS NULL OR name = lower(:name)
            GROUP BY correction.name HAVING count(*) FILTER (WHERE is_present) >= :least ORDER BY correction.name
            """
        ),
        {"name": name, "least": least},
    )
    return [Answers(row.name, row.yes, row.no) for row in rows]


def of_images(session: Session, image_ids: Sequence[int]) -> dict[int, list[Said]]:
    """Return the corrections of images that have any."""
    found: dict[int, list[Said]] = {}
    rows = session.scalars(
        select(Correction).where(Correction.image_id.in_(image_ids)).order_by(Correction.image_id, Correction.name)
    )
    for row in rows:
        found.setdefault(row.image_id, []).append(Said(row.name, row.spelling, row.is_present))
    return found


@dataclass(frozen=True, slots=True)
class About:
    """The images of which people said something about some tags: ids, ascending.

    Attributes:
        added: those that they gave one of these tags.
        removed: those from which they took one.
    """

    added: NDArray[np.int64]
    removed: NDArray[np.int64]


# Each name is looked up in the index by itself, whatever the planner knows of the table: see migration 0012. The order,
# which the index has, keeps Postgres from reading all corrections if most of them are of one tag.
_ABOUT = """
    SELECT wanted.term, said.is_present, array_send(array_agg(said.image_id))
    FROM unnest(%(terms)s::int[], %(names)s::text[]) AS wanted (term, name)
    CROSS JOIN LATERAL (
        SELECT image_id, is_present FROM correction WHERE correction.name = lower(wanted.name)
        ORDER BY image_id OFFSET 0
    ) AS said
    GROUP BY wanted.term, said.is_present
"""


def about(session: Session, terms: Sequence[Sequence[str]]) -> dict[int, About]:
    """Return what people said of the tags of some terms, by the number of the term; nothing: left out.

    Args:
        session: a transaction.
        terms: each with the names of its tags, as vocabularies have them.
    """
    names = [(number, name) for number, term in enumerate(terms) for name in term]
    values = {"terms": [number for number, _ in names], "names": [name for _, name in names]}
    rows: Iterable[Any] = driver_connection(session).execute(_ABOUT, values, binary=True)
    found: dict[int, dict[bool, NDArray[np.int64]]] = {}
    for term, is_present, array in rows:
        found.setdefault(term, {})[is_present] = union([ids_of(array)])
    none = np.empty(0, dtype=np.int64)
    return {term: About(said.get(True, none), said.get(False, none)) for term, said in found.items()}
