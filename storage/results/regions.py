"""Where tags are in images: what workers found, with people's corrections, and what search counts of it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from psycopg.rows import namedtuple_row
from sqlalchemy import text

from storage.database import driver_connection
from storage.remembered import remembered
from storage.results import images, policies, region_lists
from storage.results.masks import Mask
from storage.results.region_boxes import RegionChange, StoredRegion, corners_of, corrected, counts, stored
from storage.results.region_lists import array, quoted
from storage.results.region_views import RegionsView
from storage.tables import SCORE_SCALE
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from storage.results.records import Provenance
    from storage.results.region_views import FoundRegion, RegionsRow

STAGE = "locate"

AT_ONCE = 1_000
"""Images that are counted again in one step."""

# The generation is part of the statements: as a parameter it would lock, and plan for, the partitions of all of them.
# The time is that of the write, under the lock of the lists: by the start of its transaction, a result that was written
# last could be older than another one.
_WRITE = """
    WITH mended AS (DELETE FROM failure WHERE job_id = %(job_id)s AND image_id = ANY(%(ids)b))
    INSERT INTO localization (image_id, generation_id, job_id, version, tags, scores, boxes, masks, mask_qualities,
        is_cut, located_at)
    SELECT image_id, {generation_id:d}, %(job_id)s, version, CAST(tags AS text[]), CAST(scores AS smallint[]),
        CAST(boxes AS smallint[]), masks, CAST(qualities AS smallint[]), is_cut,
        clock_timestamp()
    FROM unnest(CAST(%(ids)b AS bigint[]), CAST(%(versions)b AS text[]), CAST(%(tags)b AS text[]),
        CAST(%(scores)b AS text[]), CAST(%(boxes)b AS text[]), CAST(%(masks)b AS text[]),
        CAST(%(qualities)b AS text[]), CAST(%(is_cut)b AS bool[]))
        AS found (image_id, version, tags, scores, boxes, masks, qualities, is_cut)
    ORDER BY image_id
    ON CONFLICT (image_id, generation_id) DO UPDATE SET job_id = excluded.job_id, version = excluded.version,
        tags = excluded.tags, scores = excluded.scores, boxes = excluded.boxes, masks = excluded.masks,
        mask_qualities = excluded.mask_qualities, is_cut = excluded.is_cut, located_at = excluded.located_at
    WHERE (localization.job_id, localization.version, localization.tags, localization.scores, localization.boxes,
            localization.masks, localization.mask_qualities, localization.is_cut)
        IS DISTINCT FROM (excluded.job_id, excluded.version, excluded.tags, excluded.scores, excluded.boxes,
            excluded.masks, excluded.mask_qualities, excluded.is_cut)
    RETURNING image_id
"""
_READ = """
    SELECT found.image_id, generation.model, found.tags, found.scores, found.boxes, {masks}, found.is_cut,
        found.located_at
    FROM unnest(%(ids)s::bigint[]) AS wanted (id)
    JOIN localization AS found ON found.image_id = wanted.id AND found.generation_id = {generation_id:d}
    JOIN generation ON generation.id = found.generation_id
"""
_NEWEST = """
    SELECT DISTINCT ON (image_id) image_id, generation_id, tags, scores, boxes, masks, mask_qualities
    FROM unnest(CAST(:ids AS bigint[])) AS wanted (id) JOIN localization ON localization.image_id = wanted.id
    WHERE generation_id <> :without ORDER BY image_id, located_at DESC, generation_id DESC
