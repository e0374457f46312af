"""Moved and renamed files keep their image, and with it everything that people said of it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.ledger import endings
from storage.results import generations, moves, readings
from storage.results.generations import StageSpec
from storage.results.reading_views import FoundLine, ReadingRow
from storage.results.records import Provenance
from storage.search.views import SearchQuery
from tests import crop_archive
from tests.readings import rectangle
from tests.same_picture import Photos, picture
from workers import ending

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.services

BOX = (0.1, 0.1, 0.5, 0.5)
LINE = rectangle(0.1, 0.2, 0.5, 0.3)


def move(photos: Photos, old: str, new: str) -> None:
    (photos.root / new).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(photos.root / old, photos.root / new)


def read(photos: Photos, image_id: int, *words: str) -> None:
    """Write lines as a worker does that read these."""
    with unit_of_work(photos.services.engine) as session:
        number = generations.ensure_of_stage(session, StageSpec("text", "made up", "made up", "", ""))
        version = session.scalar(text("SELECT version FROM image WHERE id = :id"), {"id": image_id})
        lines = [FoundLine(word, 0.9, LINE) for word in words]
        readings.write_readings(
            session, [ReadingRow(image_id, version, lines, is_cut=False)], Provenance(1, number, "")
        )


def in_a_dataset(photos: Photos, *image_ids: int) -> None:
    """Put images in a data set, with a label and a review of it."""
    dataset = photos.scalar(
        """INSERT INTO dataset (name, vocabulary_id, said_by) SELECT 'birds', id, 'ann' FROM vocabulary LIMIT 1
           RETURNING id"""
    )
    version = photos.scalar(
        "INSERT INTO dataset_version (dataset_id, number, step, said_by) VALUES (:id, 1, 'build', 'ann') RETURNING id",
        id=dataset,
    )
    for table in ("dataset_item", "dataset_label"):
        with unit_of_work(photos.services.engine) as session:
            session.execute(text(f"CREATE TABLE {table}_x PARTITION OF {table} FOR VALUES IN ({version})"))
    for image_id in image_ids:
        photos.scalar(
            """INSERT INTO dataset_item (image_id, version_id, version) SELECT id, :version, version FROM image
               WHERE id = :id RETURNING image_id""",
            id=image_id,
            version=version,
        )
        photos.scalar(
            """INSERT INTO dataset_label (image_id, version_id, tag_id, origins) VALUES (:id, :version, 3, '{given}')
               RETURNING image_id""",
            id=image_id,
            version=version,
        )
        photos.scalar(
            """INSERT INTO dataset_review (image_id, dataset_id, tag_id, was_dropped, is_right, said_by)
               VALUES (:id, :dataset, 3, false, true, 'ann') RETURNING image_id""",
            id=image_id,
            dataset=dataset,
        )


SAID = {
    "tags": "SELECT name, is_present, said_by FROM correction WHERE image_id = :id ORDER BY name",
    "lines": "SELECT corners, text, said_by FROM line_correction WHERE image_id = :id ORDER BY id",
    "regions": "SELECT tag, box, is_there, said_by FROM region_correction WHERE image_id = :id ORDER BY id",
    "items": "SELECT version_id, captions FROM dataset_item WHERE image_id = :id",
    "labels": "SELECT version_id, tag_id, origins FROM dataset_label WHERE image_id = :id",
    "reviews": "SELECT dataset_id, tag_id, is_right, said_by FROM dataset_review WHERE image_id = :id",
}


def said(photos: Photos, image_id: int) -> dict[str, list[Any]]:
    return {name: [tuple(row) for row in photos.rows(statement, id=image_id)] for name, statement in SAID.items()}


def say_everything(photos: Photos, image_id: int) -> dict[str, list[Any]]:
    """Correct everything that can be corrected. Return what was said."""
    services = photos.services
    services.corrections.tag([image_id], add=["tag 3"], remove=["tag 4"], by="ann")
    read(photos, image_id, "harbuor")
    services.readings.correct(image_id, LINE, "harbour", "ann")
    crop_archive.locate(services, image_id, "dog")
    services.regions.correct(image_id, "cat", BOX, is_there=True, said_by="ann")
    in_a_dataset(photos, image_id)
    return said(photos, image_id)


def test_a_renamed_file_keeps_its_image_and_everything_that_people_said_of_it(photos: Photos) -> None:
    image_id = photos.ids()["a.png"]
    before, record = say_everything(photos, image_id), photos.record(image_id)
    assert all(before.values())
    move(photos, "a.png", "renamed/e.png")
    job = photos.run()
    assert (job.state, job.listed, job.done, job.copied, job.skipped, photos.asked) == ("done", 3, 1, 1, 2, 0)
    assert photos.ids()["renamed/e.png"] == image_id
    assert (set(photos.ids()), photos.missing()) == ({"renamed/e.png", "b/c.png", "d.png"}, [])
    assert (said(photos, image_id), photos.record(image_id)) == (before, record)
    services = photos.services
    view = services.images.get(image_id)
    assert "tag 3" in [tag.name for tag in view.tags]
    assert [line.text for line in services.readings.get(image_id).lines] == ["harbour"]
    assert {region.tag for region in services.regions.get(image_id).regions} == {"dog", "cat"}
    assert photos.run().skipped == 3


def test_searches_find_a_moved_image_under_its_new_key_and_the_other_one_nowhere(photos: Photos) -> None:
    services, image_id = photos.services, photos.ids()["a.png"]
    say_everything(photos, image_id)
    builder = make_builder(services.settings, services.engine)
    builder.publish_new(1)
    move(photos, "a.png", "e.png")
    photos.run()
    for is_published in (False, True):
        if is_published:
            builder.publish_new(1)
        for query in ("", '"tag 3"', "count:cat>=1", "read:harbour"):
            page = services.search.page(services.search.read(SearchQuery(), query))
            assert ("e.png" in [hit.key for hit in page.items], "a.png" in [hit.key for hit in page.items]) == (
                True,
                False,
            )
        assert services.search.page(SearchQuery()).total == 3
    report = services.jobs.report(2)
    assert (report.lines, report.erased, report.done, report.skipped) == (3, 0, 1, 2)


def test_a_folder_that_was_renamed_keeps_all_its_images(photos: Photos) -> None:
    for number in range(9):
        picture(photos.root / f"old/{number}.png", number % 5 + 10)  # some of them twice
    photos.run()
    before = {key: image_id for key, image_id in photos.ids().items() if key.startswith("old/")}
    for number, image_id in enumerate(before.values()):
        photos.services.corrections.tag([image_id], add=[f"tag {number}"])
    move(photos, "old", "new")
    assert photos.run().copied == 9
    after = photos.ids()
    assert {
        key.replace("new/", "old/"): image_id for key, image_id in after.items() if key.startswith("new/")
    } == before
    assert photos.missing() == []


def test_a_moved_image_keeps_the_results_of_other_generations(photos: Photos) -> None:
    image_id = photos.ids()["a.png"]
    photos.scalar(
        """INSERT INTO generation (fingerprint, model, weights_sha256, preprocessing, vector_kind, vector_size,
               vocabulary_id) SELECT 'older', 'lite', '1', '', 'tags', 16, vocabulary_id FROM generation LIMIT 1
           RETURNING id"""
    )
    from storage.results import partitions  # noqa: PLC0415

    with unit_of_work(photos.services.engine) as session:
        other = session.scalar(text("SELECT id FROM generation WHERE fingerprint = 'older'"))
        partitions.ensure(session, other)
        session.execute(
            text(
                """INSERT INTO record SELECT image_id, :other, job_id, version, tags, scores, 'older', captioner, width,
                   height, recorded_at, sha256, precision FROM record WHERE image_id = :id"""
            ),
            {"other": other, "id": image_id},
        )
    move(photos, "a.png", "e.png")
    photos.run()
    rows = photos.rows("SELECT caption FROM record WHERE image_id = :id ORDER BY generation_id", id=image_id)
    assert [row.caption for row in rows][-1] == "older"
    assert len(rows) == 2


@pytest.mark.parametrize("is_listed_first", [True, False])
def test_the_order_in_which_the_old_and_the_new_key_are_seen_does_not_matter(
    photos: Photos, *, is_listed_first: bool
) -> None:
    """A job on the new folder alone reads the file before, or only after, the old key is known to be gone."""
    image_id = photos.ids()["a.png"]
    before = say_everything(photos, image_id)
    move(photos, "a.png", "z/e.png")
    if is_listed_first:
        assert photos.run(str(photos.root / "z")).copied == 1
        assert set(photos.ids()) == {"a.png", "b/c.png", "d.png", "z/e.png"}
    job = photos.run()
    assert (job.done, job.skipped) == ((0, 3) if is_listed_first else (1, 2))
    assert (photos.ids()["z/e.png"], photos.missing()) == (image_id, [])
    assert said(photos, image_id) == before
    assert photos.services.jobs.report(job.id).erased == 0


def test_a_file_that_moves_while_a_job_lists_is_found_by_the_next_one(photos: Photos) -> None:
    """Its old key was listed already, and its new one is listed later, by the same job."""
    image_id = photos.ids()["a.png"]
    before = say_everything(photos, image_id)
    services, worker = photos.services, photos.worker
    shutil.copy(photos.root / "a.png", photos.root / "z.png")
    photos.run()
    (photos.root / "a.png").unlink()
    photos.run()
    assert (photos.ids()["z.png"], photos.missing()) == (image_id, [])
    assert said(photos, image_id) == before
    assert worker is not None
    assert services.search.page(SearchQuery()).total == 3


def test_a_copy_that_was_there_before_stays_if_nothing_was_said_of_the_deleted_one(photos: Photos) -> None:
    shutil.copy(photos.root / "a.png", photos.root / "z.png")
    photos.run()
    before = photos.ids()
    (photos.root / "a.png").unlink()
    photos.run()
    assert photos.missing() == ["a.png"]
    assert photos.ids()["z.png"] == before["z.png"]


def test_of_two_images_that_people_spoke_about_both_stay(photos: Photos) -> None:
    shutil.copy(photos.root / "a.png", photos.root / "z.png")
    photos.run()
    ids = photos.ids()
    photos.services.corrections.tag([ids["a.png"]], add=["tag 3"])
    photos.services.corrections.tag([ids["z.png"]], add=["tag 5"])
    (photos.root / "a.png").unlink()
    photos.run()
    assert photos.missing() == ["a.png"]
    assert [row[0] for row in said(photos, ids["a.png"])["tags"]] == ["tag 3"]
    assert [row[0] for row in said(photos, ids["z.png"])["tags"]] == ["tag 5"]


def test_one_file_that_became_several_continues_at_the_first_key(photos: Photos) -> None:
    image_id = photos.ids()["a.png"]
    before = say_everything(photos, image_id)
    for name in ("x/1.png", "x/2.png", "x/3.png"):
        (photos.root / "x").mkdir(exist_ok=True)
        shutil.copy(photos.root / "a.png", photos.root / name)
    (photos.root / "a.png").unlink()
    job = photos.run()
    assert (job.done, job.copied) == (3, 3)
    assert (photos.ids()["x/1.png"], photos.missing(), len(photos.ids())) == (image_id, [], 5)
    assert said(photos, image_id) == before


def test_what_was_said_of_the_new_image_meanwhile_is_kept_too(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = photos.ids()["a.png"]
    before = say_everything(photos, image_id)
    move(photos, "a.png", "e.png")
    monkeypatch.setattr(moves, "settle", lambda *_: moves.Settled(0, None))
    photos.run()
    fresh = photos.ids()["e.png"]
    services = photos.services
    services.corrections.tag([fresh], add=["tag 4", "tag 7"], by="bob")
    read(photos, fresh, "seagull")
    services.readings.correct(fresh, rectangle(0.6, 0.6, 0.9, 0.7), "pier", "bob")
    crop_archive.locate(services, fresh, "ball")
    services.regions.correct(fresh, "bird", (0.6, 0.6, 0.9, 0.9), is_there=True, said_by="bob")
    photos.scalar("UPDATE dataset_version SET number = 1 RETURNING 1")
    photos.rows(
        "INSERT INTO teaching (vocabulary_id, base_id, from_generation_id, said_by) "
        "SELECT id, id, 1, 'bob' FROM vocabulary RETURNING 1"
    )
    photos.rows(
        "INSERT INTO head (vocabulary_id, tag_id, method, weights, own, bias, yes, no, report, said_by) "
        "SELECT id, 1, 'head', '', 0, 0, CAST(ARRAY[9, :fresh, :kept] AS bigint[]), CAST(ARRAY[:fresh] AS bigint[]), "
        "'{}', 'bob' FROM vocabulary RETURNING 1",
        fresh=fresh,
        kept=image_id,
    )
    monkeypatch.undo()
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE job SET state = 'running', looked_for_moves = false WHERE id = 2"))
    assert ending.finish_jobs(services.engine) == [2]
    after = said(photos, image_id)
    assert after["tags"] == [("tag 3", True, "ann"), ("tag 4", True, "bob"), ("tag 7", True, "bob")]
    assert [row[1] for row in after["lines"]] == ["harbour", "pier"]
    assert {row[0] for row in after["regions"]} == {"cat", "bird"}
    assert (after["items"], after["reviews"]) == (before["items"], before["reviews"])
    [head] = photos.rows("SELECT yes, no FROM head")
    assert (head.yes, head.no) == ([9, image_id], [image_id])
    assert photos.rows("SELECT FROM image WHERE id = :id", id=fresh) == []
    lines = services.readings.get(image_id).lines
    assert {line.text for line in lines} == {"harbour", "pier"}
    assert {region.tag for region in services.regions.get(image_id).regions} == {"ball", "cat", "bird"}
    counted = services.search.page(services.search.read(SearchQuery(), "count:bird>=1"))
    assert [hit.image_id for hit in counted.items] == [image_id]
    assert photos.scalar("SELECT words @@ 'pier'::tsquery FROM reading_index WHERE image_id = :id", id=image_id)


def test_a_worker_that_dies_between_two_steps_leaves_the_rest_to_the_next(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        picture(photos.root / f"old/{number}.png", number + 10)
    photos.run()
    before = photos.ids()
    move(photos, "old", "new")
    monkeypatch.setattr(moves, "AT_ONCE", 2)
    settle, calls = moves.settle, []

    def dies(*args: Any) -> moves.Settled:
        calls.append(None)
        moved = settle(*args)
        if len(calls) == 2:
            raise RuntimeError("killed")
        return moved

    monkeypatch.setattr(moves, "settle", dies)
    job = photos.services.jobs.create(str(photos.root))
    with pytest.raises(RuntimeError):
        crop_archive.work(photos.services, photos.worker, job)
    assert photos.services.jobs.get(job.id).state == "running"
    assert len(photos.missing()) == 4
    assert crop_archive.work(photos.services, photos.worker, job).state == "done"
    after = photos.ids()
    assert {f"new/{number}.png": before[f"old/{number}.png"] for number in range(6)}.items() <= after.items()
    assert photos.missing() == []


def test_two_workers_that_end_a_job_at_once_move_nothing_twice(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = photos.ids()["a.png"]
    move(photos, "a.png", "e.png")
    services, settle, seen = photos.services, moves.settle, []

    def while_another_one_ends_it_too(*args: Any) -> moves.Settled:
        moved = settle(*args)
        if not seen:
            seen.append(None)
            assert ending.finish_jobs(services.engine) == []  # the first one holds the job
        return moved

    monkeypatch.setattr(moves, "settle", while_another_one_ends_it_too)
    assert photos.run().state == "done"
    assert (photos.ids()["e.png"], photos.missing(), len(seen)) == (image_id, [], 1)
    with unit_of_work(services.engine) as session:
        assert settle(session, 1).moved == 0
        assert endings.next_for_moves(session) is None


def test_moves_stay_within_an_archive(photos: Photos, tmp_path: Path) -> None:
    image_id = photos.ids()["a.png"]
    (tmp_path / "elsewhere").mkdir()
    shutil.move(photos.root / "a.png", tmp_path / "elsewhere/a.png")
    assert photos.run(str(tmp_path / "elsewhere")).copied == 1
    photos.run()
    assert photos.missing() == ["a.png"]
    assert photos.scalar("SELECT id FROM image WHERE archive_id = 1 AND key = 'a.png'") == image_id


def test_a_cancelled_job_keeps_no_move_from_being_found(photos: Photos) -> None:
    image_id = photos.ids()["a.png"]
    photos.services.corrections.tag([image_id], add=["tag 3"], by="ann")
    move(photos, "a.png", "e.png")
    job = photos.services.jobs.create(str(photos.root))
    while photos.worker._planner.begin(lambda: False) or photos.worker._planner.go_on(lambda: False):
        pass
    photos.services.jobs.cancel(job.id)
    photos.run()
    assert photos.ids()["e.png"] == image_id
