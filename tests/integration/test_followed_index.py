"""What is published is opened beside the view that searches use, and then exchanged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.index import index as index_module
from storage.results import serving
from tests.vector_archive import VectorArchive

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.index.builder import IndexBuilder
    from storage.index.index import VectorIndex, View

pytestmark = pytest.mark.services


@pytest.fixture
def archive(engine: Engine) -> VectorArchive:
    return VectorArchive(engine)


@pytest.fixture
def followed(index: VectorIndex, monkeypatch: pytest.MonkeyPatch) -> VectorIndex:
    """An index whose searches leave publications to ``follow``, whenever that was called."""
    monkeypatch.setattr(index_module, "FOLLOWED_SECONDS", math.inf)
    return index


def view_of(archive: VectorArchive, index: VectorIndex) -> View:
    with unit_of_work(archive.engine) as session:
        return index.view(session, archive.generation_id)


def publish(archive: VectorArchive, builder: IndexBuilder) -> None:
    assert builder.publish_new(archive.generation_id, force=True) is not None


def test_a_search_does_not_open_what_was_just_published(
    archive: VectorArchive, followed: VectorIndex, builder: IndexBuilder
) -> None:
    archive.write(archive.images[:100])
    archive.check(followed)
    publish(archive, builder)
    archive.write(archive.images[50:150])
    archive.erase(archive.images[:10])
    archive.check(followed)
    assert view_of(archive, followed).segments == ()

    followed.follow(archive.engine)

    assert len(view_of(archive, followed).segments) == 1
    archive.check(followed)


def test_searches_equal_brute_force_whenever_the_index_is_followed(
    archive: VectorArchive, followed: VectorIndex, builder: IndexBuilder
) -> None:
    for first in range(0, 600, 100):
        archive.write(archive.images[first : first + 150])
        archive.check(followed, queries=1)
        publish(archive, builder)
        archive.erase(archive.images[first : first + 20])
        archive.check(followed, queries=1)
        builder.compact(archive.generation_id)
        if first % 200:
            followed.follow(archive.engine)
        archive.check(followed, queries=1)


def test_a_search_opens_segments_itself_if_most_of_their_rows_are_new_to_it(
    archive: VectorArchive, followed: VectorIndex, builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write(archive.images[:10])
    archive.check(followed)
    monkeypatch.setattr(index_module, "NEAR_ROWS", 20)
    archive.write(archive.images[10:60])
    archive.write(archive.images[60:100])
    publish(archive, builder)
    assert len(view_of(archive, followed).segments) == 1


def test_what_was_forgotten_is_not_found_when_the_generation_is_published_again(
    archive: VectorArchive, followed: VectorIndex, builder: IndexBuilder
) -> None:
    archive.write(archive.images[:100])
    publish(archive, builder)
    archive.check(followed)
    with unit_of_work(archive.engine) as session:
        serving.forget(session, archive.generation_id)
    archive.held.clear()
    archive.write(archive.images[40:60])
    publish(archive, builder)
    publish_again = archive.images[60:70]
    archive.write(publish_again)
    publish(archive, builder)
    archive.check(followed)
    followed.follow(archive.engine)
    archive.check(followed)


def test_what_was_forgotten_before_it_was_published_is_not_found(archive: VectorArchive, index: VectorIndex) -> None:
    archive.write(archive.images[:100])
    archive.check(index)
    with unit_of_work(archive.engine) as session:
        serving.forget(session, archive.generation_id)
    archive.held.clear()
    archive.check(index)


def test_following_goes_on_when_the_database_cannot_answer(
    archive: VectorArchive, followed: VectorIndex, builder: IndexBuilder, caplog: pytest.LogCaptureFixture
) -> None:
    archive.write(archive.images[:100])
    archive.check(followed)
    publish(archive, builder)
    with unit_of_work(archive.engine) as session:
        session.execute(text("UPDATE generation SET dropped_at = now() WHERE id = :id"), {"id": archive.generation_id})
    followed.follow(archive.engine)
    assert "was not opened beforehand" in caplog.text


def test_searches_open_segments_themselves_while_nobody_follows(
    archive: VectorArchive, index: VectorIndex, builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def segments_after(first: int) -> int:
        archive.write(archive.images[first : first + 20])
        publish(archive, builder)
        archive.check(index, queries=1)
        return len(view_of(archive, index).segments)

    archive.write(archive.images[:20])
    archive.check(index)
    assert segments_after(20) == 1
    index.follow(archive.engine)
    assert segments_after(40) == 1, "the next one is left to the thread that follows"
    monkeypatch.setattr(index_module, "FOLLOWED_SECONDS", 0.0)
    assert segments_after(60) == 3


def test_searches_do_not_keep_many_newer_rows_for_the_thread_that_follows(
    archive: VectorArchive, followed: VectorIndex, builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "NEWER_ROWS", 50)
    archive.write(archive.images[:40])
    archive.check(followed)
    publish(archive, builder)
    assert view_of(archive, followed).segments == ()
    archive.write(archive.images[40:60])
    archive.check(followed)
    assert len(view_of(archive, followed).segments) == 1


def test_following_goes_on_after_an_error_and_leaves_segments_to_searches(
    archive: VectorArchive,
    index: VectorIndex,
    builder: IndexBuilder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    archive.write(archive.images[:20])
    archive.check(index)
    publish(archive, builder)
    with monkeypatch.context() as broken:
        broken.setattr(index.store, "segment", None)
        index.follow(archive.engine)
    assert "TypeError" in caplog.text
    assert len(view_of(archive, index).segments) == 1


def test_segments_are_opened_beforehand_outside_of_a_transaction(
    archive: VectorArchive, followed: VectorIndex, builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.write(archive.images[:20])
    archive.check(followed)
    publish(archive, builder)
    open_segment, transactions = followed.store.segment, []

    def watched(*args: Any) -> Any:
        with unit_of_work(archive.engine) as session:
            others = """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                    AND backend_type = 'client backend' AND xact_start IS NOT NULL"""
            transactions.append(session.scalar(text(others)))
        return open_segment(*args)

    monkeypatch.setattr(followed.store, "segment", watched)
    followed.follow(archive.engine)
    assert transactions == [0]
