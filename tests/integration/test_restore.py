"""Backups are restored in three ways, and nothing is lost: the rehearsal of ``benchmarks.rehearse_restore``, short."""

from __future__ import annotations

import pytest

from benchmarks.rehearse_restore import rehearse
from tests.services.restoring import open_folder

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]  # five servers start, one by one


def test_a_dump_a_base_backup_and_a_point_in_time_are_restored_while_a_job_ran() -> None:
    with open_folder() as folder:
        known = rehearse(folder, rows=0, pictures=200, slow_seconds=20)
    first, last = known.done_at_backup
    assert 0 < first <= last < 200  # it raises at the first difference; this says that there was a job to go on with
