"""A catalogue of one made-up model, so that downloads can be tested without gigabytes."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING, Any

from ram_core import checkpoints
from ram_core.checkpoints import CatalogueEntry, FileStatus, Patience, RemoteFile, published

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.services.broken_http import BrokenHTTP

BODY = random.Random(1).randbytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(attempts=4, first_delay_seconds=0.001, longest_delay_seconds=0.01, timeout_seconds=5)


def offer(monkeypatch: pytest.MonkeyPatch, sha256: str | None, *, exact_size: bool = True) -> RemoteFile:
    """Make ``toy``, with this one file, the whole catalogue."""
    file = RemoteFile("weights.pth", "https://models.example/a/weights.pth", len(BODY), sha256, exact_size)
    monkeypatch.setattr(published, "_ENTRIES", (CatalogueEntry("toy", "a toy", (file,)),))
    return file


def pull_toy(server: BrokenHTTP, models_dir: Path, **options: Any) -> list[FileStatus]:
    """Pull ``toy`` from a server, without long pauses."""
    return checkpoints.pull("toy", models_dir, mirror=server.url, patience=QUICK, **options)


def kept(models_dir: Path) -> set[str]:
    """Return the names of the files that a pull of ``toy`` left, but for its lock."""
    return {each.name for each in (models_dir / "toy").iterdir()} - {".pull.lock"}
