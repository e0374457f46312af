"""The recognisers: a network with its tags, from images to results."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
import torch
from torch.nn import functional
from typing_extensions import override

from ram_core.errors import FeaturesError, ImageError, ModelError, VocabularyError
from ram_core.features import joined, parts_of, unpack_tokens
from ram_core.modeling.beam_search import SearchOptions
from ram_core.modeling.captioner import CaptionWords, caption_ids
from ram_core.modeling.ram import RAM, Tagger
from ram_core.modeling.ram_plus import RAMPlus
from ram_core.modeling.tag2text import Tag2Text
from ram_core.recognition import ModelSpec, Prediction, Recognition, recognize
from ram_core.submitted import Submitted
from ram_core.transforms import SquashTransform, normalise, require_pixels
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from ram_core.features import TokenKind
    from ram_core.modeling.ram import Tagged
    from ram_core.modeling.runner import Runner
    from ram_core.modeling.uploads import Fetched
    from ram_core.recognition import TextEncoder

N = TypeVar("N", bound=Tagger)

# Official thresholds are between 0.45 and 1, open-set ones around 0.5. This leaves room to lower them.
SCORE_FLOOR = 0.3
# ``recognize`` takes any number of images. This many are in memory at once.
PICTURES_AT_ONCE = 8


class NetworkRecognizer(Generic[N]):
    """Common base of RAM, RAM++ and Tag2Text. Implements ``ram_core.recognition.Recognizer``.

    Args:
        name: registry name.
        runner: the network on its device.
        vocabulary: its tags; None if only logits and captions for given tags are needed.
        weights_sha256: hash of the weights.
        vector_kind: ``image`` or ``tags``.
        words: vocabulary of the captions; None without a caption branch.
    """

    def __init__(
        self,
        *,
        name: str,
        runner: Runner[N],
        vocabulary: TagVocabulary | None,
        weights_sha256: str,
        vector_kind: str,
        words: CaptionWords | None,
    ) -> None:
        self.name = name
        self.runner = runner
        self.words = words
        self.vector_kind = vector_kind
        self.weights_sha256 = weights_sha256
        self._vocabulary = vocabulary
        self._preprocessing = SquashTransform(runner.network.visual_encoder.sizes.image_size)
        self._thresholds: torch.Tensor | None = None
        self._threshold_logits = None if vocabulary is None else torch.tensor(vocabulary.thresholds).logit()  # (T,)

    @property
    def vocabulary(self) -> TagVocabulary:
        """The tags this model gives scores for, with the thresholds at which they are assigned."""
        if self._vocabulary is None:
            raise VocabularyError(f"{self.name} was loaded without its tags; give `vocabulary=` or `models_dir=`")
        return self._vocabulary

    @property
    def preprocessing(self) -> SquashTransform:
        """The transform from a decoded image to pixels."""
        return self._preprocessing

    @property
    def score_floor(self) -> float:
        """Scores below this are not worth storing: no threshold of the vocabulary is lower."""
        return min(SCORE_FLOOR, float(self.vocabulary.thresholds.min()))

    @property
    def vector_size(self) -> int:
        """D."""
        raise NotImplementedError

    @property
    def spec(self) -> ModelSpec:
        """The specification of this model's generation."""
        return ModelSpec(
            model=self.name,
            weights_sha256=self.weights_sha256,
            vocabulary_sha256=self.vocabulary.sha256,
            preprocessing=self.preprocessing.name,
            vector_kind=self.vector_kind,
            vector_size=self.vector_size,
        )

    def tag_logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Score every tag.

        Args:
            pixels: (B, 3, S, S) float32, normalised.

        Returns:
            (B, T) float32, before the sigmoid, on the model's device.
        """
        return self.runner(self._checked(pixels), self._limits()).logits

    def predict(
        self, pixels: NDArray[np.uint8], *, caption: bool = False, features: TokenKind | None = None
    ) -> list[Prediction]:
        """Recognise (B, S, S, 3) uint8 pixels made by ``preprocessing``, with captions if the model can write them.

        ``features`` also returns packed image tokens: all of them, or only the global one.
        """
        return self.submit(pixels, caption=caption, features=features).result() if len(pixels) else []

    @torch.inference_mode()
    def submit(
        self, pixels: NDArray[np.uint8], *, caption: bool = False, features: TokenKind | None = None
    ) -> Submitted:
        """Begin to recognise a batch, as ``predict`` does. A GPU computes it while the host goes on."""
        started = self.runner.start(self._normalised(pixels), self._limits(caption=caption))
        arriving, again = self._fetch(started.tagged, features, started.finite), partial(self._fetch, features=features)
        return Submitted(self.runner, started, arriving, again, partial(self._predictions, caption=caption))

    def _fetch(self, tagged: Tagged, features: TokenKind | None, *more: torch.Tensor) -> Fetched:
        """Begin to copy a result to the host: (B, T + D) scores and vectors, ``more``, and the parts of features."""
        scores = tagged.logits.sigmoid()  # (B, T)
        vectors = functional.normalize(self._vectors(tagged, scores).float(), dim=1)  # (B, D)
        kept = [] if features is None else parts_of(tagged.tokens, features)
        return self.runner.fetch([torch.cat([scores, vectors], dim=1), *more, *kept])

    def _predictions(
        self, tagged: Tagged, arrived: Sequence[torch.Tensor], *, caption: bool = False
    ) -> list[Prediction]:
        """Return the predictions of a batch whose scores, vectors and parts of features are on the host."""
        packed = arrived[0].numpy()
        table, unit = np.split(packed, [len(self.vocabulary)], axis=1)
        captions: Sequence[str | None] = [None] * len(table)
        if caption and self.words is not None:
            captions = self._captions(tagged.tokens, self._assigned_names(table), SearchOptions())
        kept = joined(arrived[1:]) if arrived[1:] else [None] * len(table)
        predictions, floor = [], self.score_floor
        for row, vector, sentence, feature in zip(table, unit, captions, kept, strict=True):
            ids = np.flatnonzero(row >= floor).astype(np.int32)
            predictions.append(Prediction(ids, row[ids], vector.copy(), sentence, feature))
        return predictions

    def recognize(self, images: Sequence[Image.Image], *, caption: bool = True) -> list[Recognition]:
        """Recognise images: assigned tags, vector, and a caption if the model can write one."""
        return recognize(self, images, caption=caption, batch_size=PICTURES_AT_ONCE)

    def _normalised(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Return (B, 3, S, S) float32 on the device from (B, S, S, 3) uint8 pixels."""
        require_pixels(pixels, self.preprocessing.size)
        host = torch.from_numpy(np.require(pixels, requirements=("C", "W")))
        return self.runner.send(host, lambda sent: normalise(sent, self.preprocessing.mean, self.preprocessing.std))

    def _limits(self, *, caption: bool = False) -> torch.Tensor | None:
        return None if caption and self.words is not None else self._threshold_logits  # nothing certifies captions

    def _checked(self, pixels: torch.Tensor) -> torch.Tensor:
        size = self.preprocessing.size
        if pixels.dim() != 4 or tuple(pixels.shape[1:]) != (3, size, size) or not pixels.is_floating_point():
            raise ImageError(
                f"pixels are {pixels.dtype} {tuple(pixels.shape)}; expected (B, 3, {size}, {size}) float32, normalised"
            )
        return pixels

    def _assigned_weights(self, scores: torch.Tensor) -> torch.Tensor:
        """Return (B, T) scores of the assigned tags, 0 elsewhere. If none is assigned, keep the closest tag's score."""
        if self._thresholds is None:
            self._thresholds = torch.tensor(self.vocabulary.thresholds, device=scores.device)
        weights = torch.where(scores > self._thresholds, scores, 0.0)
        closest = functional.one_hot(scores.argmax(dim=1), scores.shape[1]).to(weights.dtype)
        return torch.where(weights.any(dim=1, keepdim=True), weights, closest)

    def _assigned_names(self, scores: NDArray[np.float32]) -> list[list[str]]:
        names = self.vocabulary.names
        return [[names[i] for i in np.flatnonzero(row)] for row in self.vocabulary.assigned(scores)]

    def _captions(self, tokens: torch.Tensor, tags: Sequence[Sequence[str]], options: SearchOptions) -> list[str]:
        return [self._words.decode(each) for each in self._caption_ids(tokens, tags, options)]

    def _caption_ids(
        self, tokens: torch.Tensor, tags: Sequence[Sequence[str]], options: SearchOptions
    ) -> list[list[int]]:
        network = self.runner.network
        with self.runner.autocast():
            modules = (network.tag_encoder, network.text_decoder)
            return caption_ids(modules, self._words, tokens, tags, options)

    @property
    def _words(self) -> CaptionWords:
        if self.words is None:
            raise ModelError(f"{self.name} was loaded without its caption branch; load tag2text for captions")
        return self.words

    def _vectors(self, tagged: Tagged, scores: torch.Tensor) -> torch.Tensor:
        """Return (B, D) vectors, of any length."""
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        """Return the constructor's arguments, for a copy with some of them changed."""
        return {
            "name": self.name,
            "runner": self.runner,
            "vocabulary": self._vocabulary,
            "weights_sha256": self.weights_sha256,
            "vector_kind": self.vector_kind,
            "words": self.words,
        }


