"""Thumbnails on disk: a full disk, a crash and other threads leave no pixels that cannot be erased."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ramq.services.thumbnails import Thumbnails

if TYPE_CHECKING:
    from numpy.typing import NDArray


def pixels(side: int) -> NDArray[np.uint8]:
    return np.full((side, side, 3), 90, dtype=np.uint8)


@pytest.fixture
def thumbnails(tmp_path: Path) -> Thumbnails:
    made = Thumbnails(tmp_path)
    made.get(7, "v1", 160, pixels)
    return made


def folder_of(thumbnails: Thumbnails) -> Path:
    return thumbnails._path(7)


def test_a_thumbnail_that_cannot_be_kept_leaves_no_file(
    thumbnails: Thumbnails, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_self: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = list(folder_of(thumbnails).iterdir())
    monkeypatch.setattr(Path, "replace", full)
    content, _ = thumbnails.get(7, "v2", 160, pixels)
    assert content.startswith(b"\xff\xd8")
    assert list(folder_of(thumbnails).iterdir()) == before


def test_a_file_that_a_crash_left_is_counted_and_forgotten(thumbnails: Thumbnails) -> None:
    (folder_of(thumbnails) / "tmpabcd").write_bytes(b"pixels")
    assert thumbnails.count(7) == 2
    assert thumbnails.forget(7) == 2
    assert not folder_of(thumbnails).exists()
    assert (thumbnails.count(7), thumbnails.forget(7)) == (0, 0)


def test_a_file_written_while_its_image_is_forgotten_is_deleted_too(
    thumbnails: Thumbnails, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, rmdir = [folder_of(thumbnails) / "late.jpg"], Path.rmdir

    def write_first(self: Path) -> None:
        if late:
            late.pop().write_bytes(b"pixels")
        rmdir(self)

    monkeypatch.setattr(Path, "rmdir", write_first)
    assert thumbnails.forget(7) == 2
    assert not folder_of(thumbnails).exists()


def test_a_folder_that_another_process_deletes_meanwhile_is_forgotten(
    thumbnails: Thumbnails, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmdir = Path.rmdir

    def delete_first(self: Path) -> None:
        rmdir(self)
        rmdir(self)

    monkeypatch.setattr(Path, "rmdir", delete_first)
    assert thumbnails.forget(7) == 1


def test_old_unfinished_files_are_deleted_above_the_maximum_size(tmp_path: Path) -> None:
    left = tmp_path / "001" / "1" / "tmpabcd"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(10_000))
    os.utime(left, (0, 0))
    thumbnails = Thumbnails(tmp_path, max_bytes=9_000)
    thumbnails.get(7, "v1", 160, pixels)
    assert not left.exists()
    assert thumbnails.count(7) == 1
