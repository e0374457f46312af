"""What is kept of a picture, and tags given from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch

from ram_core import load_model
from ram_core.errors import FeaturesError
from ram_core.features import pack, unpack_tokens
from ram_core.modeling.tiny import write_tiny_models

if TYPE_CHECKING:
    from pathlib import Path

    from ram_core.recognizer import RamRecognizer


def tokens(seed: int = 0) -> torch.Tensor:
    return (
        torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1, 9, 0.1, 4, 1])[:, None]
    )


def test_tokens_come_back_within_half_a_step_of_their_own_scale() -> None:
    given = tokens()
    rows = pack(given, "tokens")
    assert rows.shape == (3, 2 * 16 + 4 * (4 + 16))
    back = unpack_tokens(rows, 16)
    steps = given[:, 1:].abs().amax(dim=-1, keepdim=True) / 127
    assert ((back - given)[:, 1:].abs() <= steps / 2 + 1e-6).all()
    assert torch.equal(back[:, 0], given[:, 0].half().float())


def test_the_size_is_what_the_documents_say() -> None:
    assert pack(torch.zeros(1, 145, 512), "tokens").shape == (1, 75_328)
    assert pack(torch.zeros(1, 145, 512), "global").shape == (1, 1024)


def test_tokens_of_nothing_stay_nothing() -> None:
    assert torch.equal(unpack_tokens(pack(torch.zeros(2, 3, 8), "tokens"), 8), torch.zeros(2, 3, 8))


@pytest.mark.parametrize("length", [1, 32, 33, 100])
def test_rows_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="another model"):
        unpack_tokens(np.zeros((1, length), dtype=np.uint8), 16)


@pytest.mark.parametrize("name", ["ram", "ram_plus"])
def test_kept_tokens_give_nearly_the_same_scores_and_the_same_vector(name: str, tmp_path: Path) -> None:
    write_tiny_models(name, tmp_path)
    model = cast("RamRecognizer", load_model(name, models_dir=tmp_path, cache_dir=tmp_path))
    size = model.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    seen = model.predict(pixels, features="tokens")
    assert all(each.features is None for each in model.predict(pixels))
    again = model.retag(np.stack([each.features for each in seen if each.features is not None]))
    for before, after in zip(seen, again, strict=True):
        scores = dict(zip(before.tag_ids.tolist(), before.scores.tolist(), strict=True))
        for tag, score in zip(after.tag_ids.tolist(), after.scores.tolist(), strict=True):
            assert abs(scores.get(tag, model.score_floor) - score) < 0.02
        assert float(before.vector @ after.vector) > 0.99999
    with pytest.raises(FeaturesError, match="another model"):
        model.retag(np.zeros((1, 1024), dtype=np.uint8))
