"""Conditions, counts and rankings over columns against plain Python over the same rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from storage.index.columns import columns
from storage.index.condition import All, Any, Below, ByJob, HasTag, InArchive, Modified, Not, OneOf, Sized
from storage.index.evaluate import FEW, best_by_tags, count_tags, matching, score_sums
from storage.index.part import Part
from storage.index.rows import NO_DATE
from storage.index.selection import Selection
from storage.index.vectors import build_vectors
from storage.results.projection import RawRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from storage.index.condition import Condition
    from storage.index.evaluate import Terms
    from storage.index.rows import Rows

TAGS = 6
UNITS = np.array([0, 300, 500, 700, 10_000, 500], dtype=np.int32)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Known:
    """What is known of one image."""

    image_id: int
    archive: int
    job: int
    modified: datetime | None
    size: int
    key: bytes
    tags: dict[int, int]


def rows_of(images: list[Known]) -> Rows:
    def offsets(lengths: list[int]) -> NDArray[np.int64]:
        return np.cumsum([0, *lengths], dtype=np.int64)

    def microseconds(moment: datetime | None) -> int:
        return NO_DATE if moment is None else (moment - EPOCH) // timedelta(microseconds=1)

    pairs = [sorted(image.tags.items()) for image in images]
    raw = RawRows(
        ids=np.array([image.image_id for image in images], dtype=np.int64),
        archives=np.array([image.archive for image in images], dtype=np.int32),
        jobs=np.array([image.job for image in images], dtype=np.int64),
        modified=np.array([microseconds(image.modified) for image in images], dtype=np.int64),
        sizes=np.array([image.size for image in images], dtype=np.int64),
        key_offsets=offsets([len(image.key) for image in images]),
        key_bytes=np.frombuffer(b"".join(image.key for image in images), dtype=np.uint8),
        tag_offsets=offsets([len(pair) for pair in pairs]),
        tags=np.array([tag for pair in pairs for tag, _ in pair], dtype=np.int16),
        scores=np.array([score for pair in pairs for _, score in pair], dtype=np.int16),
    )
    return columns(raw, UNITS)


def holds(image: Known, condition: Condition) -> bool:  # noqa: C901, PLR0911  (a line for each kind of condition)
    match condition:
        case HasTag(tags):
            return any(image.tags.get(tag, -1) > units for tag, units in tags)
        case InArchive(archive):
            return image.archive == archive
        case Below(prefix):
            return image.key.startswith(prefix.encode())
        case ByJob(job):
            return image.job == job
        case Modified(since, until):
            return (
                image.modified is not None
                and (since is None or image.modified >= since)
                and (until is None or image.modified < until)
            )
        case Sized(at_least, below):
            return (at_least is None or image.size >= at_least) and (below is None or image.size < below)
        case OneOf(image_ids):
            return image.image_id in image_ids.tolist()
        case All(parts):
            return all(holds(image, part) for part in parts)
        case Any(parts):
            return any(holds(image, part) for part in parts)
        case Not(part):
            return not holds(image, part)


moments = st.integers(0, 6).map(lambda day: datetime(1969, 12, 28, tzinfo=UTC) + timedelta(days=day, microseconds=day))
scores = st.sampled_from([1, 299, 300, 301, 500, 501, 700, 9_999, 10_000])
facts = st.builds(
    Known,
    image_id=st.just(0),
    archive=st.sampled_from([1, 2]),
    job=st.sampled_from([7, 2**40]),
    modified=st.none() | moments,
    size=st.sampled_from([0, 1, 999, 2**40]),
    key=st.sampled_from(["", "a", "a/1", "a/2", "b", "a\x7f", "é", "€/x", "\U0010ffff"]).map(str.encode),
    tags=st.dictionaries(st.integers(0, TAGS - 1), scores, max_size=4),
)
# Ids with and without gaps are looked up in different ways.
archives = st.builds(
    lambda found, gap: [replace(image, image_id=gap * n + 5) for n, image in enumerate(found)],
    st.lists(facts, max_size=40),
    st.sampled_from([1, 3]),
)
units_of = st.sampled_from([-1, 0, 300, 500, 9_999, 10_000])
leaves: st.SearchStrategy[Condition] = st.one_of(
    st.lists(st.tuples(st.integers(0, TAGS + 1), units_of), max_size=3).map(lambda tags: HasTag(tuple(tags))),
    st.sampled_from([1, 2, 3]).map(InArchive),
    st.sampled_from(["", "a", "a/", "é", "z", "\U0010ffff"]).map(Below),
    st.sampled_from([7, 8, 2**40]).map(ByJob),
    st.builds(Modified, st.none() | moments, st.none() | moments),
    st.sets(st.integers(0, 130), max_size=60).map(lambda ids: OneOf(np.array(sorted(ids), dtype=np.int64))),
    st.builds(Sized, st.none() | st.sampled_from([0, 1, 1000]), st.none() | st.sampled_from([0, 1000, 2**62])),
)
conditions: st.SearchStrategy[Condition] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: All(tuple(parts))),
        st.lists(inner, max_size=4).map(lambda parts: Any(tuple(parts))),
        inner.map(Not),
    ),
    max_leaves=8,
)
terms_of: st.SearchStrategy[Terms] = st.lists(
    st.lists(st.integers(0, TAGS + 1), min_size=1, max_size=3).map(tuple), max_size=3
).map(tuple)


@given(archives, conditions)
def test_a_condition_holds_for_the_rows_for_which_it_holds_image_by_image(
    images: list[Known], condition: Condition
) -> None:
    found = matching(rows_of(images), condition)

    assert list(found) == [row for row, image in enumerate(images) if holds(image, condition)]


@given(archives, conditions, st.sets(st.integers(0, 39)))
def test_within_some_rows_a_condition_finds_what_it_finds_at_all_of_these(
    images: list[Known], condition: Condition, chosen: set[int]
) -> None:
    rows = rows_of(images)
    within = BitMap(row for row in chosen if row < len(images))

    assert matching(rows, condition, within) == matching(rows, condition) & within


@given(archives, conditions)
def test_no_search_changes_a_bitmap_that_is_kept_for_the_next(images: list[Known], condition: Condition) -> None:
    rows = rows_of(images)
    first = matching(rows, condition).copy()
    matching(rows, Not(All((condition, HasTag(((0, 0), (1, 300)))))))
    count_tags(rows, first, UNITS)

    assert matching(rows, condition) == first


@pytest.mark.parametrize("units", [UNITS, np.full(TAGS, 400, dtype=np.int32), UNITS[:-2]])
@pytest.mark.parametrize("share", [None, 0.0, 0.5 / FEW, 0.9, 1.0])
def test_tags_are_counted_alike_whether_few_rows_are_looked_at_or_many(
    units: NDArray[np.int32], share: float | None
) -> None:
    rng = np.random.default_rng(3)
    stored = np.where(rng.random((500, TAGS)) < 0.4, rng.choice([1, 300, 301, 501, 10_000], (500, TAGS)), 0)
    images = [
        Known(n, 1, 1, None, 1, b"", {tag: score for tag, score in enumerate(row) if score})
        for n, row in enumerate(stored.tolist())
    ]
    selected = None if share is None else BitMap(np.flatnonzero(rng.random(500) < share).tolist())

    counts = count_tags(rows_of(images), selected, units)

    looked_at = stored if selected is None else stored[list(selected)]
    assert counts.tolist() == (looked_at[:, : len(units)] > np.maximum(units, 0)).sum(axis=0).tolist()


@pytest.mark.parametrize("units", [UNITS, np.full(TAGS, 400, dtype=np.int32)])
@given(data=st.data())
def test_the_most_common_tags_of_several_parts_are_those_of_all_their_rows(
    data: st.DataObject, units: NDArray[np.int32]
) -> None:
    limit = data.draw(st.integers(1, TAGS))
    parts, expected = [], np.zeros(TAGS, dtype=np.int64)
    for images in (data.draw(archives), data.draw(archives)):
        rows = rows_of(images)
        selected = BitMap(data.draw(st.sets(st.integers(0, max(0, len(rows) - 1)))) if len(rows) else ())
        vectors = build_vectors(np.zeros((len(rows), 2), dtype=np.float16))
        parts.append((Part(rows, vectors), selected))
        expected += count_tags(rows, selected, units)

    found = Selection(tuple(parts), is_narrowed=True).most_common(units, limit)

    ordered = sorted(
        ((tag, count) for tag, count in enumerate(expected.tolist()) if count), key=lambda t: (-t[1], t[0])
    )
    assert found == ordered[:limit]


@given(archives, terms_of, st.sets(st.integers(0, 39)))
def test_a_row_is_scored_by_the_best_tag_of_each_term(images: list[Known], terms: Terms, chosen: set[int]) -> None:
    some = sorted(row for row in chosen if row < len(images))

    sums = score_sums(rows_of(images), np.array(some, dtype=np.uint32), terms)

    assert sums.tolist() == [sum(max(images[row].tags.get(tag, 0) for tag in term) for term in terms) for row in some]


@given(archives, terms_of, st.none() | st.sets(st.integers(0, 39)), st.integers(1, 7))
def test_paging_gives_every_selected_row_once_in_order_of_score_and_then_of_id(
    images: list[Known], terms: Terms, chosen: set[int] | None, k: int
) -> None:
    rows = rows_of(images)
    selected = None if chosen is None else BitMap(row for row in chosen if row < len(images))

    seen: list[tuple[int, int]] = []
    while True:
        ids, sums = best_by_tags(rows, selected, terms, k, seen[-1][::-1] if seen else None)
        if len(ids) == 0:
            break
        assert len(ids) <= k
        seen += zip(ids.tolist(), sums.tolist(), strict=True)

    looked_at = images if selected is None else [images[row] for row in selected]
    assert sorted(image_id for image_id, _ in seen) == [image.image_id for image in looked_at]
    assert all((later[1], later[0]) < (earlier[1], earlier[0]) for earlier, later in pairwise(seen))
    by_id = {image.image_id: image for image in images}
    for image_id, total in seen:
        assert total == sum(max(by_id[image_id].tags.get(tag, 0) for tag in term) for term in terms)
