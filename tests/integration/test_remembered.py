"""Searches remember facts until something is committed, and notice every change at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text

from storage.database import unit_of_work
from storage.remembered import read_only, remembered
from storage.search.views import SearchQuery
from tests.services.recognised import CAT
from tests.services.web import services_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine
    from starlette.testclient import TestClient

pytestmark = pytest.mark.services


def commit_something(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        session.execute(text("SELECT pg_current_xact_id()"))


@pytest.fixture
def numbers() -> Iterator[int]:
    return iter(range(100))


def test_a_fact_is_looked_up_again_after_a_commit(engine: Engine, numbers: Iterator[int]) -> None:
    def ask() -> int:
        with read_only(engine) as session:
            return remembered(session, "number", lambda: next(numbers))

    assert [ask(), ask()] == [0, 0]
    commit_something(engine)
    assert [ask(), ask()] == [1, 1]


def test_what_is_looked_up_after_a_commit_does_not_serve_earlier_or_later_ones(
    engine: Engine, numbers: Iterator[int]
) -> None:
    def look_up() -> int:
        return next(numbers)

    with read_only(engine) as early:
        remembered(early, "another fact", look_up)  # now it has its snapshot
        commit_something(engine)
        with read_only(engine) as later:
            assert remembered(later, "number", look_up) == 1
        assert remembered(early, "number", look_up) == 2
        with read_only(engine) as later:
            assert remembered(later, "number", look_up) == 1


def test_a_transaction_remembers_nothing_because_it_may_change_what_it_looks_up(
    engine: Engine, numbers: Iterator[int]
) -> None:
    with unit_of_work(engine) as session:
        assert [remembered(session, "number", lambda: next(numbers)) for _ in range(2)] == [0, 1]


def test_a_snapshot_is_not_trusted_after_connections_were_lost(engine: Engine, numbers: Iterator[int]) -> None:
    """A database that crashed may give the number of a lost transaction to another one."""

    def ask() -> int:
        with read_only(engine) as session:
            return remembered(session, "number", lambda: next(numbers))

    assert ask() == 0
    engine.dispose()
    assert ask() == 1


def test_connections_that_the_server_ended_are_replaced_without_an_error(engine: Engine) -> None:
    def process() -> int:
        with read_only(engine) as session:
            return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)

    with engine.connect() as other:  # meanwhile the process has another one
        mine = process()
        other.execute(text("SELECT pg_terminate_backend(:process, 10000)"), {"process": mine})
        assert process() != mine


def test_a_page_sends_few_statements_while_nothing_is_committed(client: TestClient, recognised_engine: Engine) -> None:
    client.get("/", params={"tag": CAT})
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(recognised_engine, "before_cursor_execute", note)
    assert client.get("/", params={"tag": CAT}).status_code == 200
    assert sent == []  # the snapshots and the hits go to the driver


def test_every_search_notices_what_was_changed_before_it(client: TestClient) -> None:
    services = services_of(client)
    query = SearchQuery(tags=(CAT,))

    def found() -> int | None:
        return services.search.page(query).total

    before = found()
    assert before
    services.policies.put(CAT, "deny", None)
    assert found() == 0
    services.policies.clear(CAT, None)
    assert found() == before
    hit = services.search.page(query).items[0]
    services.corrections.tag([hit.image_id], remove=[CAT])
    assert found() == before - 1
    services.corrections.tag([hit.image_id], reset=[CAT])
    assert found() == before
    services.erasures.delete([hit.image_id])
    assert found() == before - 1
    assert client.get(f"/v1/images/{hit.image_id}/thumbnail").status_code == 404


def test_the_page_notices_a_new_archive(client: TestClient, recognised_engine: Engine) -> None:
    assert "file:///somewhere/new" not in client.get("/").text
    with unit_of_work(recognised_engine) as session:
        session.execute(text("INSERT INTO archive (uri) VALUES ('file:///somewhere/new')"))
    assert "file:///somewhere/new" in client.get("/").text
