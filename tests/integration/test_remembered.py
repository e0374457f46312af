"""Searches remember facts until something is committed, and notice every change at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ramq.web.callers import FRESH_SECONDS
from storage.database import make_engine, unit_of_work
from storage.remembered import read_only, remembered
from storage.search.views import SearchQuery
from tests.services.pgbouncer import pgbouncer_to
from tests.services.recognised import CAT
from tests.services.statements import statements_on, undisturbed
from tests.services.web import services_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from tests.services.clock import Clock

pytestmark = pytest.mark.services


def commit_something(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        session.execute(text("SELECT pg_current_xact_id()"))


@pytest.fixture
def numbers() -> Iterator[int]:
    return iter(range(1000))


def test_a_fact_is_looked_up_again_after_a_commit(engine: Engine, numbers: Iterator[int]) -> None:
    def ask() -> int:
        with read_only(engine) as session:
            return remembered(session, "number", lambda: next(numbers))

    before = undisturbed(engine, lambda: {ask(), ask()})
    commit_something(engine)
    after = undisturbed(engine, lambda: {ask(), ask()})
    assert (len(before), len(after)) == (1, 1)
    assert before != after


def test_what_is_looked_up_after_a_commit_does_not_serve_earlier_or_later_ones(
    engine: Engine, numbers: Iterator[int]
) -> None:
    def look_up() -> int:
        return next(numbers)

    def ask() -> int:
        with read_only(engine) as later:
            return remembered(later, "number", look_up)

    with read_only(engine) as early:
        remembered(early, "another fact", look_up)  # now it has its snapshot
        commit_something(engine)
        first, of_early, second = undisturbed(engine, lambda: (ask(), remembered(early, "number", look_up), ask()))
    assert first == second != of_early


def test_nothing_is_remembered_behind_a_connection_pool_which_hides_that_the_server_crashed(
    database_url: str, tmp_path: Path, numbers: Iterator[int]
) -> None:
    with pgbouncer_to(database_url, tmp_path / "pgbouncer", 2) as url:
        engine = make_engine(url)
        found = []
        for _ in range(2):
            with read_only(engine) as session:
                found.append(remembered(session, "number", lambda: next(numbers)))
        engine.dispose()
    assert found == [0, 1]


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


def test_a_page_sends_few_statements_while_nothing_is_committed(
    make: Callable[..., TestClient], recognised_engine: Engine
) -> None:
    client = make()  # its clock stands still: otherwise users are read again now and then

    def ask() -> list[str]:
        client.get("/", params={"tag": CAT})
        with statements_on(recognised_engine) as sent:
            assert client.get("/", params={"tag": CAT}).status_code == 200
        return sent

    found = undisturbed(recognised_engine, ask)
    hits, metadata, of_files, of_people = [
        statement for statement in found if not statement.startswith("SELECT pg_current_snapshot")
    ]
    assert "FROM record" in hits or "JOIN record" in hits
    assert "FROM metadata" in metadata, "what files say since"
    assert "keyword_folds" in of_files, "and which keywords they have"
    assert "FROM keyword" in of_people, "those that people gave since"
    assert len(found) <= 8


def test_a_page_asks_once_in_a_while_whether_users_were_changed(
    make: Callable[..., TestClient], recognised_engine: Engine, clock: Clock
) -> None:
    client = make()

    def ask() -> tuple[Counter[str], Counter[str]]:
        with statements_on(recognised_engine) as warm:
            client.get("/")
            warm.clear()
            client.get("/")
        clock.now += FRESH_SECONDS + 1
        with statements_on(recognised_engine) as later:
            client.get("/")
        return Counter(warm), Counter(later)

    warm, later = undisturbed(recognised_engine, ask)
    assert warm - later == Counter()
    [more] = (later - warm).elements()
    assert "FROM account_event" in more


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
