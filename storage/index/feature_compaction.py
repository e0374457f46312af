"""Feature files in order: those with many dead rows are written again, those that nobody needs are deleted."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from storage.database import unit_of_work
from storage.index.feature_files import FOLDER, FeatureFiles
from storage.index.manifest import DamagedError
from storage.results import features

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.index.file_storage import FileStorage
    from storage.results.features import DyingFile

DEAD_SHARE = 0.2
"""A file with more dead rows than this is written again."""

GRACE_SECONDS = 900.0
"""A file that was replaced stays for so long: a worker may be about to read it."""

ORPHAN_SECONDS = 86_400.0
"""A file that no row speaks of belongs to a batch that never committed, once it is so old."""

_GENERATION = re.compile(r"generation-(\d+)")


def compact(engine: Engine, place: FileStorage, *, purge: bool = False, grace_seconds: float = GRACE_SECONDS) -> int:
    """Write files again whose rows are largely of deleted images; delete what was replaced and what nobody needs.

    Args:
        engine: the database.
        place: where the files are.
        purge: every file with a dead row, however few.
        grace_seconds: how long a replaced file stays.

    Returns:
        How many files were written again.
    """
    files = FeatureFiles(place)
    with unit_of_work(engine) as session:
        dying = features.dying_files(session, 0.0 if purge else DEAD_SHARE)
    for file in dying:
        _rewrite(engine, files, file)
    _delete_retired(engine, place, grace_seconds)
    _delete_orphans(engine, place)
    return len(dying)


def _rewrite(engine: Engine, files: FeatureFiles, file: DyingFile) -> None:
    with unit_of_work(engine) as session:
        live = features.rows_of(session, file.id)
    new = None
    if live:
        try:
            rows = np.stack([files.row(file.name, position) for _, position, _ in live])
        except DamagedError:
            return  # what is left of it is reported to whoever wants it
        new = files.write(file.generation_id, file.kind, rows)
    with unit_of_work(engine) as session:
        # Rows that went or moved meanwhile are left as they are.
        features.replace_file(session, file, new, {image_id: n for n, (image_id, _, _) in enumerate(live)})


def _delete_retired(engine: Engine, place: FileStorage, grace_seconds: float) -> None:
    with unit_of_work(engine) as session:
        retired = features.retired_files(session, grace_seconds)
    for file_id, name in retired:
        place.delete(name)
        with unit_of_work(engine) as session:
            features.forget_file(session, file_id)


def _delete_orphans(engine: Engine, place: FileStorage) -> None:
    for folder in place.names(FOLDER):
        if _GENERATION.fullmatch(folder) is None:
            continue
        # Names first, rows after: a file that is committed in between is known by then, and young in any case.
        ages = place.names(f"{FOLDER}/{folder}")
        old = {f"{FOLDER}/{folder}/{name}" for name, age in ages.items() if age > ORPHAN_SECONDS}
        if not old:
            continue
        with unit_of_work(engine) as session:
            known = features.known_names(session, sorted(old))
        for name in sorted(old - known):
            place.delete(name)
