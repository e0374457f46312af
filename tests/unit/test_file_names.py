"""Files by names in either Unicode form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ram_core.annotations import locate
from ram_core.errors import ImageError
from ram_core.file_names import on_disk
from ram_core.training.data.pictures import PictureFolder

if TYPE_CHECKING:
    from pathlib import Path

NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_a_file_is_found_in_whatever_form_the_disk_has_each_part(tmp_path: Path) -> None:
    (tmp_path / NFD).mkdir()
    (tmp_path / NFD / f"{NFC}.jpg").write_bytes(b"x")
    for name in (f"{NFC}/{NFC}.jpg", f"{NFC}/{NFD}.jpg", f"{NFD}/{NFC}.jpg", f"{NFD}/{NFD}.jpg"):
        assert on_disk(tmp_path, name) == tmp_path / NFD / f"{NFC}.jpg"
        assert PictureFolder(tmp_path).read(name) == b"x"
        assert locate(tmp_path, name.removesuffix(".jpg")).is_file()


def test_of_two_files_that_look_the_same_the_exact_one_counts(tmp_path: Path) -> None:
    for name in (NFC, NFD):
        (tmp_path / name).write_bytes(name.encode())
        assert on_disk(tmp_path, name) == tmp_path / name
    assert PictureFolder(tmp_path).read(NFD) == NFD.encode()


def test_a_file_that_is_nowhere_is_named_as_it_was_given(tmp_path: Path) -> None:
    assert on_disk(tmp_path, f"{NFD}/x") == tmp_path / NFD / "x"
    with pytest.raises(ImageError, match="No such file"):
        PictureFolder(tmp_path).read(f"{NFC}.jpg")
    with pytest.raises(ImageError):
        PictureFolder(tmp_path).read("\udcff.jpg")
