"""Photographs of tools and of other things, and services that recognise them with `lite`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from ramq.wiring import Services
from tests.photographs import UNPACKED
from tests.services.missing import missing
from tests.services.recognised import settings_for
from tests.services.taught import OTHERS, TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Engine

    Make = Callable[..., Services]

pytestmark = pytest.mark.services


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs, of tools and of other things."""
    folder = tmp_path_factory.mktemp("teaching")
    every = sorted(UNPACKED.rglob("*.webp"))
    tools = [path for path in every if "/tools/" in str(path)]
    others = [path for path in every if any(part in str(path) for part in ("/fishes/", "/monuments/", "/renewable/"))]
    if len(tools) < TOOLS or len(others) < OTHERS:
        missing("photographs are not installed: run `make tools`")
    for number, path in enumerate(tools[:TOOLS]):
        shutil.copy(path, folder / f"tool-{number:02}.webp")
    for number, path in enumerate(others[:: len(others) // OTHERS][:OTHERS]):
        shutil.copy(path, folder / f"other-{number:02}.webp")
    return folder


@pytest.fixture
def make_services(engine: Engine, tmp_path: Path) -> Make:
    def make(**changes: object) -> Services:
        return Services(settings_for(tmp_path / "data", **changes), engine, None, is_reachable=False)

    return make


@pytest.fixture
def folder(pictures: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pictures, tmp_path / "photos")
