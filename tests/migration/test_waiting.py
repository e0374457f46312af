"""An upgrade beside a database that is only starting: it waits as long as it was told, and says for what."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from storage import revision
from storage.database import make_engine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.services

COMMAND = (sys.executable, "-m", "ramq.cli.main", "db", "upgrade", "--wait")


@pytest.fixture
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is not there yet. The name of a socket in it must be short."""
    return tmp_path_factory.mktemp("w") / "s"


@pytest.fixture
def environment(empty_database_url: str, sockets: Path, no_ramq_environment: None) -> dict[str, str]:
    """Leads to the database as soon as ``sockets`` is a link to the folder of its socket."""
    url = make_url(empty_database_url).update_query_dict({"host": str(sockets)})
    return {**os.environ, "RAMQ_DATABASE_URL": str(url), "RAMQ_BROKER_URL": "redis://127.0.0.1:1/0"}


def test_an_upgrade_waits_for_a_database_that_starts_later(
    environment: dict[str, str], sockets: Path, empty_database_url: str
) -> None:
    with subprocess.Popen([*COMMAND, "120"], env=environment, stderr=subprocess.PIPE, text=True) as upgrade:
        assert upgrade.stderr is not None
        said = upgrade.stderr.readline()
        assert said.startswith("Waiting up to 120 s: the database ")
        sockets.symlink_to(str(make_url(empty_database_url).query["host"]))
        assert f"at revision {revision.head()}" in upgrade.stderr.read()
    assert upgrade.returncode == 0
    engine = make_engine(empty_database_url)
    assert revision.current(engine) == revision.head()
    engine.dispose()


@pytest.mark.parametrize("seconds", ["0", "0.2"])
def test_an_upgrade_that_waited_in_vain_says_why(environment: dict[str, str], seconds: str) -> None:
    done = subprocess.run([*COMMAND, seconds], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3  # a service that did not answer
    lines = done.stderr.splitlines()
    assert all("did not answer" in line for line in lines)
    assert [line.startswith("Waiting up to 0.2 s: ") for line in lines] == (
        [False] if seconds == "0" else [True, False]
    )
