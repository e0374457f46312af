"""What people say of the decisions of steps: that a tag was rightly dropped from a picture, or rightly added to it.

A decision is a label of a version that a step dropped for a reason of its own, or that a model added. Each has one
answer in a data set, whoever gives it first. An answer is also a correction of the picture's tag.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.datasets.review_views import Answer, Decision, PersonTally, Tally, What
from storage.errors import NotFoundError
from storage.results import corrections, images
from storage.results.corrections import Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

DROPPED = "label.reason IN ('outlier', 'contradicted', 'no_region')"
"""Condition of a ``label`` that a step dropped. Those that people removed have another reason."""

ADDED = """label.reason IS NULL AND NOT label.origins && '{given,corrected}'
    AND (label.origins <@ '{generated}' OR label.evidence ? 'generation')"""
"""Condition of a ``label`` that a model added, alone or with a caption of its own."""

_CONDITIONS: dict[What, str] = {"dropped": DROPPED, "added": ADDED}

_LOOKED_AT = 5_000
"""Pictures of a tag among which the typical ones are."""

_UNANSWERED = """NOT EXISTS (
    SELECT FROM dataset_review AS review
    WHERE (review.image_id, review.dataset_id, review.tag_id) = (label.image_id, :dataset_id, label.tag_id)
      AND review.was_dropped = (label.reason IS NOT NULL))"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A tag in a version of a data set. ``name`` is the tag's in its vocabulary."""

    dataset_id: int
    version_id: int
    tag_id: int
    name: str

    @property
    def key(self) -> dict[str, int]:
        """Its ids by name, as SQL takes them."""
        return {"dataset_id": self.dataset_id, "version_id": self.version_id, "tag_id": self.tag_id}


def tallies(
    session: Session, dataset_id: int, version_id: int, tag_id: int | None = None
) -> dict[tuple[int, What], Tally]:
    """Count the decisions of a version that wait for an answer, and the answers in its data set, by tag and kind.

    Of all tags, this reads every label of the version once.
    """
    values = {"dataset_id": dataset_id, "version_id": version_id, "tag_id": tag_id}
    one = "" if tag_id is None else "AND tag_id = :tag_id"
    found: dict[tuple[int, What], Tally] = {}
    waiting = session.execute(
        text(
            f"""SELECT tag_id, label.reason IS NOT NULL AS was_dropped, count(*) AS waiting
                FROM dataset_label AS label
                WHERE version_id = :version_id {one} AND ({DROPPED} OR {ADDED}) AND {_UNANSWERED}
                GROUP BY 1, 2"""  # noqa: S608  (constants of this file)
        ),
        values,
    )
    for row in waiting:
        found[row.tag_id, _what(was_dropped=row.was_dropped)] = Tally(waiting=row.waiting)
    answered = session.execute(
        text(
            f"""SELECT tag_id, was_dropped, count(*) AS reviewed, count(*) FILTER (WHERE is_right) AS "right"
                FROM dataset_review WHERE dataset_id = :dataset_id {one} GROUP BY 1, 2"""  # noqa: S608
        ),
        values,
    )
    for row in answered:
        key = row.tag_id, _what(was_dropped=row.was_dropped)
        found[key] = found.get(key, Tally()) + Tally(reviewed=row.reviewed, right=row.right)
    return found


def people(session: Session, dataset_id: int) -> list[PersonTally]:
    """Count the answers of each person in a data set, most first."""
    rows = session.execute(
        text(
            """SELECT said_by, count(*) AS reviewed, count(*) FILTER (WHERE is_right) AS "right"
               FROM dataset_review WHERE dataset_id = :dataset_id GROUP BY said_by ORDER BY reviewed DESC, said_by"""
        ),
        {"dataset_id": dataset_id},
    )
    return [PersonTally(row.said_by, row.reviewed, row.right) for row in rows]


