"""Long pictures in tiles: which, where, and what comes of it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ram_core import load_model
from ram_core.pictures import decode_for_all
from ram_core.recognition import Prediction, merged
from ram_core.tiling import MOST_TILES, TilingTransform, boxes, is_long, mean_vector, squares
from ram_core.transforms import SquashTransform, to_rgb
from ramq.demo_photos import installed_photographs
from tests import cameras, poison
from workers.pipeline.decode import decode
from workers.pipeline.decoders import Decoders

SMALL = SquashTransform(32)
TILED = TilingTransform(SMALL)
MAX_PIXELS = 178_956_970


@pytest.mark.parametrize(
    ("size", "wanted"), [((250, 100), False), ((251, 100), True), ((100, 251), True), ((1, 1), False)]
)
def test_a_picture_is_long_beyond_a_ratio_in_either_direction(size: tuple[int, int], wanted: bool) -> None:
    assert is_long(*size) is wanted


@pytest.mark.parametrize("size", [(1000, 300), (300, 1000), (901, 300), (20_000, 7), (7, 20_000), (3, 1), (100_000, 1)])
def test_tiles_cover_the_whole_picture(size: tuple[int, int]) -> None:
    found = boxes(*size)
    along = 0 if size[0] > size[1] else 1
    starts, ends = [box[along] for box in found], [box[along + 2] for box in found]
    assert (starts[0], ends[-1]) == (0, max(size))
    assert all(start <= end for start, end in zip(starts[1:], ends, strict=False))
    assert 2 < len(found) <= MOST_TILES
    assert {box[3 - along] - box[1 - along] for box in found} == {min(size)}


def test_pictures_that_are_not_long_are_prepared_as_before() -> None:
    image = cameras.scene(500, 300)
    assert np.array_equal(TILED(image), SMALL(image))
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        body = poison.encoded(image, "JPEG", exif=exif)
        ours, theirs = decode(body, TILED, MAX_PIXELS), decode(body, SMALL, MAX_PIXELS)
        assert np.array_equal(ours.pixels, theirs.pixels)


def test_a_long_picture_is_the_whole_and_its_tiles() -> None:
    image = cameras.scene(900, 200)
    found = squares(TILED(image))
    assert found.shape == (1 + len(boxes(900, 200)), 32, 32, 3)
    assert np.array_equal(found[0], SMALL(image))
    for square, box in zip(found[1:], boxes(900, 200), strict=True):
        assert np.array_equal(square, SMALL(image.crop(box)))


def test_a_long_picture_that_lies_on_its_side_is_turned_first() -> None:
    image = cameras.scene(900, 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode(poison.encoded(image, "PNG", exif=exif), TILED, MAX_PIXELS)
    assert (found.width, found.height) == (200, 900)
    assert np.array_equal(found.pixels, TILED(image.transpose(Image.Transpose.ROTATE_270)))


def test_other_stages_of_the_same_picture_have_no_tiles() -> None:
    body = poison.encoded(cameras.scene(900, 200), "PNG")
    tiled, plain = decode_for_all(body, [TILED, SMALL])
    assert (tiled.pixels.shape, plain.pixels.shape) == ((7 * 32, 32, 3), (32, 32, 3))


def test_tags_have_their_best_score_and_vectors_their_mean() -> None:
    def told(tags: dict[int, float], *vector: float) -> Prediction:
        return Prediction(
            np.array(list(tags), dtype=np.int32),
            np.array(list(tags.values()), dtype=np.float32),
            np.array(vector, dtype=np.float32),
        )

    kept = np.zeros(3, dtype=np.uint8)
    whole = Prediction(np.array([9], np.int32), np.array([0.9], np.float32), np.ones(2, np.float32), "a caption", kept)
    found = merged(whole, [told({1: 0.2, 5: 0.7}, 1, 0), told({1: 0.6}, 0, 1), told({}, 1, 0)])
    assert dict(zip(found.tag_ids.tolist(), found.scores.tolist(), strict=True)) == pytest.approx({1: 0.6, 5: 0.7})
    assert found.vector == pytest.approx(np.array([2, 1]) / np.sqrt(5))
    assert (found.caption, found.features is kept) == ("a caption", True)
    assert mean_vector(np.array([[1, 0], [-1, 0]], np.float32)).tolist() == [1, 0]


def test_parts_of_a_panorama_are_found_that_were_lost_when_it_was_squashed() -> None:
    model = load_model("lite")
    named = {path.name: path for path in installed_photographs()}
    parts = [to_rgb(Image.open(named[name])).resize((300, 300)) for name in ("chelsea.png", "coffee.png", "rocket.jpg")]
    panorama = Image.new("RGB", (1800, 300), "grey")
    for number, part in enumerate(parts):
        panorama.paste(part, (600 * number + 150, 0))
    wanted = [each.tags[0].name for each in model.recognize(parts)]
    squashed = {
        tag
        for one in model.predict(model.preprocessing(panorama)[None])
        for tag in one.tag_ids[one.scores > 0.5].tolist()
    }
    ids = {tag.name: tag.id for each in model.recognize(parts) for tag in each.tags}
    found = {tag.name for tag in model.recognize([panorama])[0].tags}
    assert set(wanted) <= found
    assert not {ids[name] for name in wanted} <= squashed


def test_a_jpeg_panorama_of_240_megapixels_is_read_at_a_reduced_scale_within_the_memory_of_a_decoder() -> None:
    buffer = io.BytesIO()
    Image.new("L", (40_000, 6_000), 90).save(buffer, "JPEG", quality=30)
    pool = Decoders(1, MAX_PIXELS)
    try:
        found = pool.decode(buffer.getvalue(), TilingTransform(SquashTransform(384)))
    finally:
        pool.close()
    assert (found.width, found.height) == (40_000, 6_000)
    assert found.pixels.shape == (9 * 384, 384, 3)