class RamRecognizer(NetworkRecognizer[RAM]):
    """RAM or RAM++ with its tags.

    Args:
        cache_dir: where label embeddings of other vocabularies are cached.
        models_dir: folder of the CLIP text encoder.
        **settings: of ``NetworkRecognizer``.
    """

    retags_from: Literal["tokens"] = "tokens"

    def __init__(self, *, cache_dir: Path | None, models_dir: Path | None, **settings: Any) -> None:
        super().__init__(**settings)
        self.cache_dir = cache_dir
        self.models_dir = models_dir
        self._label_vectors: torch.Tensor | None = None

    @property
    def vector_size(self) -> int:
        """D, CLIP's 512: the width of the label embedding."""
        return self.runner.network.label_embed.shape[1]

    def image_embedding(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embed images in CLIP's space, without tagging them.

        Args:
            pixels: (B, 3, S, S) float32, normalised.

        Returns:
            (B, 512) float32, the projected global token, not of unit length, on the model's device.
        """
        return self.runner.embed(self._checked(pixels))[:, 0].float()

    def retag(self, kept: NDArray[np.uint8]) -> list[Prediction]:
        """Predict from (B, R) image tokens that ``predict(…, features="tokens")`` packed with these weights.

        Raises:
            FeaturesError: they are not such tokens.
        """
        try:
            tokens = unpack_tokens(kept, self.vector_size)
        except ValueError as error:
            raise FeaturesError(str(error)) from error
        tagged = self.runner.decode(tokens)
        return self._predictions(tagged, self._fetch(tagged, None).wait())

    def with_vector_kind(self, vector_kind: str) -> RamRecognizer:
        """Return the same model with vectors of another kind, ``image`` or ``tags``."""
        return self._with(vector_kind=vector_kind)

    def exactly(self) -> RamRecognizer:
        """Return the same model without ``certified``: for what needs more than the tags of its vocabulary."""
        return self._with(runner=self.runner.exact())

    def _with(self, **changed: Any) -> RamRecognizer:
        return RamRecognizer(cache_dir=self.cache_dir, models_dir=self.models_dir, **(self._settings() | changed))

    def with_vocabulary(
        self,
        vocabulary: TagVocabulary | Sequence[str] | Mapping[str, Sequence[str]] | Path | str,
        *,
        threshold: float | Sequence[float] | None = None,
        text_encoder: TextEncoder | None = None,
    ) -> RamRecognizer:
        """Return the same weights for other tags (open set).

        A vocabulary of the same tags with other thresholds keeps their embeddings, and so their scores.

        Args:
            vocabulary: names; names with descriptive sentences; a JSON file of the latter; or a vocabulary.
            threshold: one for all tags or one for each; default: the vocabulary's own, or 0.5.
            text_encoder: the CLIP ViT-B/16 text encoder; default: loaded from ``models_dir``.

        Raises:
            VocabularyError: no tags, a tag without a description although others have one, thresholds that do not fit.
            CheckpointError: the text encoder is missing.
        """
        from ram_core.openset import embed_vocabulary, open_vocabulary  # noqa: PLC0415  (few models need it)

        tags = open_vocabulary(vocabulary, threshold)
        own = self._vocabulary
        if isinstance(vocabulary, TagVocabulary) and text_encoder is None and own and tags.has_tags_of(own):
            return self._with(vocabulary=tags)
        if text_encoder is None:
            from ram_core.clip_text import load_clip_text  # noqa: PLC0415

            text_encoder = load_clip_text(models_dir=self.models_dir, device=self.runner.device)
        plural = isinstance(self.runner.network, RAMPlus)
        embedded = embed_vocabulary(tags, text_encoder, plural=plural, cache_dir=self.cache_dir)
        return self.with_embeddings(tags, *embedded)

    def with_embeddings(
        self, vocabulary: TagVocabulary, embeddings: NDArray[np.float32], absent: NDArray[np.bool_] | None = None
    ) -> RamRecognizer:
        """Return the same weights for other tags, with given embeddings.

        Args:
            vocabulary: T tags.
            embeddings: (T, 512) for RAM, (T, D, 512) for RAM++, rows of unit length in CLIP's space.
            absent: (T, D) True if a tag of RAM++ has fewer than D descriptions.

        Raises:
            VocabularyError: the embeddings do not fit the vocabulary or the network.
        """
        network, dtype = self.runner.network, self.runner.dtype
        plural = isinstance(network, RAMPlus)
        wanted = (len(vocabulary), self.vector_size, 2 + plural)
        if (*embeddings.shape[:1], *embeddings.shape[-1:], embeddings.ndim) != wanted:
            expected = f"({len(vocabulary)}, D, {self.vector_size})" if plural else (len(vocabulary), self.vector_size)
            raise VocabularyError(f"embeddings have shape {embeddings.shape}; {self.name} needs {expected}")
        labels = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32))
        if isinstance(network, RAMPlus):
            other: RAM = network.with_descriptions(labels, dtype, None if absent is None else torch.from_numpy(absent))
        else:
            other = network.with_labels(labels, dtype)
        digest = hashlib.sha256(self.weights_sha256.encode())
        digest.update(labels.numpy().tobytes())
        runner = self.runner.with_network(other)
        return self._with(runner=runner, vocabulary=vocabulary, weights_sha256=digest.hexdigest())

    @override
    def _vectors(self, tagged: Tagged, scores: torch.Tensor) -> torch.Tensor:
        if self.vector_kind == "image":
            return tagged.tokens[:, 0]
        if self._label_vectors is None:
            self._label_vectors = self.runner.network.label_vectors()
        return self._assigned_weights(scores) @ self._label_vectors


class Tag2TextRecognizer(NetworkRecognizer[Tag2Text]):
    """Tag2Text with its tags. Its vectors are global Swin tokens. They allow image similarity, but no text search."""

    @property
    def vector_size(self) -> int:
        """D, the width of the image encoder's output."""
        return self.runner.network.visual_encoder.sizes.output_width

    def caption(self, pixels: torch.Tensor, tags: Sequence[Sequence[str]] | None = None, **options: float) -> list[str]:
        """Describe each image in a sentence.

        Args:
            pixels: (B, 3, S, S) float32, normalised.
            tags: names of tags to guide each caption, any words; default: the tags that the model assigns.
            **options: ``num_beams=3``, ``max_length=50``, ``min_length=10`` (tokens, the prompt's four included) and
                the others of ``SearchOptions``.

        Raises:
            VocabularyError: no tags were given, and the model was loaded without its own.
        """
        return [self._words.decode(each) for each in self.caption_ids(pixels, tags, **options)]

    def caption_ids(
        self, pixels: torch.Tensor, tags: Sequence[Sequence[str]] | None = None, **options: float
    ) -> list[list[int]]:
        """Return the token ids of ``caption``, before they become words."""
        search = SearchOptions(**options)  # type: ignore[arg-type]  # each field is checked by name
        longest = self.runner.network.text_decoder.positions
        if not (search.num_beams >= 1 and len(self._words.prompt) < search.max_length <= longest):
            raise ModelError(f"captions take at least 1 beam and max_length {len(self._words.prompt) + 1} to {longest}")
        pixels = self._checked(pixels)
        if tags is None:
            tagged = self.runner(pixels)
            return self._caption_ids(tagged.tokens, self._assigned_names(tagged.logits.sigmoid().cpu().numpy()), search)
        if len(tags) != len(pixels):
            raise ModelError(f"{len(pixels)} images, but tags for {len(tags)}; give one list of names per image")
        return self._caption_ids(self.runner.embed(pixels), tags, search)

    @override
    def _vectors(self, tagged: Tagged, scores: torch.Tensor) -> torch.Tensor:
        return tagged.tokens[:, 0]
