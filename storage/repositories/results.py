"""Results as people read them: hits with their tags, one image with its history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, literal, select, text, true

from ramq.kit.errors import NotFoundError, UsageError
from storage.models import SCORE_SCALE, Archive, Generation, Image, Record, Tag
from storage.repositories import vectors as repository
from storage.views import DeletionReport, Facet, HistoryView, Hit, ImageView, TagView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from storage.query import Match
    from storage.repositories.tags import Names


def hits(
    session: Session, generation_id: int, scores: dict[int, float], names: Names, threshold: float | None
) -> list[Hit]:
    """Return the hits for image ids with scores, in the order of the dictionary; deleted images are left out."""
    rows = session.execute(
        select(Record, Image.key, Archive.uri)
        .join(Image, Image.id == Record.image_id)
        .join(Archive, Archive.id == Image.archive_id)
        .where(Record.generation_id == generation_id, Record.image_id.in_(list(scores)))
    )
    found = {record.image_id: (record, key, uri) for record, key, uri in rows}
    return [
        Hit(
            image_id=image_id,
            key=key,
            archive=uri,
            score=score,
            tags=[tag for tag in _tags(record, names, threshold) if tag.score > tag.threshold],
            caption=record.caption,
        )
        for image_id, score in scores.items()
        if image_id in found
        for record, key, uri in [found[image_id]]
    ]


def _tags(record: Record, names: Names, threshold: float | None) -> list[TagView]:
    """Return every stored tag of a record, highest score first.

    The thresholds are rounded as the scores are, so that a tag is above its own here just where SQL says so.
    """
    views = [
        TagView(
            id=tag_id,
            name=names.names[tag_id],
            name_zh=names.names_zh[tag_id],
            score=units / SCORE_SCALE,
            threshold=names.units(tag_id, threshold) / SCORE_SCALE,
        )
        for tag_id, units in zip(record.tags, record.scores, strict=True)
    ]
    return sorted(views, key=lambda tag: (-tag.score, tag.id))


def facets(session: Session, match: Match, threshold: float | None, limit: int) -> list[Facet]:
    """Count the assigned tags over all images that match, the most frequent first."""
    found = match.image_ids().add_columns(Record.tags, Record.scores).subquery("found")
    each = func.unnest(found.c.tags, found.c.scores).table_valued("tag_id", "score", name="each").render_derived()
    threshold_of: ColumnElement[float] = Tag.threshold if threshold is None else literal(threshold)  # type: ignore[assignment]
    count = func.count()
    rows = session.execute(
        select(Tag.id, Tag.name, Tag.name_zh, count)
        .select_from(found)
        .join(each, true())
        .join(
            Tag,
            and_(
                Tag.vocabulary_id == match.names.vocabulary_id,
                Tag.id == each.c.tag_id,
                each.c.score > func.round(threshold_of * SCORE_SCALE),
            ),
        )
        .group_by(Tag.id, Tag.name, Tag.name_zh)
        .order_by(count.desc(), Tag.id)
        .limit(limit)
    )
    return [Facet(*row) for row in rows]


def image(session: Session, image_id: int, vocabulary: Callable[[Session, int], Names]) -> ImageView:
    """Return all that is known about an image. Raises ``NotFoundError``."""
    row = session.execute(
        select(Image, Archive.uri).join(Archive, Archive.id == Image.archive_id).where(Image.id == image_id)
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no image {image_id}")
    found, uri = row
    records = session.execute(
        select(Record, Generation)
        .join(Generation, Generation.id == Record.generation_id)
        .where(Record.image_id == image_id)
        .order_by(Generation.is_default.desc(), Record.recorded_at.desc())
    ).all()
    record, generation = records[0] if records else (None, None)
    tags = _tags(record, vocabulary(session, generation.vocabulary_id), None) if record and generation else []
    return ImageView(
        image_id=found.id,
        key=found.key,
        archive=uri,
        uri=_uri(uri, found.key),
        version=found.version,
        size_bytes=found.size,
        modified_at=found.modified_at,
        missing_since=found.missing_since,
        width=record.width if record else None,
        height=record.height if record else None,
        caption=record.caption if record else None,
        captioner=record.captioner if record and record.caption else None,
        generation_id=generation.id if generation else None,
        model=generation.model if generation else None,
        tags=tags,
        history=_history(session, image_id),
    )


def _uri(archive_uri: str, key: str) -> str:
    if archive_uri.startswith("s3://"):
        return f"s3://{archive_uri.removeprefix('s3://').partition('/')[0]}/{key}"
    return f"{archive_uri}/{key}"


def _history(session: Session, image_id: int) -> list[HistoryView]:
    rows = session.execute(
        text(
            """
            SELECT r.recorded_at AS at, r.job_id, r.generation_id, g.model, 'recorded' AS outcome, r.version,
                NULL AS error_class, NULL AS detail, NULL::int AS attempts
            FROM record r JOIN generation g ON g.id = r.generation_id WHERE r.image_id = :id
            UNION ALL
            SELECT f.failed_at, f.job_id, f.generation_id, g.model, 'failed', f.version,
                f.error_class, f.detail, f.attempts
            FROM failure f JOIN generation g ON g.id = f.generation_id WHERE f.image_id = :id
            ORDER BY at DESC
            """
        ),
        {"id": image_id},
    )
    return [HistoryView(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's documented name)


def place(session: Session, image_id: int) -> tuple[str, str, str]:
    """Return an image's archive URI, key and version. Raises ``NotFoundError``."""
    row = session.execute(
        select(Archive.uri, Image.key, Image.version)
        .join(Archive, Archive.id == Image.archive_id)
        .where(Image.id == image_id)
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no image {image_id}")
    return row.uri, row.key, row.version


def delete(session: Session, image_ids: Sequence[int]) -> DeletionReport:
    """Erase images: records, vectors, failures and the keys themselves; the index is told to forget them."""
    ids = {"ids": list(image_ids)}

    def count(statement: str) -> int:
        return int(session.execute(text(statement), ids).rowcount)  # type: ignore[attr-defined]

    # Locked first and in order, as the workers do, so that a batch under way either counts before or skips after.
    session.execute(text("SELECT id FROM image WHERE id = ANY(:ids) ORDER BY id FOR UPDATE"), ids)
    vectors = repository.erase(session, image_ids)
    recorded = count("DELETE FROM record WHERE image_id = ANY(:ids)")
    failures = count("DELETE FROM failure WHERE image_id = ANY(:ids)")
    images = count("DELETE FROM image WHERE id = ANY(:ids)")
    return DeletionReport(images=images, records=recorded, vectors=vectors, failures=failures, thumbnails=0)


def ids_below(session: Session, archive_id: int | None, prefix: str) -> list[int]:
    """Return the ids of the images whose keys begin with ``prefix``, in one archive or in all."""
    statement = select(Image.id).where(Image.key >= prefix, Image.key.startswith(prefix, autoescape=True))
    if archive_id is not None:
        statement = statement.where(Image.archive_id == archive_id)
    return list(session.scalars(statement.order_by(Image.id)))


def find(session: Session, text: str, archive_id: int | None) -> int:
    """Return the id of the image with this key or URI.

    Raises:
        NotFoundError: there is none.
        UsageError: there are several, in several archives.
    """
    statement = select(Image.id, Archive.uri, Image.key).join(Archive, Archive.id == Image.archive_id)
    if archive_id is not None:
        statement = statement.where(Image.archive_id == archive_id)
    keys = [text]
    if text.startswith("s3://"):
        keys.append(text.removeprefix("s3://").partition("/")[2])
    rows = session.execute(statement.where(Image.key.in_(keys)).limit(10)).all()
    exact = [row for row in rows if text in (row.key, _uri(row.uri, row.key))]
    if not exact:
        raise NotFoundError(f"there is no image {text!r}: give its id, its key or its s3:// URI")
    if len(exact) > 1:
        raise UsageError(f"{text!r} is a key of several archives: give one of the ids {[row.id for row in exact]}")
    return int(exact[0].id)


def counts(session: Session, generation_id: int, units: dict[int, int]) -> dict[int, int]:
    """Return how many images have each of a few tags assigned, given the thresholds in stored units."""
    if not units:
        return {}
    rows = session.execute(
        text(
            """
            SELECT wanted.id, count(*) FROM unnest(CAST(:ids AS smallint[]), CAST(:units AS int[])) AS wanted(id, units)
            JOIN record ON record.generation_id = :generation_id AND record.tags @> ARRAY[wanted.id]
              AND record.scores[array_position(record.tags, wanted.id)] > wanted.units
            GROUP BY wanted.id
            """
        ),
        {"generation_id": generation_id, "ids": list(units), "units": list(units.values())},
    )
    return {tag_id: int(n) for tag_id, n in rows}
