"""``lite`` with custom tags: zero-shot ConSE (arXiv:1312.5650, section 3).

An image's vector is a weighted mean of the embeddings of the classes that ``lite`` sees in it. A tag that is not a
class is scored by the similarity of its own embedding to that vector. Only the vector is needed. But nothing can be
found that resembles no class.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ram_core.embeddings import cached_embeddings, unit
from ram_core.errors import FeaturesError
from ram_core.lite.text_encoder import load_minilm
from ram_core.openset import embed_vocabulary
from ram_core.recognition import ModelSpec, Prediction, Recognition, recognize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from ram_core.recognition import Recognizer
    from ram_core.transforms import SquashTransform
    from ram_core.vocabulary import TagVocabulary

# Raw cosines are hard to interpret: unrelated names reach 0.45 here, right ones 0.55 and more. The score is 0.5 between
# them, so the usual threshold of an open vocabulary suits this model too.
_MIDDLE = 0.55
_STEEPNESS = 20.0
_SCORE_FLOOR = 0.1
_KEPT = 50
_BATCH = 32


class Base(Protocol):
    """The interface of ``lite`` that this module needs."""

    @property
    def spec(self) -> ModelSpec:
        """The specification of its generation."""

    @property
    def preprocessing(self) -> SquashTransform:
        """The transform from a decoded image to pixels."""

    def with_vocabulary(self, vocabulary: TagVocabulary) -> Recognizer:
        """Return the model for other tags."""

    def predict(self, pixels: NDArray[np.uint8], *, features: Literal["pooled"] | None = None) -> list[Prediction]:
        """Recognise (B, S, S, 3) pixels."""


class ZeroShotLite:
    """``lite`` for any names. Implements ``ram_core.recognition.Retagger``.

    Args:
        base: the loaded model.
        vocabulary: T tags.
        embeddings: (T, D) unit vectors of the tags, in the space of ``base``'s vectors.
    """

    retags_from: Literal["vector"] = "vector"

    def __init__(self, base: Base, vocabulary: TagVocabulary, embeddings: NDArray[np.float32]) -> None:
        self._base = base
        self._vocabulary = vocabulary
        self._embeddings = embeddings

    @property
    def spec(self) -> ModelSpec:
        """The specification of this model's generation."""
        recipe = f"{self._base.spec.preprocessing}+zero-shot-{_MIDDLE}-{_STEEPNESS:g}"
        return replace(self._base.spec, vocabulary_sha256=self._vocabulary.sha256, preprocessing=recipe)

    @property
    def vocabulary(self) -> TagVocabulary:
        """The tags."""
        return self._vocabulary

    @property
    def preprocessing(self) -> SquashTransform:
        """The transform from a decoded image to pixels."""
        return self._base.preprocessing

    @property
    def score_floor(self) -> float:
        """Scores below this are not stored."""
        return min(_SCORE_FLOOR, float(self._vocabulary.thresholds.min()))

    def with_vocabulary(self, vocabulary: TagVocabulary) -> Recognizer:
        """Return the same model for other tags."""
        return self._base.with_vocabulary(vocabulary)

    def predict(
        self, pixels: NDArray[np.uint8], *, caption: bool = False, features: Literal["pooled"] | None = None
    ) -> list[Prediction]:
        """Recognise (B, 260, 260, 3) uint8 pixels. Never adds captions: those of ``lite`` are about its classes.

        ``features`` are those of ``lite``.
        """
        del caption
        seen = self._base.predict(pixels, features=features)
        found = self.retag(np.stack([each.vector for each in seen])) if seen else []
        return [replace(new, features=base.features) for new, base in zip(found, seen, strict=True)]

    def recognize(self, images: Sequence[Image.Image], *, caption: bool = True) -> list[Recognition]:
        """Recognise images: assigned tags and vector. Never captions, see ``predict``."""
        return recognize(self, images, caption=caption, batch_size=_BATCH)

    def retag(self, kept: NDArray[Any]) -> list[Prediction]:
        """Predict from (B, D) vectors that ``lite`` computed before.

        Raises:
            FeaturesError: they have another width.
        """
        if kept.ndim != 2 or kept.shape[1] != self._embeddings.shape[1]:
            raise FeaturesError(f"vectors are {kept.shape}, not (B, {self._embeddings.shape[1]}): of another model?")
        vectors = kept.astype(np.float32)
        cosines = vectors @ self._embeddings.T  # (B, T)
        table = (1 / (1 + np.exp(-_STEEPNESS * (cosines - _MIDDLE)))).astype(np.float32)
        predictions = []
        for scores, vector in zip(table, vectors, strict=True):
            best = np.argsort(-scores, kind="stable")[:_KEPT]
            ids = np.sort(best[scores[best] >= self.score_floor]).astype(np.int32)
            predictions.append(Prediction(ids, scores[ids], vector))
        return predictions


def zero_shot(base: Base, vocabulary: TagVocabulary, cache_dir: Path | str | None) -> ZeroShotLite:
    """Return ``base`` for other tags, which are given by their names and, if they have them, their descriptions."""
    encoder = load_minilm()
    embeddings = cached_embeddings(encoder, vocabulary.names, cache_dir)
    if vocabulary.descriptions is not None:
        described = embed_vocabulary(
            vocabulary, encoder, plural=False, cache_dir=None if cache_dir is None else Path(cache_dir)
        ).embeddings
        embeddings = unit(embeddings + described)
    return ZeroShotLite(base, vocabulary, embeddings)
