"""Where tags are in images, on a real database: written, corrected by people, counted, erased."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.services.regions import RegionClient
from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.ledger import jobs
from storage.results import erasures, region_corrections, regions, serving
from storage.results.records import Provenance
from storage.results.region_views import FoundRegion, RegionsRow
from storage.search.search import Search
from storage.standby import Databases
from storage.tables import Archive
from tests.reading_archive import JOB
from tests.region_archive import RegionArchive, add_generation, painted, place, row

if TYPE_CHECKING:
    from concurrent.futures import Future

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.index.index import VectorIndex
    from tests.ledger import Ledger

pytestmark = pytest.mark.services

TABLES = ("localization", "located_image", "region_correction")


def missing() -> VectorIndex:
    raise AssertionError("a correction of regions needs no index")


@pytest.fixture
def archive(engine: Engine) -> RegionArchive:
    return RegionArchive.new(engine)


# Writing ------------------------------------------------------------------------------------------------------------


def test_what_was_found_is_read_as_it_was_written(archive: RegionArchive) -> None:
    first, second, third, _ = archive.images
    box, mask = (0.1, 0.2, 0.5, 0.6), painted((0.1, 0.2, 0.5, 0.6))
    hostile = 'a "b" \\ {c,NULL}, \u732b'
    found = [
        FoundRegion("dog", 0.91234, box, mask, 0.87),
        FoundRegion(hostile, 0.5, (0.0, 0.0, 1.0, 1.0)),
        FoundRegion("NULL", 0.3, (-0.5, 0.99999, 0.5, 7.0), painted((0, 0, 1, 1)), None),
    ]
    archive.write(RegionsRow(second, "v1", found, is_cut=True), row(third), row(first, "cat"))
    view = archive.view(second)
    assert (view.image_id, view.generation_id, view.model, view.is_cut) == (
        second,
        archive.generation_id,
        "locator 1",
        True,
    )
    assert [(r.number, r.tag, r.score, r.box, r.mask, r.mask_quality, r.correction_id) for r in view.regions] == [
        (1, "dog", 0.9123, box, mask, 0.87, None),
        (2, hostile, 0.5, (0.0, 0.0, 1.0, 1.0), None, None, None),
        (3, "NULL", 0.3, (0.0, 0.9999, 0.5, 1.0), painted((0, 0, 1, 1)), None, None),
    ]
    assert archive.tags(third) == []
    assert archive.tags(first) == ["cat"]
    with unit_of_work(archive.engine) as session:
        assert regions.views(session, []) == {}
        assert set(regions.views(session, [*archive.images, 10**6])) == {first, second, third}


def test_writing_the_same_twice_changes_nothing(archive: RegionArchive) -> None:
    first, second, *_ = archive.images
    written = RegionsRow(first, "v1", [FoundRegion("dog", 0.9, place(0), painted(place(0)), 0.8)], is_cut=False)
    versions = "SELECT xmin::text, ctid::text FROM {} WHERE image_id = :id"
    archive.write(written, row(second))
    before = [archive.rows(versions.format(table), id=first) for table in TABLES[:2]]
    archive.write(written, row(second))
    assert [archive.rows(versions.format(table), id=first) for table in TABLES[:2]] == before
    archive.write(row(first, "dog", "dog"))
    assert archive.tags(first) == ["dog", "dog"]
    assert archive.counts(first) == {"dog": (2, 20_000)}


def test_a_mask_that_cannot_be_read_is_not_stored(archive: RegionArchive) -> None:
    for damaged in (b"", b"480x640", b"PX5", b"0x5 ", b"40x60 \n", b"40x60 P", b"40x60 0" + b"o" * 20):
        with pytest.raises(ValueError, match=r"mask|run"):
            archive.write(
                RegionsRow(archive.images[0], "v1", [FoundRegion("dog", 1, place(0), damaged, 1)], is_cut=False)
            )
    assert archive.rows("SELECT count(*) FROM localization") == [(0,)]


def test_search_counts_regions_and_what_they_cover_together(archive: RegionArchive) -> None:
    first, second, *_ = archive.images
    box, half = (0.0, 0.0, 0.5, 0.5), (0.0, 0.0, 0.5, 1.0)
    found = [
        FoundRegion("Dog", 0.9, box),
        FoundRegion("dog ", 0.8, (0.25, 0.0, 0.75, 0.5)),
        FoundRegion("speck", 0.8, (0.1, 0.1, 0.1, 0.1)),
    ]
    masked = [
        FoundRegion("dog", 0.9, half, painted(box), 1.0),
        FoundRegion("dog", 0.8, half, painted((0.0, 0.0, 0.5, 0.75)), 1.0),
        FoundRegion("cat", 0.8, half, painted(box), 1.0),
        FoundRegion("cat", 0.7, half),
        FoundRegion("nothing", 0.8, half, painted((0, 0, 0, 0)), 1.0),
    ]
    archive.write(RegionsRow(first, "v1", found, is_cut=False), RegionsRow(second, "v1", masked, is_cut=False))
    assert archive.counts(first) == {"dog": (2, 375_000), "speck": (1, 1)}
    assert archive.counts(second) == {"dog": (2, 375_000), "cat": (2, 500_000), "nothing": (1, 1)}


def test_the_newest_result_counts_whatever_its_generation(archive: RegionArchive) -> None:
    first, second, *_ = archive.images
    other = add_generation(archive.engine, "locator 2")
    archive.write(row(first, "dog", "dog"), row(second, "cat"))
    archive.write(row(first, "dog", "bird"), generation_id=other)
    assert archive.counts(first) == {"dog": (1, 10_000), "bird": (1, 10_000)}
    assert archive.tags(first) == ["dog", "bird"]
    assert archive.tags(first, archive.generation_id) == ["dog", "dog"]
    archive.write(row(first, "dog", "dog"))
    assert archive.tags(first) == ["dog", "bird"], "a result that was stored before is not new"
    archive.write(row(first, "dog", "dog", "dog"))
    assert archive.counts(first) == {"dog": (3, 30_000)}


def test_two_generations_that_write_an_image_at_once_leave_the_counts_of_one(archive: RegionArchive) -> None:
    image_id = archive.images[0]
    other = add_generation(archive.engine, "locator 2")
    writer = threading.Thread(target=archive.write, args=(row(image_id, "bird"),), kwargs={"generation_id": other})
    with unit_of_work(archive.engine) as session:
        regions.write_regions(session, [row(image_id, "dog")], Provenance(JOB, archive.generation_id, "none"))
        writer.start()
        while not session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
            assert writer.is_alive()
    writer.join()
    assert archive.counts(image_id) == {"bird": (1, 10_000)}
    assert archive.tags(image_id) == ["bird"]


@pytest.mark.parametrize("is_again", [False, True], ids=["a first result", "a result again"])
def test_the_last_result_that_was_written_stays_the_newest_whichever_transaction_began_first(
    archive: RegionArchive, is_again: bool
) -> None:
    image_id = archive.images[0]
    other = add_generation(archive.engine, "locator 2")
    if is_again:
        archive.write(row(image_id, "bird"))
    with unit_of_work(archive.engine) as session:
        session.execute(text("SELECT now()"))
        archive.write(row(image_id, "cat"), generation_id=other)
        regions.write_regions(session, [row(image_id, "dog")], Provenance(JOB, archive.generation_id, "none"))
    assert archive.tags(image_id) == ["dog"]
    archive.correct(image_id, "cup", place(7), is_there=True)
    assert archive.tags(image_id) == ["dog", "cup"]
    assert archive.counts(image_id) == {"dog": (1, 10_000), "cup": (1, 10_000)}


# Corrections --------------------------------------------------------------------------------------------------------


def test_a_rejected_region_stays_away_when_tags_are_located_again(archive: RegionArchive) -> None:
    image_id = archive.images[0]
    archive.write(row(image_id, "dog", "dog", "cat"))
    left, top, right, bottom = place(0)
    said = archive.correct(image_id, "DOG", (left, top, right + 0.01, bottom), is_there=False)
    assert archive.tags(image_id) == ["dog", "cat"]
    assert [region.number for region in archive.view(image_id).regions] == [1, 2]
    assert archive.counts(image_id)["dog"] == (1, 10_000)
    archive.write(row(image_id, "dog", "dog", "cat", "cat"), generation_id=add_generation(archive.engine, "locator 2"))
    assert archive.tags(image_id) == ["dog", "cat", "cat"]
    assert archive.counts(image_id)["dog"] == (1, 10_000)
    archive.withdraw(said)
    assert archive.counts(image_id)["dog"] == (2, 20_000)
    assert archive.tags(image_id) == ["dog", "dog", "cat", "cat"]


def test_a_drawn_region_takes_the_place_of_those_of_its_tag_that_are_there(archive: RegionArchive) -> None:
    image_id = archive.images[0]
    said = archive.correct(image_id, " golden   retriever", place(7), is_there=True)
    archive.write(row(image_id, "dog", "cat", "dog"))
    view = archive.view(image_id)
    assert [(r.tag, r.score, r.box, r.correction_id) for r in view.regions[2:]] == [
        ("dog", 0.9, place(2), None),
        ("golden retriever", 1.0, place(7), said),
    ]
    left, top, right, bottom = place(0)
    drawn = (left, top, right, round(bottom + 0.02, 4))
    moved = archive.correct(image_id, "dog", drawn, is_there=True)
    assert next((r.tag, r.box) for r in archive.view(image_id).regions) == ("dog", drawn)
    assert archive.counts(image_id)["dog"] == (2, 22_000)
    again = archive.correct(image_id, "dog", place(0), is_there=False)
    with unit_of_work(archive.engine) as session:
        views = region_corrections.of_image(session, image_id)
    assert [(view.id, view.tag, view.is_there, view.said_by) for view in views] == [
        (said, "golden retriever", True, "ann"),
        (again, "dog", False, "ann"),
    ]
    assert moved not in {view.id for view in views}
    assert archive.counts(image_id)["dog"] == (1, 10_000)


def test_a_correction_of_nothing_is_refused(archive: RegionArchive) -> None:
    image_id = archive.images[0]
    for tag in ("", "  ", "\x00", "\ud800", "x" * 201):
        with pytest.raises(UsageError, match="name of a tag"):
            archive.correct(image_id, tag, place(0), is_there=True)
    for box in ((0, 0, 1), (0, 0, 1, float("nan")), (-0.1, 0, 1, 1), (0, 0, 1, 2)):
        with pytest.raises(UsageError, match="from 0 to 1"):
            archive.correct(image_id, "dog", box, is_there=True)  # type: ignore[arg-type]
    for box in ((0.5, 0, 0.5, 1), (0, 0.5, 1, 0.4)):
        with pytest.raises(UsageError, match="left must be less than right"):
            archive.correct(image_id, "dog", box, is_there=True)
    for unknown in (10**6, 2**70):
        with pytest.raises(NotFoundError):
            archive.correct(unknown, "dog", place(0), is_there=True)
        with pytest.raises(NotFoundError):
            archive.withdraw(unknown)


# Erasing ------------------------------------------------------------------------------------------------------------


def test_erasing_an_image_leaves_none_of_its_regions(archive: RegionArchive) -> None:
    first, second, *_ = archive.images
    other = add_generation(archive.engine, "locator 2")
    archive.write(row(first, "dog"), row(second, "dog"))
    archive.write(row(first, "cat"), generation_id=other)
    archive.correct(first, "bird", place(3), is_there=True)
    with unit_of_work(archive.engine) as session:
        assert erasures.erase(session, [first]).localizations == 2
    for table in TABLES:
        assert archive.rows(f"SELECT DISTINCT image_id FROM {table}") == ([(second,)] if table != TABLES[2] else [])
    assert set(TABLES) < set(erasures.TABLES)


def test_after_a_generation_was_dropped_the_newest_of_the_others_counts(
    archive: RegionArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions, "AT_ONCE", 2)
    first, second, third, fourth = archive.images
    other = add_generation(archive.engine, "locator 2")
    archive.write(row(first, "dog", "dog"), row(second, "cat"))
    archive.write(row(first, "bird"), row(third, "bird"), row(fourth), generation_id=other)
    archive.correct(first, "dog", place(0), is_there=False)
    located = "SELECT image_id FROM located_image WHERE generation_id IS NOT NULL ORDER BY 1"
    with unit_of_work(archive.engine) as session:
        assert serving.drop(session, other).records == 3
    assert archive.counts(first) == {"dog": (1, 10_000)}
    assert archive.tags(first) == ["dog"]
    assert archive.rows(located) == [(first,), (second,)]
    assert archive.counts(third) == {}
    with unit_of_work(archive.engine) as session:
        serving.drop(session, archive.generation_id)
    assert archive.rows("SELECT count(*) FROM region_list") == [(0,)]
    assert archive.rows(located) == []


@pytest.mark.parametrize("change", ["correct", "withdraw"])
def test_dropping_a_generation_while_a_person_corrects_one_of_its_images_ends_both(
    archive: RegionArchive, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    image_id, leave_out = archive.images[0], regions.leave_out
    other = add_generation(archive.engine, "locator 2")
    archive.write(row(image_id, "dog"))
    archive.write(row(image_id, "bird"), generation_id=other)
    said = archive.correct(image_id, "cup", place(7), is_there=True)
    client = RegionClient(Databases(archive.engine), Search(missing))

    def correct() -> None:
        if change == "correct":
            client.correct(image_id, "cat", place(5), is_there=True)
        else:
            client.withdraw(image_id, said)

    with ThreadPoolExecutor(1) as thread:
        corrected: list[Future[None]] = []

        def then_correct(session: Session, generation_id: int) -> None:
            leave_out(session, generation_id)
            corrected.append(thread.submit(correct))
            waiting = """SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
                         WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"""
            while not session.scalar(text(waiting)):
                assert not corrected[0].done()

        monkeypatch.setattr(regions, "leave_out", then_correct)
        with unit_of_work(archive.engine) as session:
            assert serving.drop(session, other).records == 1
        corrected[0].result()
    assert archive.tags(image_id) == (["dog", "cup", "cat"] if change == "correct" else ["dog"])


# Jobs ---------------------------------------------------------------------------------------------------------------


def test_a_job_keeps_what_its_stage_was_asked_for(ledger: Ledger) -> None:
    asked = {"tags": ["dog", "\u732b"], "masks": True}
    with unit_of_work(ledger.engine) as session:
        archive = Archive(uri="s3://located")
        session.add(archive)
        session.flush()
        made = [
            jobs.create(
                session,
                archive=archive,
                source="s3://located",
                prefix="",
                model="grounding_dino",
                captioner="none",
                priority="normal",
                stage="locate",
                options=options,
            )
            for options in (asked, None)
        ]
    with unit_of_work(ledger.engine) as session:
        assert [jobs.view(session, job_id).options for job_id in made] == [asked, {}]
