"""Deletions that can be proved: nothing is left anywhere, or it is told where something is."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text

from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.index.feature_compaction import compact as compact_features
from storage.index.feature_files import FeatureFiles
from storage.index.garbage import collect_garbage
from storage.results import erasures, features, line_corrections, serving
from storage.search.views import SearchQuery
from tests.reading_archive import ReadingArchive, add_text_generation, box, row
from tests.services.recognised import CAT, PHOTOGRAPHS, recognise
from tests.services.web import assert_problem, services_of

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from storage.results.erasure_views import ErasureReport

pytestmark = pytest.mark.services


def every_id(services: Services) -> list[int]:
    return sorted(hit.image_id for hit in services.search.page(SearchQuery(limit=100)).items)


def left(report: ErasureReport) -> dict[str, int]:
    return {trace.place: trace.left for trace in report.traces if trace.left}


def publish(services: Services) -> None:
    make_builder(services.settings, services.engine).publish_new(1, force=True)


def purge(services: Services) -> None:
    """What `ramq index compact` does, a quarter of an hour later."""
    builder = make_builder(services.settings, services.engine)
    builder.compact(1, purge=True)
    collect_garbage(services.engine, builder.store, grace_seconds=0)
    compact_features(services.engine, builder.store.place, purge=True, grace_seconds=0)


def test_a_deleted_image_is_gone_from_tables_and_searches_at_once_and_from_files_after_compaction(
    client: TestClient,
) -> None:
    services = services_of(client)
    publish(services)
    victim = services.images.find("coffee.png")
    files = FeatureFiles(make_builder(services.settings, services.engine).store.place)
    file = files.write(1, "tokens", np.zeros((1, 4), dtype=np.uint8))
    with unit_of_work(services.engine) as session:
        features.link(session, 1, file, {victim: (0, "1")})
    services.corrections.tag([victim], add=[CAT])
    services.images.thumbnail(victim)
    reading = ReadingArchive(services.engine, add_text_generation(services.engine), [victim])
    reading.write(row(victim, "coffee"))
    with unit_of_work(services.engine) as session:
        line_corrections.correct(session, victim, box(3), "espresso", "ann")
    assert reading.dictionary() == ["coffee", "espresso"]
    report = client.delete(f"/v1/images/{victim}").json()
    for name in ("images", "records", "vectors", "corrections", "features", "readings", "thumbnails"):
        assert report[name] == 1, name
    assert reading.dictionary() == []
    assert victim not in every_id(services)
    before = services.erasures.verify(report["deletion_id"])
    assert not before.is_clean
    places = left(before)
    assert places.pop("files of features") == 1
    [(place, rows)] = places.items()
    assert "segment-" in place
    assert rows == 1
    purge(services)
    after = services.erasures.verify(report["deletion_id"])
    assert (after.is_clean, left(after)) == (True, {})
    assert len(after.traces) > len(erasures.TABLES)


def test_a_report_has_who_when_how_many_and_a_hash_but_no_key_unless_asked(client: TestClient) -> None:
    services = services_of(client)
    victims = [services.images.find("coffee.png"), services.images.find("chelsea.png")]
    done = services.erasures.delete(["coffee.png", "chelsea.png"], by="ann")
    [view] = services.erasures.list()
    assert (view.id, view.kind, view.said_by, view.images) == (done.deletion_id, "images", "ann", 2)
    assert view.finished_at is not None
    assert view.finished_at >= view.begun_at
    lines = "".join(f"{image_id}\n" for image_id in sorted(victims))
    assert view.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    with unit_of_work(services.engine) as session:
        rows = session.execute(text("SELECT deletion::text, part::text FROM deletion, deletion_part AS part")).all()
    assert "coffee" not in str(rows)
    report = services.erasures.verify(done.deletion_id, tells_images=True)
    assert (report.ids, report.keys) == (sorted(victims), None)
    kept = services.erasures.delete(["rocket.jpg"], keeps_keys=True)
    assert services.erasures.verify(kept.deletion_id, tells_images=True).keys == ["rocket.jpg"]
    with pytest.raises(NotFoundError, match="no deletion 99"):
        services.erasures.verify(99)


def test_what_somebody_put_back_into_the_books_is_noticed(client: TestClient) -> None:
    services = services_of(client)
    victim = services.images.find("coffee.png")
    done = services.erasures.delete([victim])
    with unit_of_work(services.engine) as session:
        session.execute(
            text("INSERT INTO image (id, archive_id, key, version, size) VALUES (:id, 1, 'coffee.png', '1', 1)"),
            {"id": victim},
        )
    services.images.thumbnail(victim)
    assert left(services.erasures.verify(done.deletion_id)) == {"table image": 1, "thumbnails of this machine": 1}
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE deletion_part SET image_ids = '{[1,2)}'"))
    assert any("changed" in place for place in left(services.erasures.verify(done.deletion_id)))


@pytest.mark.parametrize("step", ["note", "close_part", "finish"])
def test_a_deletion_that_is_killed_at_any_step_is_finished_by_the_same_request(
    client: TestClient, archive: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    services = services_of(client)
    every = every_id(services)
    services.images.thumbnail(every[0])
    monkeypatch.setattr(erasures, "IMAGES_AT_ONCE", 4)
    whole, calls = getattr(erasures, step), []

    def dying(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == (1 if step == "finish" else 3):
            raise KeyboardInterrupt
        whole(*arguments)

    monkeypatch.setattr(erasures, step, dying)
    with pytest.raises(KeyboardInterrupt):
        services.erasures.delete_below("", str(archive))
    monkeypatch.setattr(erasures, step, whole)
    assert not services.erasures.verify(services.erasures.list()[0].id).is_clean
    services.erasures.count_below("", str(archive))  # which asks before it resumes, even if no image is left
    done = services.erasures.delete_below("", str(archive))
    assert done.images == PHOTOGRAPHS + 3  # two of them are no pictures
    assert (done.records, done.failures) == (len(every), 2)
    assert done.thumbnails > 0
    assert [view.id for view in services.erasures.list()] == [done.deletion_id]
    purge(services)
    assert services.erasures.verify(done.deletion_id).is_clean
    assert every_id(services) == []
    # The next one is another one.
    with pytest.raises(NotFoundError, match="the archive has no images: nothing to erase"):
        services.erasures.delete_below("", str(archive))


def test_a_prefix_below_an_archive_takes_what_is_there_and_nothing_beside(client: TestClient, archive: Path) -> None:
    services = services_of(client)
    every = every_id(services)
    assert services.erasures.count_below("", f"{archive}/odd") == 1
    with pytest.raises(NotFoundError, match="no key below 'odd/' begins with 'chelsea'"):
        services.erasures.delete_below("chelsea", f"{archive}/odd")
    assert services.erasures.delete_below("", f"{archive}/odd").images == 1
    assert len(every_id(services)) == len(every) - 1
    assert_problem(client.delete("/v1/images/999999"), 404, "not-found")


@pytest.mark.parametrize("blank", ["", " "])
def test_an_archive_without_a_name_is_not_all_of_them(client: TestClient, blank: str) -> None:
    services = services_of(client)
    every = every_id(services)
    for destroy in (
        lambda: services.erasures.delete(["coffee.png"], blank),
        lambda: services.erasures.delete_below("", blank),
        lambda: services.erasures.delete_below("c", blank),
        lambda: services.erasures.count_below("", blank),
        lambda: services.generations.forget(1, archive=blank, sure=True),
        lambda: services.generations.compare(1, 2, archive=blank),
    ):
        with pytest.raises(UsageError, match="the source is empty"):
            destroy()
    assert every_id(services) == every
    assert services.erasures.list() == []


def test_all_images_of_all_archives_are_not_erased_at_once(client: TestClient) -> None:
    services = services_of(client)
    every = every_id(services)
    with pytest.raises(UsageError, match="give an archive or a prefix"):
        services.erasures.delete_below("")
    with pytest.raises(UsageError, match="the prefix is empty"):
        services.generations.forget(1, prefix="", sure=True)
    assert every_id(services) == every


# Forgetting what a model wrote ----------------------------------------------------------------------------------------


def test_what_a_model_wrote_is_forgotten_and_what_a_person_said_is_not(client: TestClient, archive: Path) -> None:
    services = services_of(client)
    publish(services)
    every = every_id(services)
    cup = services.images.find("coffee.png")
    services.corrections.tag([cup], add=[CAT])
    with pytest.raises(ConflictError, match=f"find 0 images instead of {len(every)} "):
        services.generations.forget(1)
    done = services.generations.forget(1, sure=True)
    assert (done.records, done.vectors) == (len(every), len(every))
    assert every_id(services) == []
    assert services.archives.list()[0].images == len(every) + 2
    assert recognise(services, str(archive)).done == len(every)
    assert cup in {hit.image_id for hit in services.search.page(SearchQuery(tags=(CAT,))).items}
    publish(services)
    assert every_id(services) == every


@pytest.mark.parametrize("is_published", [True, False])
def test_a_part_of_an_archive_is_forgotten_in_several_transactions(
    client: TestClient, archive: Path, monkeypatch: pytest.MonkeyPatch, is_published: bool
) -> None:
    services = services_of(client)
    if is_published:
        publish(services)
    every = every_id(services)
    with pytest.raises(ConflictError, match=f"find {len(every) - 1} images instead of {len(every)} "):
        services.generations.forget(1, archive=f"{archive}/odd")
    assert services.generations.forget(1, archive=f"{archive}/odd", sure=True).records == 1
    assert len(every_id(services)) == len(every) - 1
    monkeypatch.setattr(serving, "IMAGES_AT_ONCE", 4)
    assert services.generations.forget(1, archive=str(archive), sure=True).records == len(every) - 1
    assert every_id(services) == []
    assert recognise(services, str(archive)).done == len(every)
    assert every_id(services) == every


def test_nothing_is_forgotten_of_a_generation_with_an_open_job(client: TestClient, archive: Path) -> None:
    services = services_of(client)
    every = every_id(services)
    with unit_of_work(services.engine) as session:
        session.execute(text("UPDATE job SET state = 'paused'"))
    for more in ({}, {"prefix": "c"}):
        with pytest.raises(ConflictError, match="1 open job"):
            services.generations.forget(1, sure=True, **more)
    assert every_id(services) == every