"""


def lock(session: Session, image_ids: Sequence[int]) -> None:
    """Wait for others that change the regions of these images. Call it before anything of them is read to be changed.

    Who reads the table localization and then waits for these locks deadlocks with ``serving.drop``.

    Raises:
        NotFoundError: one of them does not exist.
    """
    images.lock(session, image_ids)
    region_lists.lock(session, image_ids)


def write_regions(session: Session, rows: Sequence[RegionsRow], provenance: Provenance) -> None:
    """Store what was found. It replaces what was found in the same image under the same generation.

    Search counts the newest result of an image, whatever its generation. Storing the same twice changes nothing. An
    image without regions is stored too. The caller has locked the images. Then come the lists that search counts in,
    the tables localization, failure, located_image and region_list, and rows in order. This keeps transactions with
    common images from deadlocking.

    Raises:
        ValueError: a mask is not what ``Mask.to_bytes`` writes.
    """
    if not rows:
        return
    region_lists.lock(session, [row.image_id for row in rows])
    ordered = sorted(rows, key=lambda row: row.image_id)
    found = {row.image_id: [_stored(region) for region in row.regions] for row in ordered}
    changed = _write(session, ordered, list(found.values()), provenance)
    newest = dict.fromkeys(changed, provenance.generation_id)
    _count(session, {image_id: found[image_id] for image_id in changed}, newest)


def _write(
    session: Session, rows: Sequence[RegionsRow], found: Sequence[Sequence[StoredRegion]], provenance: Provenance
) -> list[int]:
    """Store rows that are in order of their ids. Return the ids of those that were not stored before, ascending."""
    changed = driver_connection(session).execute(
        _WRITE.format(generation_id=provenance.generation_id),
        {
            "job_id": provenance.job_id,
            "ids": [row.image_id for row in rows],
            "versions": [row.version for row in rows],
            # Arrays of arrays must have equal lengths, so each array is written in PostgreSQL's text form.
            "tags": [array([quoted(region.tag) for region in each]) for each in found],
            "scores": [array([region.score for region in each]) for each in found],
            "boxes": [array([number for region in each for number in region.box]) for each in found],
            "masks": [_masks(each) for each in found],
            "qualities": [_qualities(each) for each in found],
            "is_cut": [row.is_cut for row in rows],
        },
        prepare=True,
    )
    return sorted(image_id for (image_id,) in changed.fetchall())


def views(
    session: Session,
    image_ids: Sequence[int],
    generation_id: int | None = None,
    *,
    with_masks: bool = True,
    with_hidden: bool = False,
) -> dict[int, RegionsView]:
    """Return the regions of images as people see them, by image. Images that were not located are left out.

    Regions have the same numbers whatever the rules for tags hide, so there may be gaps between them.

    Args:
        session: a transaction.
        image_ids: which images.
        generation_id: what located them; None: the newest result of each image, which search counts.
        with_masks: if not, the regions have no masks: these take a thousand bytes each.
        with_hidden: also regions of tags that do not count in the archive of the image.
    """
    masks = "found.masks, found.mask_qualities" if with_masks else "NULL AS masks, NULL AS mask_qualities"
    by_generation: dict[int, list[int]] = defaultdict(list)
    if generation_id is not None:
        by_generation[generation_id] = list(image_ids)
    else:
        located = text(
            """SELECT image_id, generation_id FROM located_image
               WHERE image_id = ANY(:ids) AND generation_id IS NOT NULL"""
        )
        for row in session.execute(located, {"ids": list(image_ids)}):
            by_generation[row.generation_id].append(row.image_id)
    said = changes(session, image_ids) if by_generation else {}
    rules = policies.of_images(session, image_ids) if by_generation and not with_hidden else {}
    found: dict[int, RegionsView] = {}
    for own_id, ids in by_generation.items():
        with driver_connection(session).cursor(row_factory=namedtuple_row) as cursor:
            cursor.execute(_READ.format(generation_id=own_id, masks=masks), {"ids": ids}, prepare=True)
            rows: list[Any] = cursor.fetchall()
        for row in rows:
            regions = stored(row.tags, row.scores, row.boxes, row.masks, row.mask_qualities)
            shown = corrected(regions, said.get(row.image_id, ()))
            if row.image_id in rules:
                shown = [region for region in shown if not rules[row.image_id].hides(fold(region.tag))]
            found[row.image_id] = RegionsView(row.image_id, own_id, row.model, shown, row.is_cut, row.located_at)
    return found


def changes(session: Session, image_ids: Sequence[int]) -> Mapping[int, list[RegionChange]]:
    """Return people's corrections of the regions of images, by image, oldest first."""
    found: dict[int, list[RegionChange]] = defaultdict(list)
    rows = session.execute(
        text("SELECT id, image_id, tag, box, is_there FROM region_correction WHERE image_id = ANY(:ids) ORDER BY id"),
        {"ids": list(image_ids)},
    )
    for row in rows:
        left, top, right, bottom = row.box
        found[row.image_id].append(RegionChange(row.id, row.tag, (left, top, right, bottom), row.is_there))
    return found


