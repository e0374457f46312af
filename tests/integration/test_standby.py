"""Searches on a standby: they see its moment, whole, and go on with it, though it does not tell who is writing."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.orm import Session

from ramq.wiring import Services
from storage.database import make_engine, unit_of_work
from storage.index.builder import IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.results import readings
from storage.results.reading_search import Having
from storage.results.records import Provenance
from storage.search.kept_images import KeptImages
from storage.search.views import SearchQuery
from tests.archive_model import ArchiveModel
from tests.reading_archive import JOB, ReadingArchive, row
from tests.services.standby import catch_up, pause, standby_of
from tests.vector_archive import VectorArchive, unit_vectors, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from ramq.settings import Settings

pytestmark = pytest.mark.services


@pytest.fixture
def primary(engine: Engine) -> Engine:
    return engine


@pytest.fixture
def standby(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    with standby_of(database_url, tmp_path / "standby") as url:
        engine = make_engine(url)
        yield engine
        engine.dispose()


def test_searches_on_a_standby_miss_nothing_that_ends_while_others_still_write(
    primary: Engine, standby: Engine, tmp_path: Path
) -> None:
    archive = VectorArchive(primary, images=200)
    seen = copy(archive)  # the same archive, as the standby shows it
    seen.engine = standby
    index = VectorIndex(FolderStorage(tmp_path / "index"), tmp_path / "cache")
    builder = IndexBuilder(primary, FolderStorage(tmp_path / "index"), tmp_path / "builder-cache", min_rows=1)

    def check() -> None:
        catch_up(primary, standby)
        seen.check(index, queries=2)

    archive.write(archive.images[:80])
    builder.publish_new(archive.generation_id, force=True)
    check()

    slow, slower = Session(primary), Session(primary)
    with slow, slower:
        for session, ids in ((slower, archive.images[80:100]), (slow, archive.images[60:80])):
            vectors = unit_vectors(len(ids), archive.rng)
            write(session, archive.generation_id, ids, vectors)
            session.info["held"] = dict(zip(ids, vectors, strict=True))
        archive.write(archive.images[100:120])
        check()
        slow.commit()
        archive.held |= slow.info["held"]
        check()
        archive.erase(archive.images[100:110])
        archive.write(archive.images[40:50])
        check()
        slower.commit()
        archive.held |= slower.info["held"]
    check()
    builder.publish_new(archive.generation_id, force=True)
    check()


def test_a_standby_that_is_behind_shows_the_archive_as_it_was(
    primary: Engine, standby: Engine, tmp_path: Path, settings: Settings
) -> None:
    archive = ArchiveModel(primary, images_of_each=20)
    archive.record(0, list(archive.facts)[:40])
    settings = settings.model_copy(update={"index_url": (tmp_path / "index").as_uri()})
    builder = IndexBuilder(primary, FolderStorage(tmp_path / "index"), tmp_path / "builder-cache", min_rows=1)
    services = Services(settings, primary, None, is_reachable=False, search_engine=standby)
    query = SearchQuery(generation=archive.generations[0], limit=500)

    def found() -> list[int]:
        return sorted(hit.image_id for hit in services.search.page(query).items)

    catch_up(primary, standby)
    before = sorted(archive.results[0])
    assert found() == before
    pause(standby, is_paused=True)
    archive.record(0, list(archive.facts)[40:])
    archive.delete(before[:5])
    builder.publish_new(archive.generations[0], force=True)

    assert found() == before
    assert sum(view.recorded for view in services.archives.list()) == len(archive.results[0]), (
        "states are of the database"
    )
    pause(standby, is_paused=False)
    catch_up(primary, standby)
    assert found() == sorted(archive.results[0])
    assert services.ready()["search"] == "ok"


def test_words_found_on_a_standby_miss_nothing_that_ends_while_others_still_write(
    primary: Engine, standby: Engine
) -> None:
    archive = ReadingArchive.new(primary, images=6)
    kept = KeptImages()

    def check(*expected: int) -> None:
        catch_up(primary, standby)
        with unit_of_work(standby) as session:
            assert kept.matching(session, Having(archive.generation_id, "'out'")).tolist() == [
                archive.images[n] for n in expected
            ]

    archive.write(row(archive.images[0], "out"))
    check(0)
    slow, slower = Session(primary), Session(primary)
    with slow, slower:
        for session, number in ((slower, 1), (slow, 2)):
            provenance = Provenance(JOB, archive.generation_id, "none")
            readings.write_readings(session, [row(archive.images[number], "out")], provenance)
        archive.write(row(archive.images[3], "out"))
        check(0, 3)
        slow.commit()
        check(0, 2, 3)
        archive.write(row(archive.images[0], "go"))
        check(2, 3)
        slower.commit()
    check(1, 2, 3)
