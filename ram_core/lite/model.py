"""The small model: EfficientNet-Lite2 (``ram_core.lite.network``) and the 1,000 classes of ImageNet.

Tags above the classes, such as "animal", have the sum of the scores of the classes below. A picture shows one class as
far as the network knows, so this is the probability that it shows any of them.

Its vector is a ConSE embedding (arXiv:1312.5650): the mean of the embeddings of the likeliest classes, weighted by the
roots of their scores. Through the text encoder alone, text can then be compared with images.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from ram_core.captions import template_caption
from ram_core.embeddings import cached_embeddings, unit
from ram_core.errors import DeviceError, FeaturesError, VocabularyError
from ram_core.features import pack_pooled, unpack_pooled
from ram_core.lite.cores import Cores
from ram_core.lite.imagenet import CLASSES, imagenet_vocabulary, upper_weights
from ram_core.lite.network import SIZES, Seen, installed_network, look
from ram_core.lite.text_encoder import load_minilm
from ram_core.lite.zero_shot import ZeroShotLite, zero_shot
from ram_core.openset import open_vocabulary
from ram_core.recognition import ModelSpec, Prediction, Recognition, assigned_tags, recognize
from ram_core.transforms import CENTRED_MEAN, CENTRED_STD, SquashTransform, normalise, require_pixels
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from ram_core.lite.layers import EfficientNetLite2
    from ram_core.recognition import TextEncoder

_SCORE_FLOOR = 0.01
_KEPT = 50  # classes per image at most; with the floor above, a photograph has about ten
# The ConSE paper, section 4, takes 10 classes and uses the scores themselves as weights. Roots give less likely classes
# more weight. That helps if no class names the content of an image, and is better on both sets of
# benchmarks/bench_lite_vectors.py.
_CONSE_TAGS = 20
# How vectors are made, for the generation. Whoever changes the method must change this.
_VECTOR_KIND = f"tags-name+definition-{_CONSE_TAGS}-root"
# Not the crop used to evaluate classifiers: people also search for things at the edge of an image.
PREPROCESSING = SquashTransform(260, CENTRED_MEAN, CENTRED_STD)
_BATCH = 32


class Lite:
    """A loaded ``lite`` model. One thread at a time, except for ``preprocessing``.

    Args:
        network: (B, 3, 260, 260) -> (B, 1000) logits, on its device and in its number format.
        weights_sha256: hash of the weights of the network and the text encoder.
        vocabulary: names, thresholds and descriptions of the classes, and of the tags above them if it has these.
        embeddings: (1000, D) unit vectors of the classes.
        cache_dir: where the embeddings of other tags are cached.
    """

    def __init__(
        self,
        network: EfficientNetLite2,
        weights_sha256: str,
        vocabulary: TagVocabulary,
        embeddings: NDArray[np.float32],
        cache_dir: Path | str | None = None,
    ) -> None:
        self._cache_dir = cache_dir
        first = network.classifier.weight
        self._device, self._dtype = first.device, first.dtype
        self._network = network
        self._cores = Cores() if first.device.type == "cpu" else None
        self._vocabulary = vocabulary
        self._embeddings = torch.from_numpy(embeddings).to(self._device)
        self._upper = torch.from_numpy(upper_weights()).to(self._device) if len(vocabulary) > CLASSES else None
        self._preprocessing = PREPROCESSING
        self._spec = ModelSpec(
            model="lite",
            weights_sha256=weights_sha256,
            vocabulary_sha256=vocabulary.sha256,
            preprocessing=self._preprocessing.name,
            vector_kind=_VECTOR_KIND,
            vector_size=embeddings.shape[1],
        )

    @property
    def spec(self) -> ModelSpec:
        """The specification of this model's generation."""
        return self._spec

    @property
    def vocabulary(self) -> TagVocabulary:
        """The 1,000 classes, and behind them the tags above."""
        return self._vocabulary

    @property
    def preprocessing(self) -> SquashTransform:
        """The transform from a decoded image to pixels."""
        return self._preprocessing

    @property
    def network(self) -> EfficientNetLite2:
        """The network, in evaluation mode, with its norms folded into the convolutions."""
        return self._network

    @property
    def score_floor(self) -> float:
        """Scores below this are not stored."""
        return _SCORE_FLOOR

    def with_vocabulary(
        self,
        vocabulary: TagVocabulary | Sequence[str] | Mapping[str, Sequence[str]] | Path | str,
        *,
        threshold: float | Sequence[float] | None = None,
    ) -> ZeroShotLite | Lite:
        """Return the same weights for other tags: by the similarity of an image's vector to their names (zero-shot).

        A vocabulary of the same tags with other thresholds keeps the scores of the classes.

        Args:
            vocabulary: names; names with descriptive sentences; a JSON file of the latter; or a vocabulary.
            threshold: one for all tags or one for each; default: the vocabulary's own, or 0.5.

        Raises:
            VocabularyError: no tags, a tag without a description although others have one, thresholds that do not fit.
        """
        if isinstance(vocabulary, TagVocabulary) and vocabulary.has_tags_of(self._vocabulary):
            return self._with_thresholds(open_vocabulary(vocabulary, threshold))
        return zero_shot(self, open_vocabulary(vocabulary, threshold), self._cache_dir)

    def _with_thresholds(self, vocabulary: TagVocabulary) -> Lite:
        """Return the same model with a vocabulary of the same tags."""
        other = copy(self)
        other._vocabulary = vocabulary  # noqa: SLF001  (of this class)
        other._spec = replace(self._spec, vocabulary_sha256=vocabulary.sha256)  # noqa: SLF001
        return other

    @torch.inference_mode()
    def tag_logits(self, pixels: Tensor) -> Tensor:
        """Return (B, 1000) float32 logits, before the softmax, of (B, 3, S, S) normalised pixels.

        Raises:
            DeviceError: the numbers overflowed the 16-bit format of the model.
        """
        return self._see(pixels).logits

    def _see(self, pixels: Tensor) -> Seen:
        """Return what the network makes of a batch, in float32. See ``tag_logits``; or (B, S, S, 3) uint8."""
        parts = self._look(pixels) if self._cores is None else _joined(self._cores.run(self._look, pixels))
        logits: Tensor = self._network.classifier(parts[0]).float()
        if not logits.isfinite().all():
            raise DeviceError(f"the model's numbers overflowed {self._dtype}; load it with dtype=torch.float32")
        return Seen(logits, tuple(part.float() for part in parts))

    def _look(self, pixels: Tensor) -> tuple[Tensor, ...]:
        if pixels.dtype == torch.uint8:
            squash = self._preprocessing
            pixels = normalise(pixels.to(self._device), squash.mean, squash.std, channels_last=True)
        return look(self._network, pixels.to(self._device, self._dtype, memory_format=torch.channels_last))

    @torch.inference_mode()
    def scores_of_features(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, T) scores of all tags, from (B, R) features that ``predict(…, features="pooled")`` packed.

        Raises:
            FeaturesError: they are not such features.
        """
        try:
            pooled = torch.from_numpy(unpack_pooled(rows, SIZES)[0])
        except ValueError as error:
            raise FeaturesError(str(error)) from error
        logits = self._network.classifier(pooled.to(self._device, self._dtype)).float()
        found: NDArray[np.float32] = self.scores(logits).cpu().numpy()
        return found

    def scores(self, logits: Tensor) -> Tensor:
        """Return (B, T) scores of all tags of the vocabulary, of (B, 1000) logits: those of the tags above are sums."""
        classes = logits.softmax(dim=1)
        if self._upper is None:
            return classes
        # A sum of rounded scores may come out a little above 1.
        return torch.cat([classes, (classes @ self._upper).clamp(max=1)], dim=1)

    @torch.inference_mode()
    def predict(
        self, pixels: NDArray[np.uint8], *, caption: bool = False, features: Literal["pooled"] | None = None
    ) -> list[Prediction]:
        """Recognise a batch of (B, 260, 260, 3) uint8 pixels; one prediction per image.

        ``features`` also returns what heads are fitted on: see ``ram_core.features.pack_pooled``.

        Raises:
            ImageError: the array has another shape or type.
            DeviceError: see ``tag_logits``.
        """
        require_pixels(pixels, self._preprocessing.size)
        if not len(pixels):
            return []
        seen = self._see(torch.tensor(pixels))
        of_all = self.scores(seen.logits)  # (B, T)
        scores, ids = of_all[:, :CLASSES].topk(_KEPT)  # (B, 50), best first
        top, top_ids = scores[:, :_CONSE_TAGS], ids[:, :_CONSE_TAGS]
        vectors = torch.einsum("bk,bkd->bd", top.sqrt(), self._embeddings[top_ids])  # (B, D)
        vectors = torch.nn.functional.normalize(vectors, dim=1)
        kept = (scores, ids.int(), of_all[:, CLASSES:], vectors)
        rows = zip(*(each.cpu().numpy() for each in kept), strict=True)
        predictions = [self._prediction(*row, caption=caption) for row in rows]
        if features is None:
            return predictions
        packed = pack_pooled(seen.parts)
        return [replace(one, features=row) for one, row in zip(predictions, packed, strict=True)]

    def recognize(self, images: Sequence[Image.Image], *, caption: bool = True) -> list[Recognition]:
        """Recognise images: assigned tags, vector, caption."""
        return recognize(self, images, caption=caption, batch_size=_BATCH)

    def _prediction(
        self,
        scores: NDArray[np.float32],
        ids: NDArray[np.int32],
        upper: NDArray[np.float32],
        vector: NDArray[np.float32],
        *,
        caption: bool,
    ) -> Prediction:
        keep = scores >= _SCORE_FLOOR
        order = np.argsort(ids[keep])
        above = np.flatnonzero(upper >= _SCORE_FLOOR)
        prediction = Prediction(
            np.concatenate([ids[keep][order], (CLASSES + above).astype(np.int32)]),
            np.concatenate([scores[keep][order], upper[above]]),
            vector,
        )
        if not caption:
            return prediction
        names = [tag.name for tag in assigned_tags(prediction, self._vocabulary)]
        return Prediction(prediction.tag_ids, prediction.scores, vector, template_caption(names))


def _joined(found: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def load_lite(
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    checkpoint: Path | str | None = None,
    vocabulary: TagVocabulary | None = None,
    models_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
) -> Lite:
    """Load ``lite``. The first time with other names takes some seconds more, to embed them.

    Args:
        device: where to run.
        dtype: number format; float16 needs a GPU.
        checkpoint: other weights of the same network and layout; default: the installed ones.
        vocabulary: other names or thresholds for the 1,000 classes, or for these and the tags above them.
        models_dir: ignored.
        cache_dir: where the embeddings of the class names are cached; default: ``~/.cache/ramq``.

    Raises:
        CheckpointError: the weights are missing, damaged or of another network.
        VocabularyError: the vocabulary has another number of tags.
        DeviceError: float16 on a CPU.
    """
    del models_dir
    own = imagenet_vocabulary()
    vocabulary = vocabulary or own
    if len(vocabulary) not in {CLASSES, len(own)}:
        raise VocabularyError(
            f"lite has {CLASSES} classes and {len(own) - CLASSES} tags above them, but vocabulary "
            f"{vocabulary.name!r} has {len(vocabulary)}"
        )
    network, digest = installed_network(device, dtype, checkpoint)
    encoder = load_minilm()
    digest.update(bytes.fromhex(encoder.sha256))
    return Lite(network, digest.hexdigest(), vocabulary, _embeddings(encoder, vocabulary, cache_dir), cache_dir)


def _embeddings(encoder: TextEncoder, vocabulary: TagVocabulary, cache_dir: Path | str | None) -> NDArray[np.float32]:
    """Return (1000, D) unit vectors, each between the class's name, as people search, and its definition."""
    named = cached_embeddings(encoder, vocabulary.names[:CLASSES], cache_dir)
    if vocabulary.descriptions is None:
        return named
    described = [each[0] for each in vocabulary.descriptions[:CLASSES]]
    return unit(named + cached_embeddings(encoder, described, cache_dir))