def count_again(session: Session, image_ids: Sequence[int], *, without: int = 0) -> None:
    """Find again what search counts of images: people's corrections changed, or results are about to be erased.

    Args:
        session: a transaction.
        image_ids: which images.
        without: a generation whose results do not count any more; 0: none. What no other generation has located is not
            located any more.
    """
    region_lists.lock(session, image_ids)
    _count_again(session, image_ids, without=without)


def _count_again(session: Session, image_ids: Sequence[int], *, without: int) -> None:
    held = text(
        """SELECT image_id FROM located_image WHERE image_id = ANY(:ids)
           UNION SELECT image_id FROM localization WHERE image_id = ANY(:ids) ORDER BY image_id"""
    )
    located = list(session.scalars(held, {"ids": list(image_ids)}))
    rows = session.execute(text(_NEWEST), {"ids": located, "without": without}).all()
    found: dict[int, Sequence[StoredRegion]] = dict.fromkeys(located, ())
    for row in rows:
        found[row.image_id] = stored(row.tags, row.scores, row.boxes, row.masks, row.mask_qualities)
    # What no other generation has located keeps its row, so that processes see that it changed.
    newest: dict[int, int | None] = dict.fromkeys(located, None) | {row.image_id: row.generation_id for row in rows}
    _count(session, found, newest)


def leave_out(session: Session, generation_id: int) -> None:
    """Let search count other results of the images whose newest result is of this generation. It is to be erased."""
    # All of them, at once: taken page by page, others could hold one while they wait for another.
    region_lists.lock(session, None)
    after = 0
    page = text(
        """SELECT image_id FROM located_image WHERE generation_id = :id AND image_id > :after
           ORDER BY image_id LIMIT :limit"""
    )
    while ids := list(session.scalars(page, {"id": generation_id, "after": after, "limit": AT_ONCE})):
        _count_again(session, ids, without=generation_id)
        after = ids[-1]


def is_any(session: Session) -> bool:
    """Return whether any image was located."""
    asked = text("SELECT EXISTS (SELECT FROM located_image WHERE generation_id IS NOT NULL)")
    return remembered(session, "is any image located", lambda: bool(session.scalar(asked)))


def erase(session: Session, image_ids: Sequence[int]) -> int:
    """Erase the regions of images, and people's corrections of them.

    Returns:
        How many localizations were erased.
    """
    region_lists.lock(session, image_ids)
    ids = {"ids": list(image_ids)}
    session.execute(text("DELETE FROM region_correction WHERE image_id = ANY(:ids)"), ids)
    erased = session.execute(text("DELETE FROM localization WHERE image_id = ANY(:ids)"), ids).rowcount  # type: ignore[attr-defined]
    region_lists.erase(session, image_ids)
    return int(erased)


def _count(
    session: Session, found: Mapping[int, Sequence[StoredRegion]], generation_ids: Mapping[int, int | None]
) -> None:
    """Store what search counts of these images, people's corrections included. It waits for no lock."""
    if not found:
        return
    said = changes(session, list(found))
    # People may give a corrected image regions again after it was located in none: only what is located counts.
    counted = {
        image_id: counts(corrected(regions, said.get(image_id, ()))) if generation_ids[image_id] is not None else {}
        for image_id, regions in found.items()
    }
    region_lists.write(session, counted, generation_ids)


def _stored(region: FoundRegion) -> StoredRegion:
    mask = None if region.mask is None else Mask.from_bytes(region.mask).to_bytes()
    quality = None if mask is None or region.mask_quality is None else _units(region.mask_quality)
    return StoredRegion(region.tag, _units(region.score), corners_of(region.box), mask, quality)


def _units(share: float) -> int:
    return round(min(max(share, 0.0), 1.0) * SCORE_SCALE)


def _masks(regions: Sequence[StoredRegion]) -> str | None:
    if all(region.mask is None for region in regions):
        return None
    return "\n".join("" if region.mask is None else region.mask.decode() for region in regions)


def _qualities(regions: Sequence[StoredRegion]) -> str | None:
    if all(region.mask is None for region in regions):
        return None
    return array(["NULL" if region.quality is None else region.quality for region in regions])
