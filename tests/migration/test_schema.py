"""The schema: there and back again, the same from two processes, and never a newer one by mistake."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from storage import migrate, revision
from storage.database import make_engine
from storage.errors import FatalError, ServiceUnavailableError
from storage.tables import Base

if TYPE_CHECKING:
    from sqlalchemy import Engine

pytestmark = pytest.mark.services


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def test_the_schema_goes_up_and_down_and_up_again(engine: Engine) -> None:
    assert revision.current(engine) is None
    migrate.upgrade(engine)
    made = tables(engine)
    assert made == set(Base.metadata.tables)
    migrate.downgrade(engine, "base")
    assert tables(engine) == set()
    migrate.upgrade(engine)
    assert tables(engine) == made
    assert migrate.differences(engine) == []


def test_every_single_step_can_be_taken_back_and_made_again(engine: Engine) -> None:
    for script in reversed(list(scripts().walk_revisions())):
        migrate.upgrade(engine, script.revision)
        migrate.downgrade(engine, str(script.down_revision or "base"))
        migrate.upgrade(engine, script.revision)
    assert revision.current(engine) == revision.head()
    assert migrate.differences(engine) == []


def test_what_the_models_say_and_the_migrations_make_is_the_same(database_url: str) -> None:
    engine = make_engine(database_url)
    assert migrate.differences(engine) == []
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE record DROP COLUMN caption"))
    assert any("caption" in difference for difference in migrate.differences(engine))
    engine.dispose()


def test_the_newest_revision_is_told_without_alembic_as_alembic_tells_it() -> None:
    assert [revision.head()] == scripts().get_heads()


def test_the_migrations_are_one_chain_whose_files_bear_their_numbers() -> None:
    chain = list(scripts().walk_revisions())
    assert [script.revision for script in chain] == [f"{number:04}" for number in range(len(chain), 0, -1)]
    for script in chain:
        assert script.path.rpartition("/")[2].startswith(f"{script.revision}_")


def test_an_upgrade_that_is_done_already_changes_nothing(engine: Engine) -> None:
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO archive (uri) VALUES ('s3://photos')"))
    migrate.upgrade(engine)
    revision.bring_up_to_date(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM archive")) == 1


_UPGRADE = """
import sys
from storage import revision
from storage.database import make_engine
engine = make_engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
revision.bring_up_to_date(engine)
"""


def test_several_processes_may_migrate_at_once(engine: Engine, empty_database_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _UPGRADE, empty_database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    errors = [process.communicate("go\n")[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert migrate.differences(engine) == []


def test_a_newer_database_is_left_alone_and_the_message_says_what_to_do(engine: Engine) -> None:
    migrate.upgrade(engine)
    before = tables(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for refused in (migrate.upgrade, revision.bring_up_to_date):
        with pytest.raises(FatalError, match=r"revision 9999, newer than this version of ramq: update ramq"):
            refused(engine)
    with pytest.raises(FatalError, match="newer"):
        migrate.downgrade(engine, "base")
    with pytest.raises(FatalError, match=r"revision 9999, this version needs .* update ramq"):
        revision.require_current(engine)
    assert tables(engine) == before


def test_a_database_without_a_schema_is_refused_with_the_command_that_makes_it(engine: Engine) -> None:
    with pytest.raises(FatalError, match=r"revision none, .*run `ramq db upgrade`"):
        revision.require_current(engine)
    revision.bring_up_to_date(engine)
    revision.require_current(engine)


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    engine = make_engine("postgresql+psycopg://somebody:their-password@127.0.0.1:1/ramq")
    for ask in (revision.current, migrate.upgrade, migrate.differences):
        with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:1/ramq did not answer") as caught:
            ask(engine)
        assert "their-password" not in str(caught.value)
        assert "\n" not in str(caught.value)
    engine.dispose()


def test_every_migration_gives_up_soon_rather_than_wait_behind_a_long_lock(engine: Engine) -> None:
    for script in scripts().walk_revisions():
        with open(script.path, encoding="utf-8") as file:  # noqa: PTH123  (Alembic's path is a string)
            assert "lock_timeout" in file.read(), script.path


def test_the_lock_is_free_again_after_a_migration_that_failed(engine: Engine) -> None:
    with pytest.raises(Exception, match="nowhere"):
        migrate.upgrade(engine, "nowhere")
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": migrate._MIGRATION_LOCK})
