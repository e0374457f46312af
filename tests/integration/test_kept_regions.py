"""Regions kept between searches: they are what plain Python counts, whoever writes meanwhile, in bounded memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.results import erasures, region_boxes, region_search, regions
from storage.results.region_lists import BLOCK_SIZE, EVERY
from storage.search import kept_regions
from storage.search.kept_regions import KeptRegions
from tests.region_archive import RegionArchive, add_generation, place, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

pytestmark = pytest.mark.services

NAMES = ["dog", "cat", "bird", "Straße", 'a \\ "b" {c}, d']
FOLDED = ["dog", "cat", "bird", "strasse", 'a \\ "b" {c}, d']

Counts = dict[str, dict[int, tuple[int, int]]]


@pytest.fixture
def archive(engine: Engine) -> RegionArchive:
    return RegionArchive.new(engine, images=BLOCK_SIZE + 40)


def truth(archive: RegionArchive) -> Counts:
    """By name, for each image the number of regions and their area: counted here, one image after the other."""
    found: Counts = {name: {} for name in [*FOLDED, EVERY]}
    with unit_of_work(archive.engine) as session:
        for image_id, view in regions.views(session, archive.images).items():
            found[EVERY][image_id] = (0, 0)
            for name, count in region_boxes.counts(view.regions).items():
                found[name][image_id] = (count.regions, count.area)
    return found


def held(archive: RegionArchive, kept: KeptRegions) -> Counts:
    with unit_of_work(archive.engine) as session:
        found = kept.images(session, [*FOLDED, EVERY])
    return {
        name: dict(zip(each.ids.tolist(), zip(each.regions.tolist(), each.areas.tolist(), strict=True), strict=True))
        for name, each in found.items()
    }


def warm(archive: RegionArchive, kept: KeptRegions) -> None:
    kept.warm(partial(unit_of_work, archive.engine))


def common(archive: RegionArchive, kept: KeptRegions, ids: list[int], limit: int = 9) -> dict[str, int] | None:
    with unit_of_work(archive.engine) as session:
        return kept.most_common(session, np.array(ids, dtype=np.int64), limit)


def test_everything_kept_is_what_is_counted_one_by_one_while_regions_change(
    archive: RegionArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_regions, "MANY_CHANGES", 2)
    monkeypatch.setattr(kept_regions, "MOST_CHANGES", 6)
    monkeypatch.setattr(region_search, "MAX_CHANGED", 60)
    monkeypatch.setattr(kept_regions, "READ_AT_ONCE", 100)
    monkeypatch.setattr(kept_regions, "_OVERHEAD", 0)
    rng = np.random.default_rng(7)
    other = add_generation(archive.engine, "locator 2")
    said: list[int] = []
    warmed, cold, small = KeptRegions(), KeptRegions(), KeptRegions(max_bytes=2_000)

    def some(most: int) -> list[int]:
        ids = sorted(truth_of)
        return sorted(rng.choice(ids, min(len(ids), int(rng.integers(1, most))), replace=False).tolist())

    def write(most: int) -> None:
        rows = [row(one, *rng.choice(NAMES, rng.integers(0, 5)).tolist()) for one in some(most)]
        archive.write(*rows, generation_id=int(rng.choice([archive.generation_id, other])))

    def correct() -> None:
        for one in some(3):
            tag, box = str(rng.choice(NAMES)), place(int(rng.integers(5)))
            said.append(archive.correct(one, tag, box, is_there=bool(rng.integers(2))))

    def drop() -> None:
        with unit_of_work(archive.engine) as session:
            regions.leave_out(session, other)
            session.execute(text("DELETE FROM localization WHERE generation_id = :id"), {"id": other})

    truth_of = dict.fromkeys(archive.images)
    steps: list[Callable[[], None]] = [
        partial(write, 30), partial(write, 30), partial(write, 3), partial(write, 200), correct, drop,
        partial(warm, archive, warmed), partial(warm, archive, warmed),
    ]  # fmt: skip
    write(250)
    for number in range(50):
        steps[number % len(steps) if number < len(steps) else int(rng.integers(len(steps)))]()
        expected = truth(archive)
        for kept in (warmed, cold, small):
            assert held(archive, kept) == expected, number
        ids = some(200)
        counts = {name: len(set(ids) & set(expected[name])) for name in FOLDED}
        most = dict(sorted(((n, c) for n, c in counts.items() if c), key=lambda each: (-each[1], each[0]))[:3])
        for kept in (warmed, cold):
            found = common(archive, kept, ids, 3)
            assert found == most
            assert list(found or ()) == list(most)
    assert said


def test_what_was_committed_before_a_search_is_found_while_others_write_into_the_same_lists(
    archive: RegionArchive,
) -> None:
    kept, ends = KeptRegions(), threading.Event()
    committed: dict[int, int] = {}

    def write(worker: int) -> None:
        rng = np.random.default_rng(worker)
        own = archive.images[worker::3]
        counts = dict.fromkeys(own, 0)
        for _ in range(25):
            chosen = rng.choice(own, 8, replace=False).tolist()
            for image_id in chosen:
                counts[image_id] += 1
            archive.write(*(row(image_id, *["dog"] * counts[image_id]) for image_id in chosen))
            committed.update({image_id: counts[image_id] for image_id in chosen})

    def read() -> int:
        times = 0
        while not ends.is_set() or not times:
            before = dict(committed)
            found = held(archive, kept)["dog"]
            assert all(found[image_id][0] >= count for image_id, count in before.items())
            times += 1
            if times % 5 == 0:
                warm(archive, kept)
        return times

    with ThreadPoolExecutor() as threads:
        readers = [threads.submit(read) for _ in range(2)]
        writers = [threads.submit(write, worker) for worker in range(3)]
        try:
            for writer in writers:
                writer.result()
        finally:
            ends.set()
        assert all(reader.result() for reader in readers)
    assert held(archive, kept) == held(archive, KeptRegions()) == truth(archive)


def test_no_more_is_kept_than_allowed_and_what_was_not_asked_for_is_forgotten_first(archive: RegionArchive) -> None:
    archive.write(*(row(image_id, *(f"tag {n}" for n in range(8))) for image_id in archive.images))
    kept = KeptRegions(max_bytes=4 * (500 + 7 * len(archive.images)))

    def ask(*names: str) -> None:
        with unit_of_work(archive.engine) as session:
            assert all(len(each.ids) == len(archive.images) for each in kept.images(session, names).values())

    for number in range(8):
        ask("tag 0")
        ask(f"tag {number}")
        state = kept._state
        assert state is not None
        taken = sum(each.nbytes + 500 + 4 * len(name) for name, each in state.lists.items())
        assert state.taken == taken <= kept._max_bytes
        assert kept._asked.keys() <= state.lists.keys()
    assert {"tag 0", "tag 7"} <= set(state.lists)
    warm(archive, kept)
    assert not kept.needs_warming, "what does not fit is not read again and again"
    assert kept._state is not None
    assert kept._state.taken <= kept._max_bytes
    assert common(archive, kept, archive.images, 2) == {"tag 0": len(archive.images), "tag 1": len(archive.images)}


def test_names_that_people_make_up_take_no_memory(archive: RegionArchive) -> None:
    archive.write(row(archive.images[0], "dog"))
    kept = KeptRegions()
    for number in range(3):
        with unit_of_work(archive.engine) as session:
            found = kept.images(session, ["dog", f"no such tag {number}"])
        assert [len(each.ids) for each in found.values()] == [1, 0]
    assert kept._state is not None
    assert list(kept._state.lists) == list(kept._asked) == ["dog"]
    archive.write(row(archive.images[1], "no such tag 1"))
    with unit_of_work(archive.engine) as session:
        assert len(kept.images(session, ["no such tag 1"])["no such tag 1"].ids) == 1


def test_long_names_count_as_memory(archive: RegionArchive) -> None:
    names = [letter * 2_000 for letter in "abcdef"]
    archive.write(row(archive.images[0], *names))
    kept = KeptRegions(max_bytes=20_000)
    for name in names:
        with unit_of_work(archive.engine) as session:
            assert len(kept.images(session, [name])[name].ids) == 1
    assert kept._state is not None
    assert list(kept._state.lists) == list(kept._asked) == names[-2:]


def test_a_tag_that_no_image_has_any_more_when_it_is_read_beforehand_leaves_all_complete(
    archive: RegionArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        region_search, "sizes", lambda session, read=region_search.sizes: {**read(session), "just gone": 1}
    )
    archive.write(row(archive.images[0], "dog"))
    kept = KeptRegions()
    warm(archive, kept)
    assert kept._state is not None
    assert kept._state.is_complete
    assert "just gone" not in kept._state.lists


def test_tags_of_many_images_are_counted_only_from_memory(
    archive: RegionArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_regions, "FEW", 3)
    kept = KeptRegions()
    assert common(archive, kept, archive.images) == {}
    assert not kept.needs_warming, "nothing was located"
    archive.write(*(row(image_id, "dog") for image_id in archive.images[:5]))
    assert common(archive, kept, archive.images[:3]) == {"dog": 3}
    assert common(archive, kept, archive.images) is None
    assert kept.needs_warming
    warm(archive, kept)
    assert not kept.needs_warming
    assert common(archive, kept, archive.images) == {"dog": 5}
    archive.write(row(archive.images[9], "cat", "dog"), row(archive.images[0], "cat"))
    assert common(archive, kept, archive.images) == {"dog": 5, "cat": 2}
    monkeypatch.setattr(kept_regions, "_SPAN", 1)
    assert common(archive, kept, archive.images) == {"dog": 5, "cat": 2}


def test_an_erased_image_is_in_no_list(archive: RegionArchive) -> None:
    first, second, *_ = archive.images
    archive.write(row(first, "dog", "cat"), row(second, "dog"))
    with unit_of_work(archive.engine) as session:
        erasures.erase(session, [first])
    expected = {name: {} for name in FOLDED} | {"dog": {second: (1, 10_000)}, EVERY: {second: (0, 0)}}
    assert held(archive, KeptRegions()) == expected


def test_lists_of_images_whose_ids_need_more_bits(archive: RegionArchive) -> None:
    archive.rows("SELECT setval(pg_get_serial_sequence('image', 'id'), :id)", id=2**38 - 3)
    with unit_of_work(archive.engine) as session:
        added = text(
            """INSERT INTO image (archive_id, key, version, size) SELECT 1, 'far ' || n, 'v1', 1
               FROM generate_series(1, 6) AS n RETURNING id"""
        )
        far = list(session.scalars(added))
    archive.images = [*archive.images[:3], *far]
    kept = KeptRegions()
    archive.write(*(row(image_id, "dog") for image_id in archive.images[:5]))
    assert held(archive, kept) == truth(archive)
    archive.write(row(far[-1], "dog", "dog"), row(far[0], "cat"))
    warm(archive, kept)
    assert held(archive, kept) == held(archive, KeptRegions()) == truth(archive)
    assert common(archive, kept, archive.images) == {"dog": 5, "cat": 1}
