"""What the files of images say of them. Written with the results of a job that read the file, whatever its stage."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import driver_connection
from storage.results import sidecars
from storage.tables.metadata import WITHOUT_TOKENS
from storage.texts import fold, fold_seen
from storage.words import distinct_words

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy.engine import RowMapping
    from sqlalchemy.orm import Session

STAGE = "metadata"
"""The stage that reads files which were recognised before this table was there."""

CELLS_PER_DEGREE = 20
"""A cell is a square of 1/20 degree: 5.6 km from south to north."""

CELLS_AROUND: int = 360 * CELLS_PER_DEGREE
"""Cells of one row, from west to east."""

LEVELS = "|"
"""What divides the levels of a hierarchy in a keyword: ``Places|Vienna``."""

PLACE = ("latitude", "longitude", "altitude_m")
"""The facts that tell where somebody was."""

_COLUMNS = {
    "taken_at": "timestamp",
    "taken_offset": "smallint",
    "focal_mm": "real",
    "exposure_seconds": "real",
    "f_number": "real",
    "iso": "int",
    "latitude": "double precision",
    "longitude": "double precision",
    "altitude_m": "real",
    "cell": "int",
    "title": "text",
    "description": "text",
    "keywords": "text[]",
    "keyword_folds": "text[]",
    "tokens": "text[]",
    "rating": "smallint",
    "creator": "text",
    "rights": "text",
}
_SHOWN = tuple(name for name in _COLUMNS if name not in {"cell", "keyword_folds", "tokens"})
_OWN = ("version", "camera_id", "lens_id", *_COLUMNS, "own")
_DEVICES = """
    INSERT INTO device (kind, make, model, label, folded)
    SELECT kind, make, model, label, folded FROM jsonb_to_recordset(CAST(%(devices)s AS jsonb))
        AS named (kind text, make text, model text, label text, folded text)
    WHERE NOT EXISTS (SELECT FROM device AS known
        WHERE (known.kind, known.make, known.model) = (named.kind, named.make, named.model))
    ORDER BY kind, make, model
    ON CONFLICT (kind, make, model) DO NOTHING
"""
_WRITE = f"""
    INSERT INTO metadata (image_id, job_id, {", ".join(_OWN)})
    SELECT image_id, coalesce(%(job_id)s, (SELECT job_id FROM metadata WHERE metadata.image_id = told.image_id)),
        version, camera.id, lens.id, {", ".join(_COLUMNS)}, own
    FROM jsonb_to_recordset(CAST(%(rows)s AS jsonb)) AS told (image_id bigint, version text, make text, camera text,
        glass text, {", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())}, own jsonb)
    LEFT JOIN device AS camera ON (camera.kind, camera.make, camera.model) = ('camera', told.make, told.camera)
    LEFT JOIN device AS lens ON (lens.kind, lens.make, lens.model) = ('lens', '', told.glass)
    ORDER BY image_id
    ON CONFLICT (image_id) DO UPDATE SET job_id = excluded.job_id, xid = pg_current_xact_id(),
        {", ".join(f"{name} = excluded.{name}" for name in _OWN)}
    WHERE ({", ".join(f"metadata.{name}" for name in _OWN)})
        IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in _OWN)})
"""  # noqa: S608  (constants)
_COPY = f"""
    INSERT INTO metadata (image_id, job_id, {", ".join(_OWN)})
    SELECT mine.image_id, :job_id, mine.version, camera_id, lens_id, {
    ", ".join(f"CASE WHEN :with_place THEN {name} END" if name in ("cell", *PLACE) else name for name in _COLUMNS)
}, CASE WHEN :with_place THEN own ELSE own - '{{{", ".join(PLACE)}}}'::text[] END
    FROM unnest(CAST(:ids AS bigint[]), CAST(:others AS bigint[])) AS same (image_id, other_id)
    JOIN content AS mine ON mine.image_id = same.image_id
    CROSS JOIN LATERAL (
        SELECT version FROM content WHERE image_id = other_id AND hash = mine.hash
        UNION SELECT version FROM former_content WHERE image_id = other_id AND hash = mine.hash
    ) AS other
    JOIN metadata ON metadata.image_id = other_id AND metadata.version = other.version
    WHERE other_id <> same.image_id ORDER BY mine.image_id
    ON CONFLICT (image_id) DO UPDATE SET job_id = excluded.job_id, xid = pg_current_xact_id(),
        {", ".join(f"{name} = excluded.{name}" for name in _OWN)}
