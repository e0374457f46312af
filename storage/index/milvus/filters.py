"""Translate conditions to Milvus' boolean expressions.

They consist only of field names, numbers and hexadecimal digits, so nothing in them has to be escaped. A tag that an
image lacks is missing in its scores. How servers evaluate ``not`` around a comparison with a missing value has changed
between versions. Therefore ``not`` is applied only to expressions that always have a value.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from storage.errors import UsageError
from storage.index.condition import All, Below, ByJob, HasTag, InArchive, Modified, Named, Not, OneOf, Sized
from storage.index.condition import Any as AnyOf
from storage.index.rows import NO_DATE
from storage.tables import SCORE_SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from storage.index.condition import Condition

EVERYTHING = "pk <= 0"
NOTHING = "pk > 0"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def filter_of(  # noqa: C901, PLR0911 - one for each kind of condition
    condition: Condition, assigned_units: NDArray[np.int32], *, holds: bool = True
) -> str:
    """Return the expression for the images that meet a condition, or for those that do not.

    Args:
        condition: with every name resolved.
        assigned_units: (T,) the vocabulary's own thresholds, in score units.
        holds: True: the images that meet it; False: the images that do not.
    """
    match condition:
        case All(parts):
            inner = [filter_of(part, assigned_units, holds=holds) for part in parts]
            return _joined(inner, is_any=not holds)
        case AnyOf(parts):
            inner = [filter_of(part, assigned_units, holds=holds) for part in parts]
            return _joined(inner, is_any=holds)
        case Not(part):
            return filter_of(part, assigned_units, holds=not holds)
        case HasTag(tags):
            return _joined([_has(tag, units, assigned_units, holds=holds) for tag, units in tags], is_any=holds)
        case InArchive(archive_id):
            return f"archive {_equal(holds=holds)} {archive_id}"
        case ByJob(job_id):
            return f"job {_equal(holds=holds)} {job_id}"
        case OneOf(image_ids):
            return one_of(image_ids.tolist()) if holds else none_of(image_ids.tolist())
        case Below(prefix):
            return _below(prefix, holds=holds)
        case Named():
            raise UsageError("name: needs the index of segments; with Milvus use prefix: for the start of a key")
        case Modified(since, until):
            earliest = NO_DATE + 1 if since is None else _microseconds(since)
            end = None if until is None else _microseconds(until)
            return _between("modified", earliest, end, holds=holds)
        case Sized(at_least, below):
            return _between("size", at_least or 0, below, holds=holds)


def both(*filters: str) -> str:
    """Return the conjunction of these expressions."""
    return _joined([part for part in filters if part != EVERYTHING], is_any=False)


def none_of(image_ids: Sequence[int]) -> str:
    """Return the expression for all images except these."""
    return f"pk not in [{_listed(image_ids)}]" if image_ids else EVERYTHING


def one_of(image_ids: Sequence[int]) -> str:
    """Return the expression for these images."""
    return f"pk in [{_listed(image_ids)}]" if image_ids else NOTHING


def best_at_least(term: Iterable[int], units: int) -> str:
    """Return the expression for the images whose best score of these tags is ``units`` or more; 0: all images.

    Scores above ``SCORE_SCALE`` (of tags added by a person) count as ``SCORE_SCALE``.
    """
    if units <= 0:
        return EVERYTHING
    if units > SCORE_SCALE:
        return NOTHING
    return _joined([f'scores["{tag_id}"] >= {units}' for tag_id in term], is_any=True)


def best_below(term: Iterable[int], units: int) -> str:
    """Return the expression for the images that ``best_at_least`` excludes."""
    if units <= 0:
        return NOTHING
    if units > SCORE_SCALE:
        return EVERYTHING
    return _joined([_missing_or(tag_id, f"< {units}") for tag_id in term], is_any=False)


def hexadecimal(key: str) -> str:
    """Return a key as it is stored, without special characters. Prefixes stay prefixes."""
    # Text that is not valid Unicode cannot be a key, but may come in from a command line.
    return key.encode(errors="surrogatepass").hex()


def _has(tag_id: int, units: int, assigned_units: NDArray[np.int32], *, holds: bool) -> str:
    if tag_id < len(assigned_units) and units == assigned_units[tag_id]:
        is_assigned = f"array_contains(assigned, {tag_id})"
        return is_assigned if holds else f"(not {is_assigned})"
    return f'scores["{tag_id}"] > {units}' if holds else _missing_or(tag_id, f"<= {units}")


def _missing_or(tag_id: int, comparison: str) -> str:
    return f'((not exists scores["{tag_id}"]) or scores["{tag_id}"] {comparison})'


def _below(prefix: str, *, holds: bool) -> str:
    if not prefix:
        return EVERYTHING if holds else NOTHING
    begins = f'key like "{hexadecimal(prefix)}%"'
    return begins if holds else f"(not ({begins}))"


def _between(field: str, low: int, high: int | None, *, holds: bool) -> str:
    if holds:
        return f"{field} >= {low}" if high is None else f"({field} >= {low} and {field} < {high})"
    return f"{field} < {low}" if high is None else f"({field} < {low} or {field} >= {high})"


def _joined(parts: Sequence[str], *, is_any: bool) -> str:
    if not parts:
        return NOTHING if is_any else EVERYTHING
    return parts[0] if len(parts) == 1 else f"({(' or ' if is_any else ' and ').join(parts)})"


def _equal(*, holds: bool) -> str:
    return "==" if holds else "!="


def _listed(image_ids: Sequence[int]) -> str:
    return ",".join(str(-image_id) for image_id in image_ids)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
