"""How many hits were taken in which year, month or day, with which camera, and where they are."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import numpy as np

from storage.errors import UsageError
from storage.index.counting import MOST_FOLDERS, count_archives, count_folders, folder_of_all, most_of
from storage.remembered import remembered
from storage.results import archives, metadata_search, places
from storage.results.metadata_search import UNDATED, UNDATED_MONTH
from storage.search.language.writer import filter_text
from storage.search.views import FileFacet, FileFacets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.selection import Selection
    from storage.results.metadata_search import Columns
    from storage.search.kept_keywords import KeptKeywords
    from storage.search.kept_metadata import KeptMetadata

MOST_BARS = 200
"""Years that are counted: a typing error may put a picture into another millennium."""

MOST_REMOTE = 100_000
"""Images of an index elsewhere whose archives and folders are counted: PostgreSQL reads a row of each."""

_FIRST, _FIRST_MONTH = np.datetime64("0001-01-01T00:00:00", "us"), np.datetime64("0001-01", "M")

Step = Literal["year", "month", "day"]


def file_facets(
    session: Session, kept: KeptMetadata, keywords: KeptKeywords, found: Selection, limit: int, *, waits: bool
) -> FileFacets:
    """Count images by what their files say, and by their places.

    Args:
        session: a transaction.
        kept: the dates and cameras of images.
        keywords: their keywords. If these are too many to count, none is counted.
        found: the images.
        limit: cameras, archives, folders and keywords at most, each.
        waits: whether to wait until keywords that were not read yet are read.
    """
    columns = kept.columns(session)
    known = columns.places(found.ids())
    known = known[known >= 0]
    step, bars = _bars(columns, known)
    dated = sum(bar.count for bar in bars)
    counts = np.bincount(columns.cameras[known])
    counts[:1] = 0  # without a camera
    most = [number for number in np.argsort(-counts, kind="stable")[:limit].tolist() if counts[number]]
    labels = metadata_search.camera_labels(session)
    cameras = [
        FileFacet(labels[number], int(counts[number]), filter_text("camera", labels[number]))
        for number in most
        if number in labels
    ]
    by_archive, by_folder = _places(session, found, limit)
    uris = remembered(session, "addresses of archives", lambda: {one.id: one.uri for one in archives.every(session)})
    named = [
        FileFacet(uris[number], count, filter_text("archive", str(number)))
        for number, count in sorted(by_archive.items(), key=lambda pair: (-pair[1], pair[0]))
        if number in uris
    ]
    folders = [FileFacet(folder, count, filter_text("prefix", folder)) for folder, count in by_folder]
    words: list[FileFacet] = []
    with suppress(UsageError):
        words = keywords.facets(session, found.ids(), limit, waits=waits)
    return FileFacets(step, bars, len(found) - dated, cameras, named[:limit], folders, words)


def _places(session: Session, found: Selection, limit: int) -> tuple[Mapping[int, int], list[tuple[str, int]]]:
    """Return the numbers of images in each archive, and in the folders next below what all keys have in common.

    What an index elsewhere has of keys cannot be counted there. PostgreSQL tells it of ``MOST_REMOTE`` images.
    """
    if found.remote is None:
        return count_archives(found), count_folders(found, limit)
    ids = found.ids()
    ends = places.ends(session, ids) if len(ids) <= MOST_REMOTE else None
    if ends is None:
        return {}, []
    base = folder_of_all(*(key.encode() for key in ends)).decode()
    counts = places.folders(session, ids, base, MOST_FOLDERS)
    return places.by_archive(session, ids), [] if counts is None else most_of(counts, limit)


def _bars(columns: Columns, places: NDArray[np.intp]) -> tuple[Step, list[FileFacet]]:
    """Return the numbers of dates in each year, oldest first; of one year, in each month; of one month, on each day.

    Args:
        columns: the dates of images.
        places: (N,) those that are counted.
    """
    by_month = np.bincount(columns.months[places], minlength=1)
    months = np.flatnonzero(by_month[UNDATED_MONTH + 1 :]) + UNDATED_MONTH + 1
    counts = by_month[months]
    step: Step = "month"
    periods = _FIRST_MONTH + (months - UNDATED_MONTH - 1).astype("timedelta64[M]")
    years = periods.astype("datetime64[Y]")
    if len(months) and years[0] != years[-1]:
        step = "year"
        periods, first = np.unique(years, return_index=True)
        counts = np.add.reduceat(counts, first)
    elif len(months) == 1:
        step = "day"
        taken = columns.taken[places]
        days = (_FIRST + taken[taken != UNDATED].astype("timedelta64[us]")).astype("datetime64[D]")
        periods, counts = np.unique(days, return_counts=True)
    elif not len(months):
        step = "year"
    if len(periods) > MOST_BARS:
        most = np.sort(np.argsort(-counts, kind="stable")[:MOST_BARS])
        periods, counts = periods[most], counts[most]
    names = np.datetime_as_string(periods).tolist()
    bars = [FileFacet(name, count, f"taken:{name}") for name, count in zip(names, counts.tolist(), strict=True)]
    return step, bars
