"""The common interface of models: their input, their output, and what made it.

Shapes: B batch, T tags, D length of the vector. A *logit* is the number before the sigmoid or softmax. A *score* is the
number after it, in 0..1.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from ram_core import tiling
from ram_core.transforms import SquashTransform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from ram_core.vocabulary import TagVocabulary


@dataclass(frozen=True, slots=True)
class TagScore:
    """One tag of one image. ``id`` is its position in the vocabulary. Tags may share a name, but not an id."""

    id: int
    name: str
    score: float


@dataclass(frozen=True, slots=True)
class Recognition:
    """The result for people: the assigned tags (highest score first), the vector and the caption of one image.

    Attributes:
        tags: tags whose score is above their threshold.
        vector: (D,) float32, unit length, in the space of the model's text encoder.
        caption: a sentence; None if no caption was requested or the model has none.
    """

    tags: list[TagScore]
    vector: NDArray[np.float32]
    caption: str | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result that a worker stores: every tag above the model's score floor, so that thresholds can change later.

    Attributes:
        tag_ids: (K,) int32, ascending.
        scores: (K,) float32 in 0..1, aligned with ``tag_ids``; each at least ``Recognizer.score_floor``.
        vector: (D,) float32, unit length.
        caption: a sentence or None.
        features: (R,) uint8 packed image tokens (``ram_core.features``), if they were requested.
    """

    tag_ids: NDArray[np.int32]
    scores: NDArray[np.float32]
    vector: NDArray[np.float32]
    caption: str | None = None
    features: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What made a result. Two specs with the same ``fingerprint`` give the same results: a *generation*.

    Attributes:
        model: registry name, for example ``lite`` or ``ram_plus``.
        weights_sha256: hash of the loaded weights.
        vocabulary_sha256: hash of tag names and thresholds.
        preprocessing: a short description of resizing and normalisation, for example
            ``squash-384-bilinear-imagenet``.
        vector_kind: kind of the vector, ``image`` (projected global token) or ``tags`` (score-weighted mean of tag
            embeddings); ``tags-`` is followed by the method, if a model has its own.
        vector_size: D.
    """

    model: str
    weights_sha256: str
    vocabulary_sha256: str
    preprocessing: str
    vector_kind: str
    vector_size: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class Preprocessing(Protocol):
    """From image to pixels. Needs no torch. Can run in any thread or process."""

    @property
    def size(self) -> int:
        """Side length S of the square that the model takes, in pixels."""

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return (S, S, 3) uint8 RGB. Raises ``ImageError`` for an image with an empty side."""


class Recognizer(Protocol):
    """A loaded model. One thread at a time; only ``preprocessing`` may be used from any thread."""

    @property
    def spec(self) -> ModelSpec:
        """The specification of this model's generation."""

    @property
    def vocabulary(self) -> TagVocabulary:
        """The tags this model gives scores for, with the thresholds at which they are assigned."""

    @property
    def preprocessing(self) -> Preprocessing:
        """The transform from a decoded image to pixels."""

    @property
    def score_floor(self) -> float:
        """Scores below this are not worth storing. It is well below every usable threshold."""

    def predict(self, pixels: NDArray[np.uint8], *, caption: bool = False) -> list[Prediction]:
        """Recognise a batch of (B, S, S, 3) uint8 pixels made by ``preprocessing``; one prediction per image."""

    def recognize(self, images: Sequence[Image.Image], *, caption: bool = True) -> list[Recognition]:
        """Recognise images: assigned tags, vector, caption."""


class Pending(Protocol):
    """The predictions of a batch that a device may still be computing."""

    def is_done(self) -> bool:
        """Return whether ``result`` does not wait."""

    def result(self) -> list[Prediction]:
        """Wait, and return one prediction per image. Raises what ``Recognizer.predict`` does. Call it once."""


@dataclass(frozen=True, slots=True)
class Done:
    """Predictions that were computed at once."""

    predictions: list[Prediction]

    def is_done(self) -> bool:
        """Return True."""
        return True

    def result(self) -> list[Prediction]:
        """Return them."""
        return self.predictions


