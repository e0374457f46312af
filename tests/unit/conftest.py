"""A server of checkpoints that may break, and a catalogue of one made-up model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.services.broken_http import BrokenHTTP, broken_http
from tests.toy_checkpoint import SHA, offer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ram_core.checkpoints import RemoteFile


@pytest.fixture
def server() -> Iterator[BrokenHTTP]:
    with broken_http() as running:
        yield running


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> RemoteFile:
    return offer(monkeypatch, SHA)


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> RemoteFile:
    return offer(monkeypatch, None)
