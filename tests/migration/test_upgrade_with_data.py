"""A database of an older version with work in it: after the upgrade its counters add up, and searches find the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import text

from ramq.services.index import make_builder
from ramq.settings import Settings
from ramq.wiring import Services
from storage import migrate
from storage.database import unit_of_work
from storage.results.packing import pack_vectors
from storage.search.views import SearchQuery
from tests.vector_archive import as_text

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine

pytestmark = pytest.mark.services

RECORDED = 9
"""Images 1 to 9 are recorded, the tenth failed, two wait; the odd ones have the tag `cat`, every third `snow`."""

VECTORS = np.linalg.qr(np.random.default_rng(0).standard_normal((RECORDED, RECORDED)))[0].astype(np.float32)

ROWS = (
    "INSERT INTO archive (uri) VALUES ('s3://photos/2019')",
    "INSERT INTO vocabulary (sha256, name, size) VALUES ('v', 'own', 3)",
    "INSERT INTO tag VALUES (1, 0, 'cat', '猫', 0.5), (1, 1, 'snow', NULL, 0.5), (1, 2, 'boat', NULL, 0.5)",
    f"""INSERT INTO generation (fingerprint, model, weights_sha256, preprocessing, vector_kind, vector_size,
            vocabulary_id, is_default) VALUES ('g', 'lite', '', '', '', {RECORDED}, 1, true)""",
    """INSERT INTO image (archive_id, key, version, size, modified_at)
           SELECT 1, '2019/' || n || '.jpg', 'v' || n, 1000 * n, '2019-01-01'::timestamptz + n * interval '1 day'
           FROM generate_series(1, 12) AS n""",
    """INSERT INTO job (archive_id, source, prefix, model, captioner, priority, state, generation_id, listed_all_at,
            listed, skipped, done, failed) VALUES
           (1, 's3://photos/2019', '', 'lite', 'none', 0, 'done', 1, now(), 5, 0, 4, 1),
           (1, 's3://photos/2019', '', 'lite', 'none', 0, 'paused', 1, now(), 12, 5, 0, 0)""",
    r"""INSERT INTO shard (job_id, state, image_ids, outcomes, n_done, n_failed) VALUES
           (1, 'done', '{1,2,3,4,10}', '\x0101010102', 4, 1), (2, 'ready', '{5,6,7,8,9,11,12}', '\x01010101010000', 5,
               0)""",
    """INSERT INTO failure (job_id, image_id, generation_id, version, error_class, about_content, detail, attempts)
           VALUES (1, 10, 1, 'v10', 'truncated', true, 'it ends too early', 1)""",
    f"""INSERT INTO record (image_id, generation_id, job_id, version, tags, scores, caption, captioner, width, height)
           SELECT n, 1, CASE WHEN n < 5 THEN 1 ELSE 2 END, 'v' || n, tags.ids,
               array_fill(9000, ARRAY[cardinality(tags.ids)]), 'number ' || n, 'none', 640, 480
           FROM generate_series(1, {RECORDED}) AS n CROSS JOIN LATERAL (SELECT array_agg(id ORDER BY id) AS ids FROM
               (VALUES (0, n % 2 = 1), (1, n % 3 = 0), (2, true)) AS each (id, has) WHERE has) AS tags""",
)


def fill(engine: Engine) -> None:
    with engine.begin() as connection:
        for statement in ROWS:
            connection.execute(text(statement))
        for place, packed in enumerate(pack_vectors(VECTORS)):
            connection.execute(
                text("INSERT INTO vector (image_id, generation_id, v) VALUES (:id, 1, :v)"),
                {"id": place + 1, "v": packed},
            )


def found(services: Services, query: SearchQuery) -> list[int]:
    return sorted(hit.image_id for hit in services.search.page(query).items)


def check_searches(services: Services) -> None:
    assert found(services, SearchQuery(tags=("cat",))) == [1, 3, 5, 7, 9]
    assert found(services, SearchQuery(tags=("猫",), not_tags=("snow",))) == [1, 5, 7]
    assert found(services, SearchQuery(job=1)) == [1, 2, 3, 4]
    assert {facet.name: facet.count for facet in services.search.facets(SearchQuery())} == {
        "boat": 9,
        "cat": 5,
        "snow": 3,
    }
    for image_id in (1, RECORDED):
        with unit_of_work(services.engine) as session:
            page = services._search_of_database.page(
                session, SearchQuery(text="whatever", limit=1), as_text(VECTORS[image_id - 1])
            )
        assert [hit.image_id for hit in page.items] == [image_id]
        shown = services.images.get(image_id)
        assert (shown.key, shown.caption) == (f"2019/{image_id}.jpg", f"number {image_id}")


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_an_older_database_is_upgraded_with_its_books_and_searched_right_after(
    engine: Engine, tmp_path: Path, revision: str
) -> None:
    migrate.upgrade(engine, revision)
    fill(engine)
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []
    services = Services(Settings(data_dir=tmp_path), engine, None, is_reachable=False)

    finished, paused = services.jobs.get(1), services.jobs.get(2)
    assert (finished.listed, finished.done, finished.skipped, finished.failed, finished.pending) == (5, 4, 0, 1, 0)
    assert (paused.listed, paused.done, paused.skipped, paused.failed, paused.pending) == (12, 5, 5, 0, 2)
    (failure,) = services.jobs.failures(1).items
    assert (failure.key, failure.error_class) == ("2019/10.jpg", "truncated")
    check_searches(services)

    make_builder(services.settings, engine).publish_new(1, force=True)
    assert services.index.status()[0].vectors_indexed == RECORDED
    check_searches(services)

    (archive,) = services.archives.list()
    assert (archive.images, archive.recorded) == (12, RECORDED)
    assert services.jobs.resume(2).state == "running"
    assert services.erasures.delete([1]).records == 1
    assert found(services, SearchQuery(tags=("cat",))) == [3, 5, 7, 9]