def waiting(
    session: Session, of: Subject, what: What, *, limit: int, after: tuple[float, int] | None = None
) -> list[Decision]:
    """Return decisions about a tag that wait for an answer, least certain first.

    They begin after the decision with the place ``after``. Since that is a place in the order of all decisions, none
    comes twice and none is left out if others are answered between two pages.
    """
    certainty, image_id = after or (-1.0, 0)
    rows = session.execute(
        text(
            f"""{_SELECT} WHERE label.version_id = :version_id AND label.tag_id = :tag_id
                  AND {_CONDITIONS[what]} AND {_UNANSWERED}
                  AND (coalesce(label.certainty, 0), label.image_id) > (CAST(:certainty AS real), :image_id)
                ORDER BY coalesce(label.certainty, 0), label.image_id LIMIT :limit"""
        ),
        {**of.key, "certainty": certainty, "image_id": image_id, "limit": limit},
    )
    return [_decision(row) for row in rows]


def typical(session: Session, of: Subject, limit: int) -> list[Decision]:
    """Return pictures that a version keeps under a tag, the most certain first, without those that a model added.

    Those whose region is known come first. Of a tag with very many pictures, only the first of them are looked at.
    """
    rows = session.execute(
        text(
            f"""{_SELECT} WHERE label.version_id = :version_id AND label.tag_id = :tag_id
                  AND label.image_id IN (SELECT image_id FROM dataset_label WHERE version_id = :version_id
                      AND tag_id = :tag_id AND reason IS NULL ORDER BY image_id LIMIT {_LOOKED_AT})
                  AND label.reason IS NULL AND NOT ({ADDED})
                ORDER BY label.evidence->'box' IS NULL, label.certainty DESC NULLS LAST, label.image_id LIMIT :limit"""  # noqa: S608
        ),
        {**of.key, "limit": limit},
    )
    return [_decision(row) for row in rows]


def decision(session: Session, of: Subject, image_id: int) -> Decision | None:
    """Return what a version says of a tag of a picture, if it has it."""
    row = session.execute(
        text(
            f"""{_SELECT} WHERE (label.version_id, label.tag_id, label.image_id)
                = (:version_id, :tag_id, :image_id)"""
        ),
        {**of.key, "image_id": image_id},
    ).one_or_none()
    return None if row is None else _decision(row)


def put(
    session: Session, of: Subject, image_ids: Sequence[int], said_by: str, *, is_right: bool
) -> tuple[list[int], list[Answer]]:
    """Store that the decisions about a tag of these pictures were right, or not, and correct the pictures accordingly.

    A decision that has an answer keeps it.

    Returns:
        The pictures that were answered now, and the answers that others have already.

    Raises:
        NotFoundError: a picture does not exist, or no decision about the tag was made in it.
    """
    ids = sorted(set(image_ids))
    images.lock(session, ids)
    made = session.execute(
        text(
            f"""SELECT image_id, reason IS NOT NULL AS was_dropped FROM dataset_label AS label
                WHERE version_id = :version_id AND tag_id = :tag_id AND image_id = ANY(:ids)
                  AND ({DROPPED} OR {ADDED})"""  # noqa: S608  (constants of this file)
        ),
        {**of.key, "ids": ids},
    )
    dropped = {row.image_id: row.was_dropped for row in made}
    if strangers := [image_id for image_id in ids if image_id not in dropped]:
        shown = ", ".join(map(str, strangers[:10]))
        raise NotFoundError(
            f"this version neither dropped nor added {of.name!r} in image {shown}, so nothing was stored"
        )
    answered = session.execute(
        text(
            """INSERT INTO dataset_review (image_id, dataset_id, tag_id, was_dropped, is_right, said_by)
               SELECT image_id, :dataset_id, :tag_id, was_dropped, :is_right, :said_by
               FROM unnest(CAST(:ids AS bigint[]), CAST(:dropped AS bool[])) AS made (image_id, was_dropped)
               ON CONFLICT (image_id, dataset_id, tag_id) DO UPDATE SET was_dropped = excluded.was_dropped,
                   is_right = excluded.is_right, said_by = excluded.said_by, said_at = now()
               WHERE dataset_review.was_dropped <> excluded.was_dropped
               RETURNING image_id"""
        ),
        {
            **of.key,
            "is_right": is_right,
            "said_by": said_by,
            "ids": ids,
            "dropped": [dropped[image_id] for image_id in ids],
        },
    )
    new = sorted(answered.scalars())
    for was_dropped in (True, False):
        chosen = [image_id for image_id in new if dropped[image_id] is was_dropped]
        if chosen:
            # The tag is there if it was wrongly dropped or rightly added.
            said = Said(of.name, of.name, is_present=was_dropped is not is_right)
            corrections.put(session, chosen, [said], said_by)
    return new, answers(session, of, [image_id for image_id in ids if image_id not in set(new)])


