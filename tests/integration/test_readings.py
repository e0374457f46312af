"""The text in images, on a real database: written, corrected by people, erased."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.results import erasures, line_corrections, partitions, readings, serving
from storage.results.reading_views import FoundLine, ReadingRow
from storage.results.records import Provenance
from tests.ledger import Ledger
from tests.reading_archive import JOB, ReadingArchive, add_text_generation, box, found, row

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.results.reading_views import Polygon

pytestmark = pytest.mark.services


@pytest.fixture
def archive(engine: Engine) -> ReadingArchive:
    return ReadingArchive.new(engine)


def correct(archive: ReadingArchive, image_id: int, polygon: Polygon, line: str | None) -> int:
    with unit_of_work(archive.engine) as session:
        return line_corrections.correct(session, image_id, polygon, line, "ann")


def withdraw(archive: ReadingArchive, correction_id: int) -> None:
    with unit_of_work(archive.engine) as session:
        line_corrections.withdraw(session, correction_id)


# Writing ------------------------------------------------------------------------------------------------------------


def test_what_was_read_is_what_is_shown(archive: ReadingArchive) -> None:
    first, second, third, _ = archive.images
    archive.write(row(second, "GIVE WAY", 'say "hi" \\ {x,y}', is_cut=True), row(first))
    with unit_of_work(archive.engine) as session:
        shown = readings.views(session, [third, second, first])
    assert sorted(shown) == [first, second]
    assert shown[first].lines == []
    assert (shown[second].model, shown[second].is_cut, shown[second].generation_id) == ("reader 1", True, 1)
    assert [(line.number, line.text, line.confidence, line.correction_id) for line in shown[second].lines] == [
        (1, "GIVE WAY", 0.9, None),
        (2, 'say "hi" \\ {x,y}', 0.9, None),
    ]
    assert shown[second].lines[0].polygon == box(0)


def test_nothing_is_shown_as_long_as_nothing_can_read(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        assert readings.views(session, [1]) == {}


def test_writing_twice_changes_nothing(archive: ReadingArchive) -> None:
    image_id = archive.images[0]
    state = """SELECT r.*, r.xmin::text, i.*, i.xmin::text
               FROM reading AS r LEFT JOIN reading_index AS i USING (image_id)"""
    archive.write(row(image_id, "give way"), row(archive.images[1]))
    before = archive.rows(state)
    archive.write(row(image_id, "give way"), row(archive.images[1]))
    assert archive.rows(state) == before
    assert archive.rows("SELECT image_id FROM reading_index") == [(image_id,)]


def test_a_new_reading_replaces_the_one_before_and_its_words(archive: ReadingArchive) -> None:
    image_id, other = archive.images[:2]
    archive.write(row(image_id, "Hospital entrance"), row(other, "entrance"))
    (before,) = archive.rows("SELECT xid::text FROM reading_index WHERE image_id = :id", id=image_id)
    archive.write(row(image_id, "Hospice", version="v2"))
    assert archive.texts(image_id) == ["Hospice"]
    assert archive.having("hospital") == []
    assert archive.having("hospice") == [image_id]
    assert archive.dictionary() == ["entrance", "hospice"]
    (after,) = archive.rows("SELECT xid::text FROM reading_index WHERE image_id = :id", id=image_id)
    assert int(after[0]) > int(before[0])


def test_the_failure_of_an_image_that_was_read_after_all_is_deleted(archive: ReadingArchive) -> None:
    first, second, *_ = archive.images
    ledger = Ledger.new(archive.engine)
    job, other_job = ledger.make_job(), ledger.make_job()
    with unit_of_work(archive.engine) as session:
        for image_id, job_id in ((first, job), (second, job), (first, other_job)):
            session.execute(
                text(
                    """INSERT INTO failure (job_id, image_id, generation_id, version, error_class, about_content,
                           detail, attempts) VALUES (:job, :id, 1, 'v1', 'x', false, '', 1)"""
                ),
                {"job": job_id, "id": image_id},
            )
    archive.write(row(first, "text"), job_id=job)
    assert archive.rows("SELECT job_id, image_id FROM failure ORDER BY 1, 2") == [(job, second), (other_job, first)]


def test_any_text_can_be_stored(archive: ReadingArchive) -> None:
    image_id = archive.images[0]
    plain = ["', 'x':1", "\\'\\\\", "{}", "NULL", "", "  ", "\U0001f600", "%s :a &|!<->"]
    archive.write(row(image_id, "a\x00b", "\ud83d", "e\u0301", *plain))
    assert archive.texts(image_id) == ["a b", " ", "\u00e9", *plain]
    assert archive.having("x & null & e") == [image_id]


@pytest.mark.parametrize("line", ["word ", "\u732b", "\U00020000", "\u01c4\u03b1-", "x'y "])
def test_a_picture_full_of_text_stays_within_the_limits(archive: ReadingArchive, line: str) -> None:
    image_id = archive.images[0]
    lines = [f"{n:04x}{line * 1_000}"[:1_000] for n in range(1_000)]
    archive.write(ReadingRow(image_id, "v1", [FoundLine(each, 1.0, box(0)) for each in lines], is_cut=True))
    assert len(archive.texts(image_id)) == 1_000
    assert archive.having("'0000':*") == [image_id]


def test_many_different_long_words_stay_within_the_limits(archive: ReadingArchive) -> None:
    image_id = archive.images[0]
    words = [f"{n:08}" + "\u13a0" * 100 for n in range(8_000)]
    lines = [" ".join(words[n : n + 8]) for n in range(0, 8_000, 8)]
    archive.write(row(image_id, *lines[:10]))
    archive.write(ReadingRow(image_id, "v1", [FoundLine(each, 1.0, box(0)) for each in lines], is_cut=True))
    assert len(archive.texts(image_id)) == 1_000


def test_corners_beyond_the_picture_are_moved_to_its_edge(archive: ReadingArchive) -> None:
    image_id = archive.images[0]
    beyond = ((-0.5, 0.1), (1.5, 0.1), (1.00004, 0.2), (0.0, 0.2))
    archive.write(ReadingRow(image_id, "v1", [FoundLine("x", 1.7, beyond)], is_cut=False))
    (line,) = archive.lines(image_id)
    assert line.polygon == ((0.0, 0.1), (1.0, 0.1), (1.0, 0.2), (0.0, 0.2))
    assert line.confidence == 1.0


def test_two_generations_have_their_own_readings(archive: ReadingArchive) -> None:
    image_id = archive.images[0]
    other = add_text_generation(archive.engine, "reader 2")
    archive.write(row(image_id, "one"))
    archive.write(row(image_id, "two"), generation_id=other)
    assert archive.texts(image_id) == ["one"]
    assert archive.texts(image_id, other) == ["two"]
    with unit_of_work(archive.engine) as session:
        serving.use(session, other)
    assert archive.texts(image_id) == ["two"]


def test_batches_with_common_images_and_words_do_not_wait_for_each_other_in_a_ring(archive: ReadingArchive) -> None:
    errors: list[BaseException] = []
    words = [f"word{n:03}" for n in range(200)]

    def run(turn: int) -> None:
        try:
            for n in range(6):
                order = archive.images if (turn + n) % 2 else archive.images[::-1]
                said = words[:: 1 if turn % 2 else -1][n * 10 :]
                archive.write(*(row(image_id, " ".join(said), f"{turn} {n}") for image_id in order))
        except BaseException as error:  # noqa: BLE001  (a thread's error would be lost)
            errors.append(error)

    threads = [threading.Thread(target=run, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    stand = {word for (word,) in archive.rows("SELECT word FROM ts_stat('SELECT words FROM reading_index')")}
    assert {word for word in stand if len(word) > 3} == set(archive.dictionary())


# Corrections --------------------------------------------------------------------------------------------------------


def test_a_corrected_line_is_found_by_its_right_words_and_survives_being_read_again(archive: ReadingArchive) -> None:
    image_id = archive.images[0]
    other = add_text_generation(archive.engine, "reader 2")
    archive.write(row(image_id, "HOSPIIAI", "exit"))
    archive.write(row(image_id, "HOSPITAI"), generation_id=other)
    correction_id = correct(archive, image_id, box(0, height=0.085), " HOSPITAL  north ")
    for generation_id in (archive.generation_id, other):
        first = archive.lines(image_id, generation_id)[0]
        assert (first.text, first.confidence, first.correction_id) == ("HOSPITAL north", 1.0, correction_id)
    assert archive.texts(image_id) == ["HOSPITAL north", "exit"]
    assert archive.having("hospital") == [image_id]
    assert archive.having("hospiiai | hospitai") == []
    assert archive.dictionary() == ["exit", "hospital", "north"]

    archive.write(row(image_id, "HOSP1TAL", "exit", version="v2"))
    assert archive.texts(image_id) == ["HOSPITAL north", "exit"]
    assert archive.having("hosp1tal") == []
    third = add_text_generation(archive.engine, "reader 3")
    archive.write(row(image_id, "H"), generation_id=third)
    assert archive.texts(image_id, third) == ["HOSPITAL north"]

    withdraw(archive, correction_id)
    assert archive.texts(image_id) == ["HOSP1TAL", "exit"]
    assert archive.having("hosp1tal") == [image_id]
    assert archive.having("hospital | north") == []
    assert archive.dictionary() == ["exit", "hosp1tal", "hospitai"]


def test_a_line_that_the_reader_did_not_see_can_be_drawn(archive: ReadingArchive) -> None:
    blank, full, unread, _ = archive.images
    archive.write(row(blank), row(full, "first", "third"))
    correct(archive, blank, box(3), "drawn")
    assert (archive.texts(blank), archive.having("drawn")) == (["drawn"], [blank])
    between = ((0.1, 0.095), (0.9, 0.095), (0.9, 0.105), (0.1, 0.105))
    correct(archive, full, between, "second")
    assert archive.texts(full) == ["first", "second", "third"]
    correct(archive, unread, box(0), "early")
    archive.write(row(unread, "eariy"))
    assert archive.texts(unread) == ["early"]


def test_one_correction_can_replace_several_lines_and_say_that_there_is_no_text(archive: ReadingArchive) -> None:
    image_id = archive.images[0]
    archive.write(row(image_id, "top", "left", "right", "end"))
    both = ((0.0, 0.1), (1.0, 0.1), (1.0, 0.3), (0.0, 0.3))
    correct(archive, image_id, both, "left right")
    assert archive.texts(image_id) == ["top", "left right", "end"]
    correct(archive, image_id, box(0), None)
    assert archive.texts(image_id) == ["left right", "end"]
    assert archive.having("top") == []


def test_a_later_correction_of_the_same_place_replaces_the_earlier_one(archive: ReadingArchive) -> None:
    image_id = archive.images[0]
    archive.write(row(image_id, "wrong"))
    correct(archive, image_id, box(0), "wring")
    last = correct(archive, image_id, box(0), "ring")
    assert archive.texts(image_id) == ["ring"]
    assert archive.rows("SELECT id, text, said_by FROM line_correction") == [(last, "ring", "ann")]
    withdraw(archive, last)
    assert archive.texts(image_id) == ["wrong"]


def test_a_correction_of_nothing_is_refused(archive: ReadingArchive) -> None:
    image_id = archive.images[0]
    for line in ("", " \t", "\x00"):
        with pytest.raises(UsageError, match="empty"):
            correct(archive, image_id, box(0), line)
    with pytest.raises(UsageError, match="1,000 characters"):
        correct(archive, image_id, box(0), "x" * 1_001)
    with pytest.raises(UsageError, match="four corners"):
        correct(archive, image_id, box(0)[:3], "x")
    with pytest.raises(UsageError, match="from 0 to 1"):
        correct(archive, image_id, (*box(0)[:3], (float("nan"), 0.0)), "x")
    for unknown in (10**6, 2**70):
        with pytest.raises(NotFoundError):
            correct(archive, unknown, box(0), "x")
        with pytest.raises(NotFoundError):
            withdraw(archive, unknown)


# Erasing ------------------------------------------------------------------------------------------------------------


def test_erasing_an_image_leaves_none_of_its_words(archive: ReadingArchive) -> None:
    first, second, third, _ = archive.images
    other = add_text_generation(archive.engine, "reader 2")
    archive.write(row(first, "secret common"), row(second, "common"), row(third, "elsewhere"))
    archive.write(row(first, "secrel common"), row(third, "secret"), generation_id=other)
    correct(archive, first, box(5), "private")
    with unit_of_work(archive.engine) as session:
        assert erasures.erase(session, [first]).readings == 2
    assert archive.dictionary() == ["common", "elsewhere", "secret"]
    assert archive.rows("SELECT count(*) FROM line_correction") == [(0,)]
    assert archive.having("secret") == [third]


def test_words_that_are_being_written_are_not_taken_away(archive: ReadingArchive) -> None:
    first, second, *_ = archive.images
    archive.write(row(first, "shared"))
    done = threading.Event()

    def erase() -> None:
        with unit_of_work(archive.engine) as session:
            erasures.erase(session, [first])
        done.set()

    with unit_of_work(archive.engine) as session:
        readings.write_readings(session, [row(second, "shared")], Provenance(JOB, archive.generation_id, "none"))
        eraser = threading.Thread(target=erase)
        eraser.start()
        while not session.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")):
            assert eraser.is_alive()
        assert not done.is_set()
    eraser.join()
    assert archive.dictionary() == ["shared"]


def test_dropping_a_generation_takes_its_words_and_no_others(archive: ReadingArchive) -> None:
    image_id = archive.images[0]
    other = add_text_generation(archive.engine, "reader 2")
    archive.write(row(image_id, "common first"))
    archive.write(row(image_id, "common other"), generation_id=other)
    with unit_of_work(archive.engine) as session:
        assert serving.drop(session, archive.generation_id).records == 1
    assert archive.dictionary() == ["common", "other"]
    assert archive.texts(image_id, other) == ["common other"]


def test_each_part_of_a_generation_has_the_indexes(archive: ReadingArchive) -> None:
    indexes = archive.rows("SELECT tablename, indexdef FROM pg_indexes WHERE tablename LIKE 'reading_index_g1_p%'")
    assert len({table for table, _ in indexes}) == partitions.PARTS
    assert sum("gin (words)" in definition for _, definition in indexes) == partitions.PARTS
    assert found("x")[0].polygon == box(0)
