"""Maintenance of feature files: write files with many dead rows again, delete files that are no longer needed."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

import numpy as np

from storage.database import unit_of_work
from storage.index.feature_files import FOLDER, FeatureFiles
from storage.index.manifest import DamagedError
from storage.results import features

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Engine

    from storage.index.file_storage import FileStorage
    from storage.results.features import DyingFile

_log = logging.getLogger(__name__)

DEAD_SHARE = 0.2
"""A file with a larger share of dead rows is written again."""

GRACE_SECONDS = 900.0
"""How long a replaced file is kept: a worker may be about to read it."""

ORPHAN_SECONDS = 86_400.0
"""A file of this age that no row refers to belongs to a batch that never committed."""

_GENERATION = re.compile(r"generation-(\d+)")


def compact(engine: Engine, place: FileStorage, *, purge: bool = False, grace_seconds: float = GRACE_SECONDS) -> int:
    """Write files with many dead rows again. Delete replaced and unused files.

    Args:
        engine: the database.
        place: where the files are.
        purge: write every file with a dead row again, however few there are.
        grace_seconds: how long a replaced file is kept.

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


def forget_lost(engine: Engine, files: FeatureFiles, names: Iterable[str]) -> list[str]:
    """Forget the rows of those files that are gone or damaged, so that their images are recognised again.

    Return the names of these files.

    Raises:
        ServiceUnavailableError: the storage does not answer.
    """
    lost = sorted(name for name in set(names) if files.is_lost(name))
    for name in lost:
        with unit_of_work(engine) as session:
            rows = features.lose_file(session, name)
        if rows:
            _log.warning("%s is gone or damaged: %d images lack features now", name, rows)
    return lost


def _rewrite(engine: Engine, files: FeatureFiles, file: DyingFile) -> None:
    with unit_of_work(engine) as session:
        live = features.rows_of(session, file.id)
    new = None
    if live:
        try:
            rows = np.stack([files.row(file.name, position) for _, position, _ in live])
        except DamagedError:
            forget_lost(engine, files, [file.name])
            return
        new = files.write(file.generation_id, file.kind, rows)
    with unit_of_work(engine) as session:
        # Rows that were deleted or moved meanwhile are not changed.
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
        # List names first, then rows: a file committed in between is then known, and too young anyway.
        ages = place.names(f"{FOLDER}/{folder}")
        old = {f"{FOLDER}/{folder}/{name}" for name, age in ages.items() if age > ORPHAN_SECONDS}
        if not old:
            continue
        with unit_of_work(engine) as session:
            known = features.known_names(session, sorted(old))
        for name in sorted(old - known):
            place.delete(name)