@runtime_checkable
class RecognizesAhead(Protocol):
    """A recognizer that can be given a batch before the results of the last one are read."""

    def submit(self, pixels: NDArray[np.uint8], *, features: Any = None) -> Pending:
        """Begin to recognise a batch of (B, S, S, 3) uint8 pixels made by ``preprocessing``."""


class Retagger(Recognizer, Protocol):
    """A model that can compute other tags from an image's stored features, without the image."""

    @property
    def retags_from(self) -> Literal["vector", "tokens", "record"]:
        """Input of ``retag``: the image's vector, or its packed tokens; ``record``: see ``ram_core.teaching``."""

    def with_vocabulary(self, vocabulary: TagVocabulary) -> Recognizer:
        """Return the same weights for other tags (open set). With the model's own tags it may be unable to retag."""

    def retag(self, kept: NDArray[Any]) -> list[Prediction]:
        """Predict from (B, D) float32 vectors, or (B, R) uint8 packed tokens, as ``retags_from`` says."""


class TextEncoder(Protocol):
    """Encodes text to vectors in the space of its model's vectors."""

    @property
    def vector_size(self) -> int:
        """D."""

    @property
    def sha256(self) -> str:
        """Hash (hex) of the weights."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts), D) float32, each row of unit length."""


@runtime_checkable
class ShipsEmbeddings(Protocol):
    """A text encoder that has stored embeddings of some texts, which need not be computed."""

    def shipped(self, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """Return (len(texts), D) float32, or None if it does not have all of them."""


def recognize(model: Recognizer, images: Sequence[Image.Image], *, caption: bool, batch_size: int) -> list[Recognition]:
    """Recognise images: assigned tags, vector, and a caption if the model can write one.

    Args:
        model: a loaded model.
        images: of any size and mode.
        caption: whether captions are wanted.
        batch_size: images that are held as pixels at the same time.
    """
    recognitions = []
    for start in range(0, len(images), batch_size):
        some = images[start : start + batch_size]
        pixels = np.stack([model.preprocessing(image) for image in some])
        recognitions += [
            Recognition(assigned_tags(each, model.vocabulary), each.vector, each.caption)
            for each in map(partial(_with_tiles, model), some, model.predict(pixels, caption=caption))
        ]
    return recognitions


def _with_tiles(model: Recognizer, image: Image.Image, whole: Prediction) -> Prediction:
    """Return the prediction of an image; if it is long, from its tiles. Its caption is that of the whole."""
    preprocessing = model.preprocessing
    if not isinstance(preprocessing, SquashTransform) or not tiling.is_long(*image.size):
        return whole
    tiles = tiling.squares(tiling.TilingTransform(preprocessing)(image))[1:]
    return merged(whole, model.predict(tiles))


def merged(whole: Prediction, tiles: Sequence[Prediction]) -> Prediction:
    """Return the prediction of a long picture.

    Tags and vector are those of the tiles. The squashed whole would add wrong tags, and hardly a right one.
    The caption, and what is kept for later tags (``features``), are of the whole.
    """
    best: dict[int, float] = {}
    for tile in tiles:
        for tag_id, score in zip(tile.tag_ids.tolist(), tile.scores.tolist(), strict=True):
            best[tag_id] = max(score, best.get(tag_id, 0.0))
    ordered = sorted(best)
    return replace(
        whole,
        tag_ids=np.array(ordered, dtype=np.int32),
        scores=np.array([best[tag_id] for tag_id in ordered], dtype=np.float32),
        vector=tiling.mean_vector(np.stack([tile.vector for tile in tiles])),
    )


def assigned_tags(prediction: Prediction, vocabulary: TagVocabulary) -> list[TagScore]:
    """Return the tags of a prediction whose score is above their threshold, highest score first, then by id."""
    assigned = vocabulary.assigned(prediction.scores, prediction.tag_ids)
    pairs = zip(prediction.tag_ids[assigned].tolist(), prediction.scores[assigned].tolist(), strict=True)
    return [TagScore(i, vocabulary.names[i], score) for i, score in sorted(pairs, key=lambda pair: (-pair[1], pair[0]))]
