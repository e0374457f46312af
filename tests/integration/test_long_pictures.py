"""Long pictures through a job: tags of all their parts, one record, one commit, and others untouched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from ram_core.recognition import merged
from ram_core.tiling import TilingTransform, squares
from ram_core.transforms import SquashTransform
from storage.database import unit_of_work
from storage.results.packing import CODE, unpack_vectors
from tests.metadata_archive import work, worker
from tests.services.null_worker import SIZE, expected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ramq.wiring import Services
    from workers.lifecycle import Worker

pytestmark = pytest.mark.services

SQUASH = SquashTransform(SIZE)


@pytest.fixture
def made(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    with worker(services, monkeypatch) as made:
        yield made


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_a_long_picture_has_the_tags_of_all_its_tiles(services: Services, made: Worker, tmp_path: Path) -> None:
    pictures = {"long.png": noise(900, 150), "tall.png": noise(100, 420), "usual.png": noise(200, 150)}
    for name, image in pictures.items():
        image.save(tmp_path / name)
    job = work(services, made, services.jobs.create(str(tmp_path)))
    assert (job.done, job.failed) == (3, 0)
    for name, image in pictures.items():
        seen = squares(TilingTransform(SQUASH)(image))
        whole, *tiles = [expected(square) for square in seen]
        wanted = merged(whole, tiles) if tiles else whole
        view = services.images.get(services.images.find(name))
        assert {tag.id: tag.score for tag in view.tags} == pytest.approx(
            dict(zip(wanted.tag_ids.tolist(), wanted.scores.tolist(), strict=True)), abs=1e-4
        )
        assert view.tiles == (len(tiles) or None)
        assert (view.width, view.height) == image.size
        with unit_of_work(services.engine) as session:
            packed = session.scalar(text("SELECT v FROM vector WHERE image_id = :id"), {"id": view.image_id})
        assert unpack_vectors(packed, len(packed) // CODE.itemsize)[0] == pytest.approx(wanted.vector, abs=2e-3)
    assert services.jobs.report(job.id).tiled == 2
    assert len(squares(TilingTransform(SQUASH)(pictures["long.png"]))) == 8


def test_more_tiles_than_pictures_are_given_to_the_model_in_parts(
    services: Services, made: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.services.null_worker import NullModel  # noqa: PLC0415

    sizes: list[int] = []
    predict = NullModel.predict
    monkeypatch.setattr(
        NullModel, "predict", lambda self, pixels, **more: sizes.append(len(pixels)) or predict(self, pixels, **more)
    )
    noise(900, 150).save(tmp_path / "long.png")
    assert work(services, made, services.jobs.create(str(tmp_path))).done == 1
    assert sizes == [1] * 8