def take_back(session: Session, of: Subject, image_ids: Sequence[int], said_by: str) -> tuple[list[int], list[Answer]]:
    """Delete answers of a person, and the corrections that came of them: the decisions wait again.

    A correction that was made at another time stays.

    Returns:
        The pictures whose answers were deleted, and the answers that other people gave, which stay.

    Raises:
        NotFoundError: a picture does not exist.
    """
    ids = sorted(set(image_ids))
    images.lock(session, ids)
    values = {**of.key, "ids": ids, "said_by": said_by, "name": of.name}
    # An answer and its correction are of one transaction, so their times are the same.
    corrected = session.scalars(
        text(
            """SELECT correction.image_id FROM correction JOIN dataset_review AS review
                 ON (review.image_id, review.said_at) = (correction.image_id, correction.said_at)
               WHERE review.dataset_id = :dataset_id AND review.tag_id = :tag_id AND review.image_id = ANY(:ids)
                 AND review.said_by = :said_by AND correction.name = lower(:name)"""
        ),
        values,
    ).all()
    gone = session.scalars(
        text(
            """DELETE FROM dataset_review WHERE dataset_id = :dataset_id AND tag_id = :tag_id
               AND image_id = ANY(:ids) AND said_by = :said_by RETURNING image_id"""
        ),
        values,
    ).all()
    if corrected:
        corrections.reset(session, sorted(corrected), [of.name])
    return sorted(gone), answers(session, of, ids)


def answers(session: Session, of: Subject, image_ids: Sequence[int]) -> list[Answer]:
    """Return the answers about a tag of these pictures, by picture."""
    rows = session.execute(
        text(
            f"""{_ANSWERS} WHERE dataset_id = :dataset_id AND tag_id = :tag_id AND image_id = ANY(:ids)
                ORDER BY image_id"""
        ),
        {**of.key, "ids": list(image_ids)},
    )
    return [Answer(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's documented name)


def last(session: Session, dataset_id: int, said_by: str) -> list[Answer]:
    """Return the answers that a person gave last in a data set: all those of one go, by picture."""
    rows = session.execute(
        text(
            f"""{_ANSWERS} WHERE dataset_id = :dataset_id AND said_by = :said_by AND said_at = (
                    SELECT max(said_at) FROM dataset_review WHERE dataset_id = :dataset_id AND said_by = :said_by)
                ORDER BY image_id"""  # noqa: S608  (a constant of this file)
        ),
        {"dataset_id": dataset_id, "said_by": said_by},
    )
    return [Answer(**row._mapping) for row in rows]  # noqa: SLF001


_ANSWERS = "SELECT image_id, tag_id, was_dropped, is_right, said_by, said_at FROM dataset_review"

_SELECT = """SELECT label.image_id, image.key, item.version, label.origins, label.reason, label.certainty,
        label.evidence
    FROM dataset_label AS label JOIN image ON image.id = label.image_id
    JOIN dataset_item AS item ON (item.version_id, item.image_id) = (label.version_id, label.image_id)"""


def _decision(row: Any) -> Decision:
    evidence = row.evidence or {}
    box = evidence.get("box")
    return Decision(
        image_id=row.image_id,
        key=row.key,
        version=row.version,
        origins=tuple(row.origins),
        reason=row.reason,
        certainty=row.certainty,
        evidence=evidence,
        box=None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
    )


def _what(*, was_dropped: bool) -> What:
    return "dropped" if was_dropped else "added"
