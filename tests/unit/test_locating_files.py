"""Detectors and segmenters load from a folder alone, and say in one line what is wrong with it."""

from __future__ import annotations

import json
import pickle
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.image_transforms import get_size_with_aspect_ratio

from ram_core import checkpoints
from ram_core.errors import CheckpointError, DeviceError, ImageError, ModelError, UnknownModelError
from ram_core.localization import DETECTORS, SEGMENTERS, LocatingTransform, load_detector, load_locator, load_segmenter
from ram_core.localization.tiny import MODELS
from ram_core.transforms import Sides
from tests.tiny_locators import picture, write_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DETECTOR, SEGMENTER = "grounding-dino-tiny", "sam-vit-base"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_models(tmp_path_factory.mktemp("models"), DETECTOR, SEGMENTER)


@pytest.fixture
def models(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "models")
    return tmp_path / "models"


def test_the_catalogue_has_each_with_the_files_that_loading_reads() -> None:
    for name in (*DETECTORS, *SEGMENTERS):
        files = {file.name: file for file in checkpoints.entry(name).files}
        assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= files.keys()
        assert not [file for file in files if file.endswith((".bin", ".pt", ".pth", ".py"))]
        assert all(file.url.startswith("https://huggingface.co/") for file in files.values())
        if name in DETECTORS:
            assert "tokenizer.json" in files or {"vocab.json", "merges.txt"} <= files.keys()
    pinned = {name for name in (*DETECTORS, *SEGMENTERS) if checkpoints.entry(name).file("model.safetensors").sha256}
    assert pinned == {*DETECTORS, *SEGMENTERS} - {"mm-grounding-dino-tiny", "sam-hq-vit-base"}
    for name in pinned:
        assert "/resolve/main/" not in checkpoints.entry(name).files[0].url
    assert set(MODELS) <= {*DETECTORS, *SEGMENTERS}


def spoil(name: str, file: str, change: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda models: change(models / name / file)


def without_a_weight(path: Path) -> None:
    weights = load_file(path)
    weights.pop(min(key for key in weights if "mask_decoder" in key or "decoder" in key))
    save_file(weights, path, metadata={"format": "pt"})


def of_other_sizes(path: Path) -> None:
    weights = load_file(path)
    key = min(key for key, weight in weights.items() if weight.ndim == 2 and "decoder" in key)
    weights[key] = weights[key][:1].clone()
    save_file(weights, path, metadata={"format": "pt"})


def as_code(path: Path) -> None:
    path.with_name("pytorch_model.bin").write_bytes(pickle.dumps(print))
    path.unlink()


def set_json(**changes: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", [DETECTOR, SEGMENTER])
@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("model.safetensors", lambda path: path.unlink(), "model.safetensors is missing; run `ramq models pull"),
        ("model.safetensors", as_code, "model.safetensors is missing; run `ramq models pull"),
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:5000]), "cannot be read as"),
        ("model.safetensors", without_a_weight, "lacks 1 weights that"),
        ("model.safetensors", of_other_sizes, "cannot be read as|lacks 1 weights that"),
        ("config.json", lambda path: path.unlink(), "config.json is missing; run `ramq models pull"),
        ("config.json", lambda path: path.write_text("{"), "config.json is damaged"),
        ("config.json", lambda path: path.write_text("[]"), "config.json is damaged"),
        ("config.json", set_json(model_type="clip"), "has a model of type 'clip', not a"),
        ("preprocessor_config.json", lambda path: path.unlink(), "preprocessor_config.json is missing"),
        ("preprocessor_config.json", set_json(image_mean=[1, 2]), "has sizes or levels that cannot be"),
        ("preprocessor_config.json", set_json(image_std=[0, 1, 1]), "has sizes or levels that cannot be"),
        ("preprocessor_config.json", set_json(image_mean=["a"] * 3), "preprocessor_config.json is damaged"),
    ],
)
def test_what_is_wrong_with_the_files_is_said_in_one_line(
    name: str, file: str, change: Callable[[Path], object], said: str, models: Path
) -> None:
    change(models / name / file)
    with pytest.raises(CheckpointError, match=said) as caught:
        (load_detector if name == DETECTOR else load_segmenter)(name, models_dir=models)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_missing_tokenizer_is_an_error(models: Path) -> None:
    for path in (*models.glob(f"{DETECTOR}/*token*"), models / DETECTOR / "vocab.txt"):
        path.unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_detector(DETECTOR, models_dir=models)


def test_another_model_s_tokenizer_is_an_error(models: Path) -> None:
    known = json.loads((models / DETECTOR / "tokenizer.json").read_text())
    words = known["model"]["vocab"]
    words["."], words["dog"] = words["dog"], words["."]
    (models / DETECTOR / "tokenizer.json").write_text(json.dumps(known))
    with pytest.raises(CheckpointError, match="is not that of bert-base-uncased"):
        load_detector(DETECTOR, models_dir=models)


