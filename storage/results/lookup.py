"""Results for people: hits with their tags, one image with its history."""

from __future__ import annotations

from dataclasses import asdict
from itertools import product
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text, true

from storage.database import driver_connection
from storage.errors import NotFoundError, UsageError
from storage.objects.tar_names import split_member
from storage.results import copies, corrections, file_pages, keywords, merged, metadata, near_copies, openings, policies
from storage.results.partitions import RESULT_TIMES
from storage.results.views import COMPOSED, HistoryView, ImageView, TagView, VectorView
from storage.tables import PERSON_UNITS, PRECISIONS, SCORE_SCALE, Archive, Generation, Image, Record
from storage.texts import id_in, is_storable, other_forms

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy.orm import Session

    from storage.results.tags import Names

_PLACE = """
    SELECT archive.uri, image.key, image.version FROM image JOIN archive ON archive.id = image.archive_id
    WHERE image.id = %s
"""

_AT_ONCE = 5_000
"""Names in a query."""

_ARCHIVES = 20
"""Archives in which similar keys are looked for."""


def tag_views(
    row: Any, names: Names, threshold: float | None, denied: Collection[int], *, only_assigned: bool = False
) -> list[TagView]:
    """Return the corrected tags of a record without the denied ones, highest score first.

    The thresholds are rounded like the scores. A tag is then above its threshold here exactly if it is in a search.
    """
    own = names.units
    views = []
    for tag_id, units in zip(row.tags, row.scores, strict=True):
        least = own(tag_id, threshold)
        is_by_person = units == PERSON_UNITS
        # A page of hits has hundreds of tags that are not shown. Do not make views of them.
        if tag_id in denied or (only_assigned and not is_by_person and min(units, SCORE_SCALE) <= least):
            continue
        views.append(
            TagView(
                id=tag_id,
                name=names.names[tag_id],
                name_zh=names.names_zh[tag_id],
                score=min(units, SCORE_SCALE) / SCORE_SCALE,
                threshold=least / SCORE_SCALE,
                source="person" if is_by_person else "model",
            )
        )
    return sorted(views, key=lambda tag: (-tag.score, tag.id))


