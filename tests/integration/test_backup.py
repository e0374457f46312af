"""A dump of the database is all the backup there is: restored elsewhere, everything is found again."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from ramq.embedded import embedded
from ramq.embedded.postgres import installed_programs
from ramq.services.index import make_builder
from ramq.wiring import Services
from storage import migrate, revision
from storage.database import make_engine
from storage.search.views import SearchQuery
from tests.services.recognised import CAT, settings_for
from tests.services.web import services_of

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.testclient import TestClient

pytestmark = pytest.mark.services

QUERIES = (
    SearchQuery(tags=(CAT,)),
    SearchQuery(text="a cat"),
    SearchQuery(text="a rocket", relevance=0.0, limit=5),
    SearchQuery(prefix="c"),
)


def run(program: str, *words: str) -> None:
    subprocess.run([str(installed_programs() / program), *words], check=True, capture_output=True, text=True)


def answers(services: Services) -> list[list[tuple[int, str, float]]]:
    """Hits of each query; scores as near as two ways to read a vector are."""
    return [
        [(hit.image_id, hit.key, round(hit.score, 4)) for hit in services.search.page(query).items] for query in QUERIES
    ]


def test_a_dump_that_is_restored_into_a_new_server_is_searched_as_before_without_anything_else(
    client: TestClient, tmp_path: Path
) -> None:
    former = services_of(client)
    before, job = answers(former), former.jobs.get(1)
    assert all(before)
    url = former.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    run("pg_dump", "--format=custom", f"--file={tmp_path / 'ramq.dump'}", url)

    with embedded(tmp_path / "new") as services:
        engine = make_engine(services.database_url)
        target = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        run("pg_restore", "--no-owner", "--exit-on-error", f"--dbname={target}", str(tmp_path / "ramq.dump"))
        revision.require_current(engine)
        assert migrate.differences(engine) == []
        restored = Services(settings_for(tmp_path / "new"), engine, services.broker_url, is_reachable=False)
        assert answers(restored) == before
        assert restored.jobs.get(1) == job
        make_builder(restored.settings, engine).rebuild(1)
        assert restored.index.status()[0].vectors_indexed == job.done
        assert answers(restored) == before
        engine.dispose()