def test_names_are_those_of_the_catalogue_or_of_folders(models: Path) -> None:
    (models / DETECTOR).rename(models / "my-own")
    assert load_detector("my-own", models_dir=models).spec.model == "my-own"
    with pytest.raises(CheckpointError, match=r"is not here .* run `ramq models pull grounding-dino-tiny`"):
        load_detector(DETECTOR, models_dir=models)
    with pytest.raises(CheckpointError, match="no folder of models is set"):
        load_segmenter(SEGMENTER)
    for name in ("nothing", "..", f"../models/{SEGMENTER}", str(models / SEGMENTER), ""):
        with pytest.raises(UnknownModelError, match="known models: sam-vit-base"):
            load_segmenter(name, models_dir=models)
    with pytest.raises(CheckpointError, match="type 'sam', not a detector"):
        load_detector(SEGMENTER, models_dir=models)
    with pytest.raises(DeviceError):
        load_segmenter(SEGMENTER, models_dir=models, device="cuda:7")
    with pytest.raises(DeviceError):
        load_segmenter(SEGMENTER, models_dir=models, device="toaster")


def test_the_fingerprint_knows_weights_and_rules(models: Path, written: Path) -> None:
    first = load_locator(DETECTOR, SEGMENTER, models_dir=models).spec
    assert first == load_locator(DETECTOR, SEGMENTER, models_dir=written).spec
    assert first.fingerprint != load_locator(DETECTOR, models_dir=models).spec.fingerprint
    kinds = {"poodle": ["dog"]}
    assert first.fingerprint != load_locator(DETECTOR, SEGMENTER, models_dir=models, kinds=kinds).spec.fingerprint
    write_models(models, SEGMENTER)
    weights = load_file(models / SEGMENTER / "model.safetensors")
    save_file({key: weight * 1.01 for key, weight in weights.items()}, models / SEGMENTER / "model.safetensors")
    assert first.fingerprint != load_locator(DETECTOR, SEGMENTER, models_dir=models).spec.fingerprint


sizes = st.integers(1, 5000)
usual = st.integers(300, 5000)


@given(usual, usual)
def test_pictures_have_the_size_that_transformers_gives_them(width: int, height: int) -> None:
    own = Sides(800, 1333).of(width, height)
    expected = get_size_with_aspect_ratio((height, width), 800, 1333)[::-1]
    # transformers rounds twice where the longer side decides, and so may miss its own maximum by a pixel or two.
    assert abs(own[0] - expected[0]) <= 2
    assert abs(own[1] - expected[1]) <= 2
    assert max(own) <= 1333
    assert min(own) <= 800
    assert 800 in own or 1333 in own


@given(sizes, sizes, st.integers(1, 2000), st.integers(0, 2000))
def test_resizing_again_changes_nothing(width: int, height: int, short: int, more: int) -> None:
    sides = Sides(short, short + more)
    assert sides.of(*sides.of(width, height)) == sides.of(width, height)


@pytest.mark.parametrize(
    ("networks", "size", "expected"),
    [
        ((Sides(800, 1333),), (4000, 3000), (1066, 800)),
        ((Sides(800, 1333),), (4000, 1000), (1333, 333)),
        ((Sides(800, 1333),), (640, 480), (640, 480)),  # nothing is enlarged
        ((Sides(800, 1333), Sides(1024, 1024)), (3000, 3000), (1024, 1024)),
        ((Sides(800, 1333), Sides(1024, 1024)), (4000, 3000), (1066, 800)),
        ((Sides(800, 1333), Sides(1024, 4096)), (4000, 3000), (1365, 1024)),
        ((Sides(800, 1333), Sides(1024, 4096)), (20000, 2000), (4096, 410)),
        ((Sides(800, 1333),), (1, 9000), (1, 1333)),
    ],
)
def test_a_picture_is_reduced_to_what_every_network_can_use(
    networks: tuple[Sides, ...], size: tuple[int, int], expected: tuple[int, int]
) -> None:
    transform = pickle.loads(pickle.dumps(LocatingTransform(networks)))
    assert transform(Image.new("L", size)).shape == (expected[1], expected[0], 3)
    # Decoders keep twice this size on the shorter side.
    assert 2 * transform.size >= min(expected)


def test_images_are_turned_upright(written: Path) -> None:
    locator = load_locator(DETECTOR, models_dir=written)
    upright = Image.fromarray(picture(96, 128))
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees clockwise to view it
    lying.info["exif"] = exif.tobytes()
    lying._exif = None  # type: ignore[attr-defined]
    lying.getexif().load(exif.tobytes())
    one, other = locator.locate_images([upright, lying], [["cat", "dog"]] * 2)
    assert one.regions
    assert one == other
    with pytest.raises(ImageError):
        locator.locate_images([Image.new("RGB", (0, 5))], [["cat"]])
    with pytest.raises(ModelError):
        locator.locate_images([upright], [])
    assert np.array_equal(locator.preprocessing(upright), picture(96, 128))
