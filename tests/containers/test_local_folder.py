"""A folder of the machine, mounted into the containers as the documentation says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ramq.client import ProblemError
from tests.containers.composition import Composition, composition
from tests.containers.stand_ins import ROOT
from tests.services.recognised import CAT, PHOTOGRAPHS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SNIPPET = re.compile(r"```yaml\n(# docker-compose.override.yml\n.*?)```", re.DOTALL)
_FOLDER = "/srv/photographs"
"""On the machine, in the documentation."""
INSIDE = "/photographs"


@pytest.fixture(scope="module")
def mounted(images: None, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    folder = tmp_path_factory.mktemp("mounted")
    snippet = _SNIPPET.search((ROOT / "docs" / "operations.md").read_text())
    assert snippet is not None
    assert snippet[1].count(f"{_FOLDER}:{INSIDE}:ro") == 2
    override = folder / "docker-compose.override.yml"
    override.write_text(snippet[1].replace(f"{_FOLDER}:", f"{photographs}:"))
    with composition(folder, override, RAMQ_ARCHIVE_ALLOW=INSIDE) as running:
        running.up()
        yield running


def test_a_mounted_folder_is_archived_and_found(mounted: Composition) -> None:
    job = mounted.recognise(INSIDE)
    assert (job.state, job.done, job.failed) == ("done", PHOTOGRAPHS + 1, 2)
    with mounted.client() as ramq:
        (hit,) = ramq.search(tags=[CAT])
        assert hit.key == "chelsea.png"
        assert ramq.thumbnail(hit.image_id)


def test_the_folder_cannot_be_written(mounted: Composition) -> None:
    for service in ("web", "worker"):
        refused = mounted.container(service).exec("touch", f"{INSIDE}/written", user="0", check=False)
        assert "Read-only file system" in refused.stderr


def test_other_folders_are_refused_with_the_setting_to_change(mounted: Composition) -> None:
    with mounted.client() as ramq, pytest.raises(ProblemError, match="RAMQ_ARCHIVE_ALLOW"):
        ramq.enqueue("/etc")
