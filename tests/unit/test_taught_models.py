"""Taught models: tags of heads from pictures, and from what is recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from ram_core.errors import FeaturesError, VocabularyError
from ram_core.features import pack_pooled
from ram_core.lite.network import SIZES
from ram_core.recognition import ModelSpec, Prediction
from ram_core.teaching.heads import Head, own_logit, sigmoid
from ram_core.teaching.inputs import inputs
from ram_core.teaching.recognizer import Recorded, TaughtRecognizer
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 24


def rows(count: int, seed: int = 0) -> NDArray[np.uint8]:
    import torch  # noqa: PLC0415

    generator = torch.Generator().manual_seed(seed)
    return pack_pooled([torch.rand(count, size, generator=generator) for size in SIZES])


def test_each_part_of_the_inputs_has_unit_length() -> None:
    x = inputs(rows(3), "pooled", 384)
    assert x.shape == (3, sum(SIZES))
    start = 0
    for size in SIZES:
        np.testing.assert_allclose(np.linalg.norm(x[:, start : start + size], axis=1), 1, atol=1e-5)
        start += size
    assert not inputs(pack_pooled([__import__("torch").zeros(1, size) for size in SIZES]), "pooled", 384).any()
    with pytest.raises(FeaturesError, match="another one"):
        inputs(np.zeros((2, 100), dtype=np.uint8), "pooled", 384)


# A model with heads -------------------------------------------------------------------------------------------------


class Model:
    """Three tags; the scores of the first image are 0.9, 0.2 and nothing."""

    def __init__(self) -> None:
        self.vocabulary = TagVocabulary.from_names("three", ["a", "b", "c"])
        self.spec = ModelSpec("lite", "0" * 64, self.vocabulary.sha256, "p", "tags", 4)
        self.score_floor = 0.1
        self.preprocessing = None

    def predict(self, pixels: NDArray[np.uint8], *, caption: bool = False, features: str | None = None) -> Any:
        del caption
        assert features == "pooled"
        kept = rows(len(pixels))
        return [
            Prediction(np.array([0, 1], np.int32), np.array([0.9, 0.2], np.float32), np.ones(4, np.float32), None, row)
            for row in kept
        ]

    def scores_of_features(self, kept: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.tile(np.array([0.8, 0.3, 0.05], np.float32), (len(kept), 1))


def taught(*heads: Head, names: tuple[str, ...] = ("a", "b", "c", "new")) -> TaughtRecognizer:
    vocabulary = TagVocabulary("t", names, (None,) * len(names), np.full(len(names), 0.5, np.float32), taught="x")
    return TaughtRecognizer(cast("Any", Model()), vocabulary, heads, "pooled")


def head(tag_id: int, *, own: float = 0.0, bias: float = 1.0) -> Head:
    weights = np.random.default_rng(tag_id).normal(size=sum(SIZES)).astype(np.float32)
    return Head(tag_id, "own+head" if own else "head", weights, own, bias)


PIXELS = np.zeros((2, 8, 8, 3), dtype=np.uint8)


def test_pictures_get_the_models_tags_and_those_of_heads() -> None:
    new, mended = head(3), head(1, own=2.0)
    model = taught(new, mended)
    seen = model.predict(PIXELS)
    x = inputs(rows(2), "pooled", 4)
    own = own_logit(np.full(2, 0.2, np.float32), 0.01)
    for at, one in enumerate(seen):
        scores = dict(zip(one.tag_ids.tolist(), one.scores.tolist(), strict=True))
        assert scores[0] == pytest.approx(0.9)
        for each, logits in ((1, mended.logits(x, own)), (3, new.logits(x, own))):
            expected = float(sigmoid(logits)[at])
            assert scores.get(each, 0) == pytest.approx(expected if expected >= 0.1 else 0)
        assert list(one.tag_ids) == sorted(one.tag_ids)
        assert one.features is None
    assert model.predict(PIXELS, features="pooled")[0].features is not None
    assert model.spec.vocabulary_sha256 == model.vocabulary.sha256 != Model().spec.vocabulary_sha256


def recorded(**changes: Any) -> list[Recorded]:
    first = np.array([0, 1], np.int32), np.array([0.9, 0.2], np.float32), np.ones(4, np.float32)
    return [Recorded(*first, **changes)] * 2


def test_what_is_recorded_gives_the_same_tags_as_the_picture() -> None:
    model = taught(head(3), head(1, own=2.0))
    for seen, again in zip(model.predict(PIXELS), model.retag_recorded(rows(2), recorded()), strict=True):
        np.testing.assert_array_equal(seen.tag_ids, again.tag_ids)
        np.testing.assert_allclose(seen.scores, again.scores, atol=1e-6)


def test_scores_of_other_heads_are_computed_again_from_features() -> None:
    model = taught(head(3))
    # The record has another head's score of "b", which has none here: the model's own one is 0.3.
    [one, _] = model.retag_recorded(rows(2), recorded(other={1}))
    scores = dict(zip(one.tag_ids.tolist(), one.scores.tolist(), strict=True))
    assert (scores[0], scores[1]) == (pytest.approx(0.9), pytest.approx(0.3))
    # The record is of other tags altogether.
    [one, _] = model.retag_recorded(rows(2), recorded(is_of_base=False))
    scores = dict(zip(one.tag_ids.tolist(), one.scores.tolist(), strict=True))
    assert (scores[0], scores[1]) == (pytest.approx(0.8), pytest.approx(0.3))


def test_scores_of_the_same_heads_stay_as_they_are() -> None:
    model = taught(head(3), head(1))
    [one, _] = model.retag_recorded(rows(2), recorded(same={1}))
    assert dict(zip(one.tag_ids.tolist(), one.scores.tolist(), strict=True))[1] == pytest.approx(0.2)


def test_a_tag_is_scored_by_its_name_from_what_is_kept() -> None:
    class Named(Model):
        """Scores a name by the first byte that is kept of an image."""

        retags_from = "tokens"

        def with_vocabulary(self, vocabulary: TagVocabulary) -> Any:
            assert vocabulary.names == ("new",)
            return self

        def retag(self, kept: NDArray[np.uint8]) -> Any:
            ids = np.array([0], np.int32)
            return [Prediction(ids, np.array([row[0] / 255], np.float32), np.ones(4, np.float32)) for row in kept]

    vocabulary = TagVocabulary("t", ("a", "b", "c", "new"), (None,) * 4, np.full(4, 0.5, np.float32), taught="x")
    model = TaughtRecognizer(
        cast("Any", Named()), vocabulary, [Head(3, "description", np.empty(0, np.float32))], "pooled"
    )
    kept = rows(2)
    kept[:, 0] = 204, 0
    first, second = model.retag_recorded(kept, recorded())
    assert dict(zip(first.tag_ids.tolist(), first.scores.tolist(), strict=True))[3] == pytest.approx(0.8)
    assert list(second.tag_ids) == [0, 1]


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(VocabularyError, match="never taught"):
        taught()
    with pytest.raises(VocabularyError, match="does not begin with"):
        taught(head(3), names=("a", "c", "b", "new"))
    with pytest.raises(VocabularyError, match="of another model"):
        taught(Head(3, "head", np.ones(5, np.float32))).predict(PIXELS)


# What to label next -------------------------------------------------------------------------------------------------
