"""Images and a running composition, made once. ``make containers`` runs these tests; ``make test`` skips them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.containers import stand_ins
from tests.containers.composition import Composition, composition
from tests.containers.podman import missing_tools
from tests.services.missing import missing, package
from tests.services.recognised import make_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE = Path(__file__).parent
_TIMEOUT_SECONDS = 2400
"""The first test waits for the images: torch and what it needs are 6 GB."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def images() -> None:
    """Both images of this checkout, and those of the servers."""
    if os.environ.get("RAMQ_CONTAINERS") != "1":
        pytest.skip("builds and runs containers: `make containers`")
    if reason := missing_tools():
        missing(reason)
    package("podman_compose")
    stand_ins.prepare()


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs that everybody may read."""
    folder = tmp_path_factory.mktemp("photographs")
    make_archive(folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="session")
def running(images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composition]:
    """The composition as it is, up, with nothing in it."""
    with composition(tmp_path_factory.mktemp("composition")) as made:
        made.up()
        yield made
