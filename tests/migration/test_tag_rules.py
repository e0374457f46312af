"""Tag rules of a database of the previous version stay, and a downgrade takes only the new kind away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from storage import migrate

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.services

BEFORE, AFTER = "0020", "0021"
OLD = [(None, "cat", "deny"), (1, "cat", "allow")]


def add(engine: Engine, archive_id: int | None, name: str, kind: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO tag_policy (archive_id, name, kind, said_by) VALUES (:archive, :name, :kind, 'ann')"),
            {"archive": archive_id, "name": name, "kind": kind},
        )


def rules(engine: Engine) -> list[tuple[int | None, str, str]]:
    with engine.begin() as connection:
        rows = connection.execute(
            text("SELECT archive_id, name, kind FROM tag_policy ORDER BY archive_id NULLS FIRST, name, kind")
        )
        return [(row.archive_id, row.name, row.kind) for row in rows]


def test_rules_stay_and_each_tag_has_one_of_each_sort(engine: Engine) -> None:
    migrate.upgrade(engine, BEFORE)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO archive (uri) VALUES ('s3://photos')"))
    for rule in OLD:
        add(engine, *rule)
    migrate.upgrade(engine, AFTER)
    assert rules(engine) == OLD
    add(engine, None, "cat", "no_thing")
    for kind in ("allow", "no_thing"):
        with pytest.raises(IntegrityError, match="ix_tag_policy_rule"):
            add(engine, None, "cat", kind)
    with pytest.raises(IntegrityError, match="ck_tag_policy_kind"):
        add(engine, None, "dog", "maybe")
    migrate.downgrade(engine, BEFORE)
    assert rules(engine) == OLD
