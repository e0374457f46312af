"""Raw files, HEIC and JPEG XL go through a job, and their thumbnails show them; what is not read says why."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests import cameras, poison
from tests.crop_archive import work

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services


def test_a_folder_of_cameras_and_phones_is_recognised(services: Services, crop_worker: Worker, tmp_path: Path) -> None:
    folder = tmp_path / "nas"
    folder.mkdir()
    fine = {f"DSC1.{name}": make(1) for name, make in cameras.FILES.items()}
    fine |= {"IMG_1.HEIC": poison.heic(cameras.scene()), "IMG_2.JPG": poison.heic(cameras.scene())}
    fine |= {"a.jxl": poison.jpeg_xl(cameras.scene())}
    wrong = {
        "b.NEF": cameras.tiff_based("NIKON", 1, cameras.thumbnail()),
        "c.dat": (b"\x00\x00\x00\x00G" + bytes(187)) * 4,
    }
    for name, body in (fine | wrong).items():
        (folder / name).write_bytes(body)
    job = work(services, crop_worker, services.jobs.create(str(folder)))
    failures = {each.key: each for each in services.jobs.failures(job.id).items}
    assert (job.done, failures.keys()) == (len(fine), wrong.keys())
    assert {each.error_class for each in failures.values()} == {"unsupported"}
    assert "160 x 120" in failures["b.NEF"].detail
    assert failures["c.dat"].detail.startswith("a film")
    wanted = cameras.scene().resize((160, 107))
    for name in fine:
        content, _ = services.images.thumbnail(services.images.find(name), 160)
        with Image.open(io.BytesIO(content)) as thumbnail:
            assert thumbnail.size == wanted.size, name
            assert np.abs(np.asarray(thumbnail).astype(int) - np.asarray(wanted)).mean() < 6, name
