"""Which images the names in people's files mean: full URIs, keys, and paths below a source."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import text

from storage.results.lookup import uri_of
from storage.texts import other_forms

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from sqlalchemy.orm import Session

    from storage.datasets.sources import Place


def match(session: Session, places: Sequence[Place], names: Iterable[str]) -> dict[str, int]:
    """Return the ids of the images that names mean. Unknown names are left out.

    A name is a full URI, an absolute path, a key, a path below the prefix of a place, or one of these without the
    ending of the file (as tools for data sets number pictures). Where several fit, the first of this list counts, and
    the first place.

    Args:
        session: a transaction.
        places: where to look.
        names: as files have them.
    """
    left = dict.fromkeys(name for name in names if name and "\0" not in name)
    found: dict[str, int] = {}
    for place in places:
        roots = _roots(place)
        keys = {name: _keys(name, place, roots) for name in left}
        known = by_key(session, place, {key for each in keys.values() for key in each})
        for name, tried in keys.items():
            hit = next((known[key] for key in tried if key in known), None)
            if hit is not None:
                found[name] = hit
                del left[name]
    for place in places:
        stems = {name: _keys(name, place, _roots(place)) for name in left}
        known = _in_any_form({stem for each in stems.values() for stem in each}, partial(_by_stem, session, place))
        for name, tried in stems.items():
            hit = next((known[stem] for stem in tried if stem in known), None)
            if hit is not None:
                found[name] = hit
                del left[name]
    return found


def _roots(place: Place) -> list[str]:
    """Return what stands before keys in URIs and paths of the images of an archive."""
    roots = [uri_of(place.uri, "")]
    if roots[0].startswith("tar+"):
        roots.append(roots[0].removeprefix("tar+"))
    return [*roots, *(root.removeprefix("file://") for root in roots if root.startswith("file://"))]


def _keys(name: str, place: Place, roots: Sequence[str]) -> list[str]:
    for root in roots:
        if name.startswith(root):
            return [name.removeprefix(root)]
    if "://" in name or name.startswith("/"):
        return []
    plain = name.removeprefix("./")
    prefix = place.prefix if place.prefix.endswith("/") or not place.prefix else f"{place.prefix}/"
    return list(dict.fromkeys((f"{prefix}{plain}", plain)))


def by_key(session: Session, place: Place, keys: Iterable[str]) -> dict[str, int]:
    """Return the ids of the images of an archive with these keys, if need be in another Unicode form."""
    return _in_any_form(list(keys), partial(_by_key, session, place))


def _in_any_form(names: Collection[str], find: Callable[[Collection[str]], dict[str, int]]) -> dict[str, int]:
    """Return what ``find`` returns for these names, or, if nothing, for their other Unicode forms if one fits."""
    found = find(names)
    forms = {name: others for name in names if name not in found and (others := other_forms(name))}
    if forms:
        known = find([form for others in forms.values() for form in others])
        for name, others in forms.items():
            if len(ids := {known[form] for form in others if form in known}) == 1:
                found[name] = ids.pop()
    return found


def _by_key(session: Session, place: Place, keys: Collection[str]) -> dict[str, int]:
    rows = session.execute(
        text("SELECT key, id FROM image WHERE archive_id = :archive_id AND key = ANY(:keys)"),
        {"archive_id": place.archive_id, "keys": list(keys)},
    )
    return {row.key: row.id for row in rows}


def _by_stem(session: Session, place: Place, stems: Collection[str]) -> dict[str, int]:
    """Return images by their keys without ending, where only one image has it. Files beside pictures are none."""
    rows = session.execute(
        text(
            """
            SELECT stem, min(image.id) AS id FROM unnest(CAST(:stems AS text[])) AS stem
            JOIN image ON image.archive_id = :archive_id AND image.key > stem || '.' AND image.key < stem || '/'
                AND strpos(substr(image.key, length(stem) + 2), '.') = 0 AND image.key !~ '[.](txt|json)$'
            GROUP BY stem HAVING count(*) = 1
            """
        ),
        {"archive_id": place.archive_id, "stems": list(stems)},
    )
    return {row.stem: row.id for row in rows}
