"""Where a model looked: for lite exactly, for the others by their attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from ram_core import load_model
from ram_core.errors import ModelError, VocabularyError
from ram_core.localization.evidence import activation_maps, evidence
from ram_core.modeling.tiny import write_tiny_models
from ram_core.transforms import normalise
from tests.photographs import photographs

if TYPE_CHECKING:
    from pathlib import Path

ATTENTIVE = ("ram", "ram_plus", "tag2text")


@pytest.fixture(scope="module")
def lite() -> Any:
    return load_model("lite")


@pytest.fixture(scope="module")
def attentive(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("models")
    for name in ATTENTIVE:
        write_tiny_models(name, folder)
    return {name: load_model(name, models_dir=folder) for name in ATTENTIVE}


def rocket() -> Image.Image:
    [path] = [path for path in photographs() if path.name == "rocket.jpg"]
    with Image.open(path) as image:
        return image.convert("RGB")


def coloured(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (7, 9, 3), dtype=np.uint8)).resize((300, 200))


def test_the_mean_of_lite_s_map_is_its_logit(lite: Any) -> None:
    image = rocket()
    pixels = torch.from_numpy(lite.preprocessing(image).copy())[None]
    logits = lite.tag_logits(normalise(pixels, lite.preprocessing.mean, lite.preprocessing.std))[0]
    tags = [0, 404, 744, 999]
    maps = activation_maps(lite, image, tags)
    assert maps.shape == (4, 9, 9)
    bias = lite.network.classifier.bias[tags].detach().numpy()
    np.testing.assert_allclose(maps.mean(axis=(1, 2)) + bias, logits[tags].numpy(), atol=1e-4)


def test_lite_looks_at_the_rocket_where_it_stands(lite: Any) -> None:
    image = rocket()
    best = max(lite.recognize([image], caption=False)[0].tags, key=lambda tag: tag.score)
    found = evidence(lite, image, best.name)
    turned = evidence(lite, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), best.name.upper())
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() == 1
    # It stands in the middle, and the flame to its left.
    assert 3 <= np.unravel_index(found.argmax(), found.shape)[1] <= 5
    assert abs(int(np.unravel_index(turned.argmax(), turned.shape)[1]) - 4) <= 1
    np.testing.assert_array_equal(found, evidence(lite, image, best.id))


@pytest.mark.parametrize("name", ATTENTIVE)
@pytest.mark.parametrize("method", ["attention", "gradient"])
def test_attention_has_a_map_of_the_image_tokens(name: str, method: Any, attentive: dict[str, Any]) -> None:
    model = attentive[name]
    found = evidence(model, coloured(), 3, method=method)
    side = model.preprocessing.size // 32
    assert found.shape == (side, side)
    assert found.dtype == np.float32
    assert 0 <= found.min() < found.max() == 1
    assert not np.array_equal(found, evidence(model, coloured(), 5, method=method))
    assert not np.array_equal(found, evidence(model, coloured(1), 3, method=method))


@pytest.mark.parametrize("name", ATTENTIVE)
def test_the_map_is_the_attention_that_the_score_comes_from(
    name: str, attentive: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attend with the shares of the map alone, put in for those of the last layer, and get the same score."""
    from ram_core.localization import evidence as module  # noqa: PLC0415

    model, tag = attentive[name], 3
    network = model.runner.network
    pixels = torch.from_numpy(model.preprocessing(coloured()).copy())[None]
    tokens = model.runner.embed(normalise(pixels, model.preprocessing.mean, model.preprocessing.std)).clone()
    with torch.no_grad():
        shares, logit = module._last_attention(network, tokens, tag)
    expected = model.runner(normalise(pixels, model.preprocessing.mean, model.preprocessing.std)).logits[0, tag]
    assert float(logit) == pytest.approx(float(expected), abs=1e-4)
    assert float(shares.sum()) == pytest.approx(shares.shape[1])
    ours = shares[0, :, 0, 1:].mean(dim=0).numpy()
    np.testing.assert_allclose(evidence(model, coloured(), tag).ravel(), ours / ours.max(), rtol=1e-5)


def test_the_gradient_is_that_of_the_score(attentive: dict[str, Any]) -> None:
    from ram_core.localization import evidence as module  # noqa: PLC0415

    model = attentive["ram"]
    pixels = torch.from_numpy(model.preprocessing(coloured()).copy())[None]
    tokens = model.runner.embed(normalise(pixels, model.preprocessing.mean, model.preprocessing.std)).clone()
    shares, logit = module._last_attention(model.runner.network, tokens, 3)
    (slope,) = torch.autograd.grad(logit, shares)
    places = functional.relu(shares * slope)[0, :, 0, 1:].mean(dim=0).detach().numpy()
    found = evidence(model, coloured(), 3, method="gradient")
    np.testing.assert_allclose(found.ravel(), places / places.max(), rtol=1e-4, atol=1e-6)
    assert not np.allclose(found, evidence(model, coloured(), 3), atol=0.05)


def test_lite_looks_for_an_animal_where_it_looks_for_the_cat(lite: Any) -> None:
    image = Image.open(next(path for path in photographs() if path.name == "chelsea.png"))
    animal, cat, tabby = (evidence(lite, image, tag) for tag in ("animal", "cat", "Egyptian cat"))
    assert np.corrcoef(animal.ravel(), tabby.ravel())[0, 1] > 0.8
    assert np.corrcoef(cat.ravel(), tabby.ravel())[0, 1] > 0.8


def test_what_has_no_map_is_refused(lite: Any) -> None:
    with pytest.raises(VocabularyError, match="no tag 'unicorn horn'"):
        evidence(lite, coloured(), "unicorn horn")
    with pytest.raises(VocabularyError, match=r"0 to 1187, not 1188"):
        evidence(lite, coloured(), len(lite.vocabulary))
    with pytest.raises(ModelError, match="method 'magic'"):
        evidence(lite, coloured(), 1, method="magic")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="ZeroShotLite"):
        evidence(lite.with_vocabulary(["cat", "dog"]), coloured(), "cat")
