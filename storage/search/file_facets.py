"""How many hits were taken in which year, month or day, with which camera, and where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from storage.index.counting import count_archives, count_folders
from storage.results import archives, metadata_search
from storage.results.metadata_search import UNDATED
from storage.search.language.writer import filter_text
from storage.search.views import FileFacet, FileFacets

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.index.selection import Selection
    from storage.search.kept_metadata import KeptMetadata

MOST_BARS = 200
"""Years that are counted: a typing error may put a picture into another millennium."""

_EPOCH = np.datetime64("0001-01-01T00:00:00", "us")

Step = Literal["year", "month", "day"]
_UNITS: dict[Step, Literal["Y", "M", "D"]] = {"year": "Y", "month": "M", "day": "D"}


def file_facets(session: Session, kept: KeptMetadata, found: Selection, limit: int) -> FileFacets:
    """Count images by what their files say, and by their places.

    Args:
        session: a transaction.
        kept: the dates and cameras of images.
        found: the images.
        limit: cameras, archives and folders at most, each.
    """
    columns = kept.columns(session)
    places = columns.places(found.ids())
    places = places[places >= 0]
    step, bars = _bars(columns.taken[places])
    dated = sum(bar.count for bar in bars)
    numbers, counts = np.unique(columns.cameras[places], return_counts=True)
    most = [at for at in np.argsort(-counts, kind="stable").tolist() if numbers[at]][:limit]
    labels = metadata_search.camera_labels(session, [int(numbers[at]) for at in most])
    cameras = [
        FileFacet(label, int(counts[at]), filter_text("camera", label))
        for at in most
        if (label := labels.get(int(numbers[at])))
    ]
    by_archive = count_archives(found)
    uris = {archive.id: archive.uri for archive in archives.every(session)} if by_archive else {}
    named = [
        FileFacet(uris[number], count, filter_text("archive", str(number)))
        for number, count in sorted(by_archive.items(), key=lambda pair: (-pair[1], pair[0]))
        if number in uris
    ]
    folders = [FileFacet(folder, count, filter_text("prefix", folder)) for folder, count in count_folders(found, limit)]
    return FileFacets(step, bars, len(found) - dated, cameras, named[:limit], folders)


def _bars(taken: NDArray[np.int64]) -> tuple[Step, list[FileFacet]]:
    """Return the numbers of dates in each year, oldest first; of one year, in each month; of one month, on each day.

    ``taken``: microseconds since the start of the year 1.
    """
    dates = _EPOCH + taken[taken != UNDATED].astype("timedelta64[us]")
    step: Step = "year"
    periods, counts = np.unique(dates.astype("datetime64[Y]"), return_counts=True)
    narrower: tuple[Step, ...] = ("month", "day")
    for finer in narrower:
        if len(periods) != 1:
            break
        step = finer
        periods, counts = np.unique(dates.astype(f"datetime64[{_UNITS[finer]}]"), return_counts=True)
    if len(periods) > MOST_BARS:
        most = np.sort(np.argsort(-counts, kind="stable")[:MOST_BARS])
        periods, counts = periods[most], counts[most]
    names = np.datetime_as_string(periods).tolist()
    return step, [FileFacet(name, count, f"taken:{name}") for name, count in zip(names, counts.tolist(), strict=True)]
