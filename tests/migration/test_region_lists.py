"""What search counts of regions, in rows and in lists: an upgrade changes nothing of it, nor does the way back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from storage import migrate
from storage.database import unit_of_work
from storage.results.region_lists import EVERY
from storage.search.kept_regions import KeptRegions

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.services

IMAGES = 600
LOCATED = 590
COUNTED = "SELECT image_id, name, regions, area FROM region_count ORDER BY 1, 2"


def fill(engine: Engine) -> None:
    with engine.begin() as connection:
        for statement in (
            "INSERT INTO archive (uri) VALUES ('s3://photos')",
            f"""INSERT INTO image (archive_id, key, version, size)
                   SELECT 1, 'k' || n, 'v', n FROM generate_series(1, {IMAGES}) AS n""",
            f"""INSERT INTO located_image (image_id, generation_id)
                   SELECT id, CASE WHEN id <= {LOCATED} THEN 3 END FROM image""",
            f"""INSERT INTO region_count (image_id, name, regions, area)
                   SELECT image.id, name, image.id * 50, 1000000 - image.id
                   FROM image, unnest(ARRAY['dog', 'a "b" {{c}}', '狗']) AS name
                   WHERE image.id <= {LOCATED} AND (image.id + ascii(name)) % 3 = 0""",
        ):
            connection.execute(text(statement))


def rows(engine: Engine, statement: str) -> list[Any]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def test_counts_survive_the_way_into_lists_and_back(engine: Engine) -> None:
    migrate.upgrade(engine, "0018")
    fill(engine)
    before = rows(engine, COUNTED)
    assert before
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []
    for kept in (KeptRegions(), warmed := KeptRegions()):
        if kept is warmed:
            kept.warm(partial(unit_of_work, engine))
        with unit_of_work(engine) as session:
            found = kept.images(session, [*{row[1] for row in before}, EVERY])
        assert len(found.pop(EVERY).ids) == LOCATED
        assert before == sorted(
            (image_id, name, regions, area)
            for name, each in found.items()
            for image_id, regions, area in zip(
                each.ids.tolist(), each.regions.tolist(), each.areas.tolist(), strict=True
            )
        )
    names = "SELECT image_id, name FROM located_image, unnest(names) AS name ORDER BY 1, 2"
    assert rows(engine, names) == [row[:2] for row in before]
    migrate.downgrade(engine, "0018")
    assert rows(engine, COUNTED) == before
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []
