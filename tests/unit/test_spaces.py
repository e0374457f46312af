"""Encoders of pictures for spaces of their own: lite's look, RAM's, and towers with random weights of real classes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel

from ram_core import load_model, precision
from ram_core.checkpoints import installed
from ram_core.errors import CheckpointError, DeviceError, ImageError, UnknownModelError
from ram_core.modeling.tiny import write_tiny_models
from ram_core.spaces import ENCODERS, METHODS_WITH_TEXTS, TOWERS, WITH_TEXTS, load_image_encoder, load_text_tower
from ram_core.spaces.files import tower_type, vector_size
from ram_core.spaces.tiny import MODELS, write_tiny_tower
from ram_core.transforms import IMAGENET_MEAN, IMAGENET_STD, normalise
from ramq.schemas.jobs import NewJob
from ramq.services.job_wishes import FOLLOWING
from ramq.settings import load_settings
from ramq.web.api.stages import Stage
from storage.results.spaces import SPACES
from workers import messages

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("towers")
    for name in MODELS:
        write_tiny_tower(name, folder)
    return folder


def pictures(encoder: Any, count: int = 5) -> np.ndarray:
    random = np.random.default_rng(0)
    made = [Image.fromarray(random.integers(0, 256, (90, 120, 3), dtype=np.uint8)) for _ in range(count)]
    return np.stack([encoder.preprocessing(image) for image in made])


@pytest.mark.parametrize("name", ["lite", *MODELS])
def test_vectors_have_unit_length_and_do_not_depend_on_the_batch(name: str, models_dir: Path) -> None:
    encoder = load_image_encoder(name, models_dir=models_dir)
    pixels = pictures(encoder)
    vectors = encoder.encode(pixels)
    assert vectors.shape == (5, encoder.spec.vector_size)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        np.concatenate([encoder.encode(pixels[i : i + 1]) for i in range(5)]), vectors, atol=1e-5
    )
    assert encoder.encode(pixels[:0]).shape == (0, encoder.spec.vector_size)
    assert len({row.tobytes() for row in vectors.round(4)}) == 5


@pytest.mark.parametrize("name", ["lite", *MODELS])
def test_the_method_says_whether_texts_can_be_compared(name: str, models_dir: Path) -> None:
    method = load_image_encoder(name, models_dir=models_dir).spec.method
    assert method.startswith(METHODS_WITH_TEXTS) == (name in WITH_TEXTS)


def test_lite_needs_no_files_and_its_vector_is_made_of_two_groups_of_equal_weight() -> None:
    encoder = load_image_encoder("lite")
    (vector,) = encoder.encode(pictures(encoder, 1))
    assert len(vector) == 208 + 352
    np.testing.assert_allclose([np.linalg.norm(vector[:208]), np.linalg.norm(vector[208:])], [0.5**0.5] * 2, rtol=1e-5)


def test_lite_finds_the_same_thing_among_others() -> None:
    encoder = load_image_encoder("lite")
    picture = np.asarray(Image.radial_gradient("L").resize((300, 200)))
    one = Image.fromarray(np.dstack([picture, picture // 2, 255 - picture]))
    mirrored = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.stack([encoder.preprocessing(image) for image in (one, mirrored)])
    near, like = encoder.encode(pixels)
    assert near @ like > 0.95
    assert all(near @ other < 0.8 for other in encoder.encode(pictures(encoder)))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_tower_gives_what_its_whole_network_gives(name: str, models_dir: Path) -> None:
    encoder = load_image_encoder(name, models_dir=models_dir)
    pixels = pictures(encoder, 2)
    network = AutoModel.from_pretrained(str(models_dir / name)).eval()
    told = json.loads((models_dir / name / "preprocessor_config.json").read_text())
    images = (pixels / np.float32(255) - np.float32(told["image_mean"])) / np.float32(told["image_std"])
    with torch.inference_mode():
        tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float()
        if name in WITH_TEXTS:
            found = network.get_image_features(pixel_values=tensor).pooler_output
        else:
            found = network(pixel_values=tensor).last_hidden_state[:, 0]
    expected = torch.nn.functional.normalize(found, dim=1).numpy()
    np.testing.assert_allclose(encoder.encode(pixels), expected, atol=1e-5)


@pytest.mark.parametrize("name", WITH_TEXTS)
def test_texts_share_the_space_of_pictures(name: str, models_dir: Path) -> None:
    texts = load_text_tower(name, models_dir=models_dir)
    asked = ["a dog", "a photograph of a cat that sleeps", "x" * 500]
    vectors = texts.encode(asked)
    assert vectors.shape == (3, load_image_encoder(name, models_dir=models_dir).spec.vector_size)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.concatenate([texts.encode([text]) for text in asked]), vectors, atol=1e-5)
    assert texts.encode([]).shape == (0, texts.vector_size)


def test_siglip_reads_texts_in_lower_case(models_dir: Path) -> None:
    texts = load_text_tower("siglip2-base", models_dir=models_dir)
    np.testing.assert_array_equal(texts.encode(["A Dog"]), texts.encode(["a dog"]))


@pytest.mark.parametrize("name", ["ram", "ram_plus"])
def test_ram_looks_with_the_mean_of_its_tokens(name: str, tmp_path: Path) -> None:
    write_tiny_models(name, tmp_path)
    encoder = load_image_encoder(name, models_dir=tmp_path)
    pixels = pictures(encoder, 3)
    vectors = encoder.encode(pixels)
    assert vectors.shape == (3, encoder.spec.vector_size)
    model: Any = load_model(name, models_dir=tmp_path)
    images = normalise(torch.tensor(pixels), IMAGENET_MEAN, IMAGENET_STD)
    with torch.inference_mode():
        tokens = model.runner.network.visual_encoder(images)[:, 1:]  # without the mean itself
    expected = torch.nn.functional.normalize(tokens.mean(dim=1), dim=1).numpy()
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_the_length_of_vectors_is_known_without_loading(models_dir: Path, tmp_path: Path) -> None:
    for name in ("lite", *MODELS):
        spec = load_image_encoder(name, models_dir=models_dir).spec
        assert vector_size(name, models_dir) == spec.vector_size
    assert [vector_size(name, tmp_path) for name in TOWERS] == [768, 512, 768]
    for name in TOWERS:  # published files name only what differs from the defaults
        told = {"model_type": tower_type(name, models_dir), "text_config": {}}
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / "config.json").write_text(json.dumps(told))
        assert vector_size("mine", tmp_path) == vector_size(name, tmp_path)
    assert vector_size("nope", tmp_path) is None
    assert installed(models_dir) == sorted(MODELS)


def test_what_made_a_vector_tells_encoders_apart(models_dir: Path) -> None:
    fingerprints = {load_image_encoder(name, models_dir=models_dir).spec.fingerprint for name in ("lite", *TOWERS)}
    assert len(fingerprints) == 1 + len(TOWERS)
    again = write_tiny_tower("dinov2-base", models_dir.parent / "other", seed=9).parent
    assert load_image_encoder("dinov2-base", models_dir=again).spec.fingerprint not in fingerprints


def test_what_cannot_be_loaded_is_told(models_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="unknown model 'nope'; known models: lite, ram"):
        load_image_encoder("nope", models_dir=models_dir)
    with pytest.raises(CheckpointError, match="run `ramq models pull siglip2-base`"):
        load_image_encoder("siglip2-base", models_dir=tmp_path)
    with pytest.raises(UnknownModelError, match="dinov2-base has no text encoder; towers with one: siglip2-base"):
        load_text_tower("dinov2-base", models_dir=models_dir)
    with pytest.raises(UnknownModelError, match="lite has no text encoder"):
        load_text_tower("lite", models_dir=models_dir)
    with pytest.raises(DeviceError, match="float16 is not available on the CPU"):
        load_image_encoder("dinov2-base", models_dir=models_dir, precision="float16")
    folder = write_tiny_tower("dinov2-base", tmp_path)
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="lacks means and deviations"):
        load_image_encoder("dinov2-base", models_dir=tmp_path)
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot be read as Dinov2Model"):
        load_image_encoder("dinov2-base", models_dir=tmp_path)


def test_pixels_of_another_size_are_refused(models_dir: Path) -> None:
    for name in ("lite", "siglip2-base"):
        with pytest.raises(ImageError, match="make them with `preprocessing`"):
            load_image_encoder(name, models_dir=models_dir).encode(np.zeros((1, 8, 8, 3), np.uint8))


def test_names_are_those_of_the_catalogue() -> None:
    from ram_core.checkpoints.published import catalogue  # noqa: PLC0415

    known = {entry.name for entry in catalogue()}
    assert set(ENCODERS) <= known


@pytest.mark.parametrize("name", ["lite", *MODELS])
def test_vectors_in_16_bits_are_near_those_in_32_and_of_another_generation(name: str, models_dir: Path) -> None:
    exact, rounded = (load_image_encoder(name, models_dir=models_dir, precision=each) for each in ("auto", "bfloat16"))
    pixels = pictures(exact)
    vectors, near = exact.encode(pixels), rounded.encode(pixels)
    assert near.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(near, axis=1), 1, rtol=1e-5)
    assert not np.array_equal(vectors, near)
    assert (vectors * near).sum(axis=1).min() > 0.995
    assert exact.spec == load_image_encoder(name, models_dir=models_dir, precision="float32").spec
    assert rounded.spec.method == f"{exact.spec.method}-bfloat16"
    assert rounded.spec.fingerprint != exact.spec.fingerprint


@pytest.mark.parametrize(
    ("name", "types", "message"),
    [
        (
            "siglip2-base",
            ("dinov2", "dinov3_vit"),
            r"a model of type 'siglip', not a tower \(dinov2, dinov3_vit\)",
        ),
        ("lite", ("clip",), "lite is no tower of type clip"),
        ("nope", ("clip",), "unknown model 'nope'; known models: "),
    ],
)
def test_a_tower_of_another_type_is_refused(name: str, types: tuple[str, ...], message: str, models_dir: Path) -> None:
    with pytest.raises((CheckpointError, UnknownModelError), match=message):
        load_image_encoder(name, models_dir=models_dir, types=types)


def test_every_list_of_spaces_has_all_of_them() -> None:
    assert set(SPACES) == {"look", *messages.TOWERS} == {"look", *messages.TOWER_TYPES}
    assert {name for names in messages.TOWERS.values() for name in names} == set(TOWERS)
    assert get_args(get_args(Stage)[0]) == tuple(messages.STAGE_MODELS)
    assert get_args(get_args(NewJob.model_fields["stages"].annotation)[0]) == FOLLOWING
    assert set(load_settings().stage_models) == set(messages.STAGE_MODELS)


def test_lite_stays_in_32_bits_unless_it_is_asked(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def choose(name: str, device: torch.device) -> precision.Precision:
        asked.append(name)
        return precision.Precision(device)

    monkeypatch.setattr(precision, "choose", choose)
    for name, wanted in (("lite", "auto"), ("lite", "bfloat16"), ("dinov2-base", "auto")):
        load_image_encoder(name, models_dir=models_dir, precision=wanted)
    assert asked == ["float32", "bfloat16", "auto"]


def test_what_is_wrong_with_a_tower_of_ones_own_is_told_in_whole_and_names_no_pull(tmp_path: Path) -> None:
    folder = write_tiny_tower("siglip2-base", tmp_path).rename(tmp_path / "mine")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="copy the files of mine there again") as raised:
        load_text_tower("mine", models_dir=tmp_path)
    assert ":)" not in str(raised.value)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is missing; copy the files of mine there again"):
        load_image_encoder("mine", models_dir=tmp_path)
