from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ram_core.errors import ImageError
from ram_core.transforms import CENTRED_MEAN, CENTRED_STD, IMAGENET_STD, SquashTransform, normalise, to_rgb

SHARED = Path(os.environ.get("RAMQ_SHARED_DIR", Path(__file__).resolve().parents[2] / ".." / "shared"))
PARITY = SHARED / "parity"


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.skipif(not PARITY.is_dir(), reason="the reference outputs are not at hand")
def test_squashing_and_normalising_equal_the_official_transform_bit_for_bit() -> None:
    transform = SquashTransform()
    cases = json.loads((PARITY / "preproc.json").read_text())
    with np.load(PARITY / "preproc.npz") as expected:
        paths = sorted((PARITY / "preproc_files").iterdir())
        assert len(paths) == 10
        for path in paths:
            case = path.stem if path.stem in cases else "exif6_jpg"
            pixels = transform(Image.open(path))
            np.testing.assert_array_equal(pixels, expected[case], err_msg=path.name)
            if digest := cases[case].get("sha256_float32_CHW"):
                floats = normalise(torch.tensor(pixels)[None], transform.mean, transform.std)
                assert hashlib.sha256(floats[0].numpy().tobytes()).hexdigest() == digest, path.name


def test_normalised_pixels_equal_the_formula_in_float32_bit_for_bit() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (pixels.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    found = normalise(torch.tensor(pixels), mean, std)
    assert found.shape == (1, 3, 16, 16)
    np.testing.assert_array_equal(found.numpy(), expected.transpose(0, 3, 1, 2))


def test_squashing_keeps_what_stands_at_the_edges() -> None:
    wide = Image.new("RGB", (900, 100), "black")
    wide.paste("red", (0, 0, 90, 100))
    wide.paste("blue", (810, 0, 900, 100))
    pixels = SquashTransform(size=30)(wide)
    assert pixels[15, [0, 15, 29]].tolist() == [[255, 0, 0], [0, 0, 0], [0, 0, 255]]


def test_another_size_or_normalisation_has_another_name() -> None:
    named = [
        SquashTransform(),
        SquashTransform(260),
        SquashTransform(260, CENTRED_MEAN, CENTRED_STD),
        SquashTransform(260, CENTRED_MEAN, IMAGENET_STD),
    ]
    assert [each.name for each in named] == [
        "squash-384-bilinear-imagenet",
        "squash-260-bilinear-imagenet",
        "squash-260-bilinear-centred",
        "squash-260-bilinear-(0.5, 0.5, 0.5)-(0.229, 0.224, 0.225)",
    ]


def test_an_image_with_an_empty_side_is_refused_with_its_size() -> None:
    with pytest.raises(ImageError, match="0 x 5 pixels"):
        SquashTransform()(Image.new("RGB", (0, 5)))


def test_an_rgb_image_is_not_copied_and_outlives_its_file(tmp_path: Path) -> None:
    noise(50, 40).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert to_rgb(image) is image
    assert image.resize((5, 4)).size == (5, 4)


GREYS = {
    "1": lambda: noise(90, 70).convert("1"),
    "L": lambda: noise(90, 70).convert("L"),
    "LA": lambda: noise(90, 70).convert("LA"),
    "I;16": lambda: Image.fromarray(np.random.default_rng(1).integers(0, 65536, (70, 90), dtype=np.uint16)),
    "I": lambda: Image.fromarray(np.random.default_rng(1).integers(0, 65536, (70, 90), dtype=np.int32)),
    "F": lambda: Image.fromarray(np.random.default_rng(1).random((70, 90), dtype=np.float32)),
}


@pytest.mark.parametrize("mode", GREYS)
def test_grey_is_squashed_in_one_channel_to_the_pixels_of_three(mode: str) -> None:
    image = GREYS[mode]()
    assert image.mode == mode
    for transparency in (None, 5):
        if transparency is not None and mode in {"1", "L"}:
            image.info["transparency"] = transparency
        for size in (33, 200):
            wanted = np.asarray(to_rgb(image).resize((size, size), Image.Resampling.BILINEAR))
            assert np.array_equal(SquashTransform(size)(image), wanted)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("turn", list(Image.Transpose))
def test_turning_the_small_picture_gives_the_pixels_of_turning_the_large_one(turn: Image.Transpose, mode: str) -> None:
    random = np.random.default_rng(turn)
    sizes = [(1000, 750), (750, 1000), (612, 816), (816, 612), (180, 120), (400, 90), (90, 400), (30, 50), (160, 160)]
    sizes += [tuple(random.integers(1, 700, 2).tolist()) for _ in range(15)]
    for number, (width, height) in enumerate(sizes):
        image = noise(width, height, number).convert(mode)
        for size in (60, 77, 128):
            transform = SquashTransform(size)
            wanted = transform(image.transpose(turn))
            assert np.array_equal(transform.turned(image, turn), wanted), (width, height, size)


def test_a_picture_on_its_side_is_small_before_it_is_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = []
    transpose = Image.Image.transpose
    monkeypatch.setattr(
        Image.Image, "transpose", lambda image, turn: (turned.append(image.size), transpose(image, turn))[1]
    )
    SquashTransform(64).turned(noise(400, 300), Image.Transpose.ROTATE_270)
    assert turned == [(64, 64)]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"])
def test_every_eight_bit_mode_becomes_rgb_as_pillow_converts_it(mode: str) -> None:
    image = noise(9, 7).convert("L").convert("LA").convert("PA") if mode == "PA" else None
    image = image or (noise(9, 7) if mode == "RGB" else Image.new(mode, (9, 7), 1))
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    assert rgb.size == (9, 7)
    assert rgb.tobytes() == image.convert("RGB").tobytes()


def test_alpha_is_dropped_and_not_blended() -> None:
    assert to_rgb(Image.new("RGBA", (1, 1), (10, 20, 30, 0))).getpixel((0, 0)) == (10, 20, 30)


def test_a_palette_with_transparent_entries_keeps_its_colours_and_warns_nobody() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = b"\x00\xff"
    rgb = to_rgb(image)
    assert [rgb.getpixel((x, 0)) for x in (0, 1)] == [(255, 0, 0), (0, 0, 255)]


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled_and_not_clipped(order: str) -> None:
    samples = np.array([[0, 256, 32768, 65535]], dtype=order)
    mode = "I;16B" if order == ">u2" else "I;16"
    image = Image.frombytes(mode, (4, 1), samples.tobytes())
    assert [to_rgb(image).getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 1, 128, 255)]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 127, 255]),
        ([0.0, 128.0, 200.0], [0, 128, 200]),
        ([0.0, 32768.0, 65535.0], [0, 127, 255]),
        ([-1.0, 0.0, 1.0], [0, 127, 255]),
        ([float("nan"), 0.5, 1.0], [0, 127, 255]),
        ([-3.0, -3.0, -3.0], [0, 0, 0]),
    ],
)
def test_floats_are_taken_in_the_range_they_speak(samples: list[float], expected: list[int]) -> None:
    image = Image.fromarray(np.array([samples], dtype=np.float32))
    assert image.mode == "F"
    assert [to_rgb(image).getpixel((x, 0))[0] for x in range(3)] == expected


def test_thirty_two_bit_integers_are_scaled_too() -> None:
    image = Image.fromarray(np.array([[0, 40_000, 60_000]], dtype=np.int32))
    assert [to_rgb(image).getpixel((x, 0))[0] for x in range(3)] == [0, 155, 233]
