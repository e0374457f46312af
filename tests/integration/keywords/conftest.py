"""Services with recognised pictures whose files say something."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import metadata_archive

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services


@pytest.fixture
def told(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Services:
    """Services that recognised ``metadata_archive.PICTURES``."""
    folder = metadata_archive.write_pictures(tmp_path / "photos")
    with metadata_archive.worker(services, monkeypatch) as worker:
        job = metadata_archive.work(services, worker, services.jobs.create(str(folder)))
    assert job.state == "done"
    return services
