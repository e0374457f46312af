"""Settings of PostgreSQL for single statements count, whether or not each statement is a transaction of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from storage.database import driver_connection, unit_of_work, with_settings
from storage.remembered import read_only
from storage.results import reading_search, region_search

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

pytestmark = pytest.mark.services

SAID = "current_setting('enable_seqscan'), current_setting('jit')"


@pytest.mark.parametrize("reading", [read_only, unit_of_work])
def test_settings_count_within_the_block(
    engine: Engine, reading: Callable[[Engine], AbstractContextManager[Session]]
) -> None:
    with reading(engine) as session:
        assert driver_connection(session).autocommit == (reading is read_only)
        with with_settings(session, enable_seqscan="off", jit="off") as connection:
            assert connection.execute(f"SELECT {SAID}").fetchone() == ("off", "off")
        with with_settings(session) as connection:
            left = connection.execute("SELECT current_setting('enable_seqscan')").fetchone()
        assert left == (("on",) if reading is read_only else ("off",))
    with reading(engine) as session:
        assert driver_connection(session).execute("SELECT current_setting('enable_seqscan')").fetchone() == ("on",)


def test_searches_of_text_and_regions_set_how_they_are_planned(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_search, "_ALL", f"SELECT {SAID}, '', NULL::bytea")
    monkeypatch.setattr(reading_search, "ids_of", lambda _: None)
    monkeypatch.setattr(region_search, "_FIND", "SELECT 'now', NULL,")
    monkeypatch.setattr(region_search, "_WHOLE", f"{SAID}, '', NULL::bytea")
    monkeypatch.setattr(region_search, "ids_of", lambda _: [])
    with read_only(engine) as session:
        moment, _ = reading_search.images(session, 1, "pier")
        assert (moment.snapshot, moment.file) == ("off", "off")
        found = region_search.find(session, None, ["dog"])
        assert (found.now.snapshot, found.now.file) == ("off", "off")