"""  # noqa: S608  (constants)
_VIEWS = f"""
    SELECT image_id, camera.label AS camera, lens.label AS lens, own ->> 'sidecar' AS sidecar, {", ".join(_SHOWN)}
    FROM metadata LEFT JOIN device AS camera ON camera.id = camera_id LEFT JOIN device AS lens ON lens.id = lens_id
    WHERE image_id = ANY(:ids)
"""  # noqa: S608  (constants)
_OF_FILES = f"""
    SELECT image_id, version, own, camera.make AS camera_make, camera.model AS camera_model, lens.model AS lens,
        {", ".join(_SHOWN)}
    FROM metadata LEFT JOIN device AS camera ON camera.id = camera_id LEFT JOIN device AS lens ON lens.id = lens_id
    WHERE image_id = ANY(:ids) AND (own IS NOT NULL OR image_id = ANY(:with_sidecar)) ORDER BY image_id
"""  # noqa: S608  (constants)
_FORGET = text(
    f"""
    WITH placed AS (
        SELECT image_id FROM metadata JOIN image ON image.id = image_id
        WHERE cell IS NOT NULL AND image_id > :after AND (:archive_id = 0 OR image.archive_id = :archive_id)
        ORDER BY image_id LIMIT :limit FOR NO KEY UPDATE OF metadata
    )
    UPDATE metadata SET latitude = NULL, longitude = NULL, altitude_m = NULL, cell = NULL, xid = pg_current_xact_id(),
        own = own - '{{{", ".join(PLACE)}}}'::text[]
    FROM placed WHERE metadata.image_id = placed.image_id RETURNING metadata.image_id
    """  # noqa: S608  (constants)
)


@dataclass(frozen=True, slots=True)
class MetadataView:
    """What the file of an image says of it, for people; None or empty: nothing that can be read.

    Attributes:
        taken_at: when it was taken, in the local time of the camera.
        taken_offset: minutes by which that is ahead of UTC; None: the file does not say.
        camera: maker and model.
        lens: its name.
        focal_mm: focal length in millimetres.
        exposure_seconds: exposure time.
        f_number: focal length divided by the aperture.
        iso: sensitivity.
        latitude: degrees north.
        longitude: degrees east.
        altitude_m: metres above the sea.
        title: a short name.
        description: what people wrote about it.
        keywords: words that people gave it. They are no tags.
        rating: stars from 0 to 5; -1: rejected.
        creator: who made it.
        rights: who owns it.
        sidecar: the key of the sidecar that says some of this.
    """

    taken_at: datetime | None = None
    taken_offset: int | None = None
    camera: str | None = None
    lens: str | None = None
    focal_mm: float | None = None
    exposure_seconds: float | None = None
    f_number: float | None = None
    iso: int | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude_m: float | None = None
    title: str | None = None
    description: str | None = None
    keywords: list[str] = field(default_factory=list)
    rating: int | None = None
    creator: str | None = None
    rights: str | None = None
    sidecar: str | None = None


@dataclass(frozen=True, slots=True)
class MetadataRow:
    """What one file says: ``facts`` by the names of ``MetadataView``, with ``camera_make`` and ``camera_model``."""

    image_id: int
    version: str
    facts: Mapping[str, Any]


def label_of(make: str, model: str) -> str:
    """Return the name of a camera: its model, which often begins with its maker, or else both."""
    brand = make.partition(" ")[0]
    return model if model and (not brand or fold(model).startswith(fold(brand))) else f"{make} {model}".strip()


def cell_of(latitude: float, longitude: float) -> int:
    """Return the number of the cell of a place: rows from the south pole on, each from the date line to the east."""
    row = min(int((latitude + 90) * CELLS_PER_DEGREE), 180 * CELLS_PER_DEGREE - 1)
    return row * CELLS_AROUND + int((longitude + 180) * CELLS_PER_DEGREE) % CELLS_AROUND


def folds_of(keywords: Iterable[str]) -> list[str]:
    """Return keywords as search compares them: whole, and each level of a hierarchy."""
    levels = (level for each in keywords for level in {each: None, **dict.fromkeys(each.split(LEVELS))})
    return [folded for folded in dict.fromkeys(map(fold_seen, levels)) if folded]


def write(session: Session, rows: Sequence[MetadataRow], job_id: int | None) -> None:
    """Store what files say. It replaces what their former versions said. Storing the same twice changes nothing.

    ``job_id``: the job that read them; None: files that were read before, which keep theirs.

    The caller has locked the images. Rows are written in order, which keeps transactions with common images, or new
    cameras, from deadlocking.
    """
    if not rows:
        return
    connection = driver_connection(session)
    beside = sidecars.facts_of(session, [row.image_id for row in rows])
    devices: dict[tuple[str, str, str], str] = {}
    told = []
    for row in rows:
        facts, own = row.facts, None
        if row.image_id in beside:
            key, said = beside[row.image_id]
            own = {name: value for name, value in facts.items() if value not in (None, [], ())} | {"sidecar": key}
            facts = sidecars.overlaid(facts, said)
        make, model = facts.get("camera_make") or "", facts.get("camera_model") or ""
        lens = facts.get("lens") or ""
        if make or model:
            devices["camera", make, model] = label_of(make, model)
        if lens:
            devices["lens", "", lens] = lens
        told.append(
            {"image_id": row.image_id, "version": row.version, "make": make, "camera": model, "glass": lens}
            | {name: facts.get(name) for name in _COLUMNS}
            | {"own": own}
            | _derived(facts)
        )
    if devices:
        named = [
            {"kind": kind, "make": make, "model": model, "label": label, "folded": fold(label)}
            for (kind, make, model), label in devices.items()
        ]
        connection.execute(_DEVICES, {"devices": json.dumps(named)}, prepare=True)
    connection.execute(_WRITE, {"job_id": job_id, "rows": json.dumps(told, default=datetime.isoformat)}, prepare=True)


def copy(session: Session, others: Mapping[int, int], job_id: int, *, with_place: bool) -> None:
    """Store of images what the files of ``others`` with the same bytes say, by id, as far as that was read.

    The hashes of all of them are stored already, see ``results.contents``. A file that other bytes replaced meanwhile
    counts too, as long as what it said is still there.
    """
    if others:
        values = {"ids": list(others), "others": list(others.values()), "job_id": job_id, "with_place": with_place}
        session.execute(text(_COPY), values)
        join_sidecars(session, list(others), job_id)


def join_sidecars(session: Session, image_ids: Sequence[int], job_id: int | None = None) -> None:
    """Store again what the files of images say, with what the sidecars beside their keys say now, and nothing else.

    The caller has locked the images.
    """
    beside = list(sidecars.facts_of(session, image_ids))
    rows = session.execute(text(_OF_FILES), {"ids": list(image_ids), "with_sidecar": beside}).mappings()
    write(session, [MetadataRow(row["image_id"], row["version"], _of_file(row)) for row in rows], job_id)


def _of_file(row: RowMapping) -> dict[str, Any]:
    own = row["own"]
    if own is None:
        return {name: value for name, value in row.items() if name not in {"image_id", "version", "own"}}
    return {name: value for name, value in own.items() if name != "sidecar"}


def _derived(facts: Mapping[str, Any]) -> dict[str, Any]:
    keywords = list(facts.get("keywords") or ())
    has_place = facts.get("latitude") is not None
    said = [*keywords, *(facts[name] for name in ("title", "description") if facts.get(name))]
    return {
        "keywords": keywords or None,
        "keyword_folds": folds_of(keywords) or None,
        "tokens": distinct_words(said) if said else None,
        "cell": cell_of(facts["latitude"], facts["longitude"]) if has_place else None,
    }


def views(session: Session, image_ids: Collection[int]) -> dict[int, MetadataView]:
    """Return what the files of images say, by id. Images whose file was not read are left out."""
    rows = session.execute(text(_VIEWS), {"ids": list(image_ids)}).mappings()
    return {
        row["image_id"]: MetadataView(
            **{name: value for name, value in row.items() if name not in {"image_id", "keywords"}},
            keywords=row["keywords"] or [],
        )
        for row in rows
    }


def note_words(session: Session, limit: int) -> int:
    """Note the words of what files said before words were noted, of at most ``limit`` images. Return of how many."""
    rows = session.execute(
        text(
            f"""SELECT image_id, title, description, keywords FROM metadata WHERE {WITHOUT_TOKENS}
                ORDER BY image_id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED"""  # noqa: S608  (a constant)
        ),
        {"limit": limit},
    ).all()
    made = [
        {
            "image_id": row.image_id,
            "tokens": distinct_words([*(row.keywords or ()), *filter(None, (row.title, row.description))]),
        }
        for row in rows
    ]
    if made:
        driver_connection(session).execute(
            """UPDATE metadata SET tokens = noted.tokens, xid = pg_current_xact_id()
               FROM jsonb_to_recordset(CAST(%(rows)s AS jsonb)) AS noted (image_id bigint, tokens text[])
               WHERE metadata.image_id = noted.image_id""",
            {"rows": json.dumps(made)},
        )
    return len(made)


def devices(session: Session, kind: str, typed: str, limit: int) -> list[str]:
    """Return the names of cameras or lenses (``kind``) in which a text stands, by name."""
    found = session.scalars(
        text(
            "SELECT DISTINCT label FROM device WHERE kind = :kind AND strpos(folded, :name) > 0 ORDER BY 1 LIMIT :limit"
        ),
        {"kind": kind, "name": fold(typed), "limit": limit},
    )
    return list(found)


def erase(session: Session, image_ids: Sequence[int]) -> int:
    """Erase what the files of images say. Return of how many."""
    erased = session.execute(text("DELETE FROM metadata WHERE image_id = ANY(:ids)"), {"ids": list(image_ids)})
    return int(erased.rowcount)  # type: ignore[attr-defined]


def forget_places(session: Session, archive_id: int | None, after: int, limit: int) -> list[int]:
    """Erase the places of the next few images that have one. Return these images, ascending.

    Args:
        session: a transaction.
        archive_id: only those of this archive; None: of all.
        after: the last image of the previous call; 0 at first.
        limit: images at most.
    """
    found = session.scalars(_FORGET, {"archive_id": archive_id or 0, "after": after, "limit": limit})
    return sorted(found)


def is_any_place(session: Session) -> bool:
    """Return whether it is stored where any image was taken."""
    return bool(session.scalar(text("SELECT EXISTS (SELECT FROM metadata WHERE cell IS NOT NULL)")))


def is_any(session: Session) -> bool:
    """Return whether any file was read."""
    return bool(session.scalar(text("SELECT EXISTS (SELECT FROM metadata)")))


def distance_km(place: tuple[float, float], other: tuple[float, float]) -> float:
    """Return the distance between two places (degrees north, degrees east), along a great circle."""
    (north, east), (other_north, other_east) = (tuple(map(math.radians, each)) for each in (place, other))
    half = math.sin((other_north - north) / 2) ** 2
    half += math.cos(north) * math.cos(other_north) * math.sin((other_east - east) / 2) ** 2
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


EARTH_KM = 6371.0088
"""Mean radius of the earth."""