def image(session: Session, image_id: int, vocabulary: Callable[[Session, int], Names]) -> ImageView:
    """Return all that is known about an image. Raises ``NotFoundError``."""
    row = session.execute(
        select(Image, Archive.uri).join(Archive, Archive.id == Image.archive_id).where(Image.id == image_id)
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no image {image_id}")
    found, uri = row
    corrected = corrections.corrected()
    newest = session.execute(
        select(Record, Generation, corrected.c.tags, corrected.c.scores)
        .select_from(Record)
        .join(Generation, Generation.id == Record.generation_id)
        .join(corrected, true())
        .where(Record.image_id == image_id)
        .order_by(Generation.is_default.desc(), Record.recorded_at.desc())
        .limit(1)
    ).one_or_none()
    record, generation, tags, is_corrected, has_denied_tags = None, None, [], False, False
    if newest is not None:
        record, generation = newest[0], newest[1]
        names = vocabulary(session, generation.vocabulary_id)
        is_corrected = (newest.tags, newest.scores) != (record.tags, record.scores)
        denied = policies.load(session, names).denied(found.archive_id)
        tags = tag_views(newest, names, None, denied)
        has_denied_tags = not denied.isdisjoint(newest.tags)
    opening = openings.views(session, [image_id]).get(image_id, openings.USUAL)
    paged = file_pages.view(session, found.archive_id, found.key, found.version, opening.pages)
    return ImageView(
        image_id=found.id,
        key=found.key,
        archive=uri,
        uri=uri_of(uri, found.key),
        version=found.version,
        size_bytes=found.size,
        modified_at=found.modified_at,
        missing_since=found.missing_since,
        width=record.width if record else None,
        height=record.height if record else None,
        caption=record.caption if record else None,
        captioner=record.captioner if record and (record.caption or record.captioner == COMPOSED) else None,
        is_corrected=is_corrected,
        has_denied_tags=has_denied_tags,
        generation_id=generation.id if generation else None,
        model=generation.model if generation else None,
        precision=None if record is None or record.precision is None else PRECISIONS[record.precision],
        tags=tags,
        history=_history(session, image_id),
        corrections=corrections.of_image(session, image_id),
        vectors=_vectors(session, image_id),
        metadata=metadata.views(session, [image_id]).get(image_id),
        duplicates=copies.count(session, image_id),
        keywords=keywords.of_images(session, [image_id]).get(image_id, []),
        near_copies=near_copies.count(session, image_id),
        truncated=opening.share,
        tiles=opening.tiles,
        pages=opening.pages,
        **asdict(paged),
    )


def uri_of(archive_uri: str, key: str) -> str:
    """Return the URI of an image: that of its archive, then its key."""
    return f"{_root(archive_uri)}{key}"


def _root(archive_uri: str) -> str:
    """Return the part before keys in the URIs of images: a folder, or a bucket (S3 keys include the prefix)."""
    scheme, _, rest = archive_uri.partition("://")
    if scheme.endswith("s3"):
        return f"{scheme}://{rest.partition('/')[0]}/"
    if scheme == "tar+file" and (inside := split_member(f"{archive_uri}/")):  # an archive that is one tar file
        return f"{inside[0].rpartition('/')[0]}/"
    return f"{archive_uri.removesuffix('/')}/"  # only file:/// ends with a slash


def _history(session: Session, image_id: int) -> list[HistoryView]:
    outcomes = " UNION ALL ".join(
        f"""SELECT {when} AS at, job_id, generation_id, 'recorded' AS outcome, version, NULL AS error_class,
                NULL AS detail, NULL::int AS attempts FROM {table} WHERE image_id = :id"""  # noqa: S608  (constants)
        for table, when in RESULT_TIMES.items()
    )
    rows = session.execute(
        text(
            f"""
            SELECT at, job_id, generation_id, stage, model, outcome, version, error_class, detail, attempts FROM (
                {outcomes} UNION ALL
                SELECT failed_at, job_id, generation_id, 'failed', version, error_class, detail, attempts
                FROM failure WHERE image_id = :id
            ) AS known JOIN generation ON generation.id = generation_id ORDER BY at DESC
            """  # noqa: S608
        ),
        {"id": image_id},
    )
    return [HistoryView(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's documented name)


def _vectors(session: Session, image_id: int) -> list[VectorView]:
    rows = session.execute(
        text(
            """
            SELECT CASE stage WHEN 'recognition' THEN 'text' ELSE stage END AS space, model, generation_id,
                vector_size AS length
            FROM (
                SELECT generation_id FROM vector WHERE image_id = :id
                UNION ALL SELECT generation_id FROM look WHERE image_id = :id
            ) AS known JOIN generation ON generation.id = generation_id ORDER BY generation_id
            """
        ),
        {"id": image_id},
    )
    return [VectorView(**row._mapping) for row in rows]  # noqa: SLF001  (likewise)


def locate(session: Session, image_id: int) -> tuple[str, str, str]:
    """Return an image's archive URI, key and version. Raises ``NotFoundError``."""
    row = driver_connection(session).execute(_PLACE, (image_id,), prepare=True, binary=True).fetchone()
    if row is None:
        raise NotFoundError(f"there is no image {image_id}")
    uri, key, version = row
    return uri, key, version


def ids_below(session: Session, archive_id: int | None, *prefixes: str) -> list[int]:
    """Return the ids of the images whose keys begin with all of ``prefixes``, in one archive or in all.

    If there are none, the prefixes count in their other Unicode forms: see ``storage.texts.other_forms``.

    Raises:
        UsageError: keys begin with several of these other forms, so it is not clear which are meant.
    """
    if found := _ids_below(session, archive_id, *prefixes):
        return found
    forms = list(product(*([each, *other_forms(each)] for each in prefixes)))[1:]  # the first is what was asked for
    ways = [ids for form in forms if (ids := _ids_below(session, archive_id, *form))]
    if len(ways) > 1:
        raise UsageError(
            f"keys begin with {prefixes[-1]!r} in {len(ways)} Unicode forms that look the same: copy it from a key"
        )
    return ways[0] if ways else []


def _ids_below(session: Session, archive_id: int | None, *prefixes: str) -> list[int]:
    if not all(map(is_storable, prefixes)):
        return []
    statement = select(Image.id)
    for prefix in prefixes:
        statement = statement.where(Image.key >= prefix, Image.key.startswith(prefix, autoescape=True))
    if archive_id is not None:
        statement = statement.where(Image.archive_id == archive_id)
    return list(session.scalars(statement.order_by(Image.id)))


def require_below(session: Session, archive_id: int | None, *prefixes: str) -> list[int]:
    """Return what ``ids_below`` does. Raises ``NotFoundError`` if there is nothing."""
    if found := ids_below(session, archive_id, *prefixes):
        return found
    if not any(prefixes):
        raise NotFoundError("the archive has no images: nothing to erase")
    *outer, wanted = filter(None, prefixes)
    within = f" below {outer[0]!r}" if outer else ""
    raise NotFoundError(f"no key{within} begins with {wanted!r}{_hint(near(session, archive_id, wanted))}")


def near(session: Session, archive_id: int | None, key: str) -> list[str]:
    """Return up to three keys that a person may have meant: the same in other letters, or its neighbours in order."""
    if not key or not is_storable(key):
        return []
    inside = [archive_id] if archive_id is not None else list(session.scalars(select(Archive.id).limit(_ARCHIVES)))
    plain = key.lstrip("/").removeprefix("./")
    spelled = [each for each in (plain, plain.lower(), plain.upper(), plain.capitalize()) if each != key]
    found: dict[str, None] = {}
    for one in inside:
        for form in spelled:
            after = select(Image.key).where(Image.archive_id == one, Image.key >= form).order_by(Image.key).limit(1)
            found |= dict.fromkeys(name for name in session.scalars(after) if name.startswith(form))
    for one in inside:
        known = select(Image.key).where(Image.archive_id == one)
        neighbours = (
            session.scalar(known.where(Image.key >= key).order_by(Image.key).limit(1)),
            session.scalar(known.where(Image.key < key).order_by(Image.key.desc()).limit(1)),
        )
        common = {name: len(commonprefix([name, key])) for name in neighbours if name}  # noqa: RUF071  (strings)
        best = max(common.values(), default=0)
        found |= dict.fromkeys(name for name, length in common.items() if length == best and 2 * length >= len(key) > 1)
    return list(found)[:3]


def _hint(keys: Sequence[str]) -> str:
    return f"; near it: {', '.join(map(repr, keys))}" if keys else ""


def resolve(session: Session, text: str, archives: int | Collection[int] | None) -> int:
    """Return the id of the image that ``text`` names: an id, a key, or a URI.

    The id of an image that was merged into another one names that one.

    Args:
        session: a transaction.
        text: as somebody typed it.
        archives: ids of the archives in which to look for a key; None: all.

    Raises:
        NotFoundError: it names no image.
        UsageError: it names several.
    """
    image_id = id_in(text)
    if image_id is None:
        return find(session, text, [archives] if isinstance(archives, int) else archives)
    image_id = merged.into(session, image_id) or image_id
    locate(session, image_id)
    return image_id


def resolve_all(session: Session, texts: Sequence[str], archive_ids: Collection[int] | None) -> list[int]:
    """Return the ids of the images that ``texts`` name, in their order. See ``resolve``, which takes one."""
    numbers = {name: id_in(name) for name in texts}
    given = sorted({number for number in numbers.values() if number is not None})
    keys = [name for name in numbers if numbers[name] is None and is_storable(name)]
    known, named = set[int](), dict[str, list[int]]()
    for at in range(0, len(given), _AT_ONCE):
        known.update(session.scalars(select(Image.id).where(Image.id.in_(given[at : at + _AT_ONCE]))))
    for at in range(0, len(keys), _AT_ONCE):
        named |= _named(session, keys[at : at + _AT_ONCE], archive_ids)
    found = []
    for name in texts:
        number = numbers[name]
        if number is None:
            found.append(_only(name, named.get(name, [])))
        elif number in known:
            found.append(number)
        elif (other := merged.into(session, number)) is not None:
            found.append(other)
        else:
            raise NotFoundError(f"there is no image {number}")
    return found


def uris(session: Session, image_ids: Collection[int]) -> dict[int, str]:
    """Return the URIs of images, by id. Those that are gone are left out."""
    rows = session.execute(
        select(Image.id, Archive.uri, Image.key)
        .join(Archive, Archive.id == Image.archive_id)
        .where(Image.id.in_(image_ids))
    )
    return {row.id: uri_of(row.uri, row.key) for row in rows}


def find(session: Session, text: str, archive_ids: Collection[int] | None) -> int:
    """Return the id of the image with this key or URI, in some archives or in all.

    Raises:
        NotFoundError: there is none.
        UsageError: there are several, in several archives.
    """
    found = _named(session, [text], archive_ids)[text] if is_storable(text) else []
    if not found:
        one = next(iter(archive_ids)) if archive_ids is not None and len(archive_ids) == 1 else None
        raise _unknown(text, near(session, one, text))
    return _only(text, found)


def _unknown(text: str, hints: Sequence[str] = ()) -> NotFoundError:
    return NotFoundError(f"there is no image {text!r}: give its id, its key or its URI{_hint(hints)}")


def _only(text: str, found: list[int]) -> int:
    if not found:
        raise _unknown(text)
    if len(found) > 1:
        raise UsageError(
            f"{text!r} is a key in several archives, or of several images in different Unicode forms: give one of the "
            f"ids {found[:10]}"
        )
    return found[0]


def _named(session: Session, texts: Sequence[str], archive_ids: Collection[int] | None) -> dict[str, list[int]]:
    """Return the ids of the images with each of these keys or URIs, oldest first.

    If there is none, those whose names differ only in their Unicode form: see ``storage.texts.other_forms``.
    """
    found = _exactly_named(session, texts, archive_ids)
    forms = {text: others for text in texts if not found[text] and (others := other_forms(text))}
    if forms:
        every, known = [form for others in forms.values() for form in others], dict[str, list[int]]()
        for at in range(0, len(every), _AT_ONCE):
            known |= _exactly_named(session, every[at : at + _AT_ONCE], archive_ids)
        found |= {text: sorted({one for form in others for one in known[form]}) for text, others in forms.items()}
    return found


def _exactly_named(session: Session, texts: Sequence[str], archive_ids: Collection[int] | None) -> dict[str, list[int]]:
    is_inside = true() if archive_ids is None else Archive.id.in_(archive_ids)
    keys, links = set(texts), [text for text in texts if "://" in text]
    if links:
        roots = set(map(_root, session.scalars(select(Archive.uri).where(is_inside))))
        keys.update(link.removeprefix(root) for link in links for root in roots if link.startswith(root))
    rows = session.execute(
        select(Image.id, Archive.uri, Image.key)
        .join(Archive, Archive.id == Image.archive_id)
        .where(is_inside, Image.key.in_(keys))
        .order_by(Image.id)
    )
    found: dict[str, list[int]] = {text: [] for text in texts}
    for row in rows:
        # The rest of a URI may be a key in other archives, too.
        for name in {row.key, uri_of(row.uri, row.key)} & found.keys():
            found[name].append(row.id)
    return found
