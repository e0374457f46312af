"""The models of a process that searches. They compute the vectors of query texts and query pictures."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ram_core import load_model, load_text_encoder
from ram_core.errors import ModelError
from ram_core.spaces import METHODS_WITH_TEXTS, load_image_encoder, load_text_tower
from ramq.services.query_texts import QueryTexts
from storage.errors import FatalError, UsageError
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.recognition import ModelSpec, Recognizer
    from ram_core.spaces import ImageEncoder
    from ramq.settings import Settings
    from storage.results.tags import Names
    from storage.tables import Generation
    from workers.pipeline.decoders import Decoders

DECODERS = 2
"""The number of pictures that a web server decodes at the same time."""

Model = TypeVar("Model")


class QueryModels:
    """Models and decoders, each loaded at its first use. Thread-safe.

    Each text encoder has its own lock, and so have pictures, so that texts and thumbnails do not wait while another
    model is loaded or used.

    Args:
        settings: the folders, the device, and the limits of images.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._picture_lock = threading.Lock()
        self._decoder_lock = threading.Lock()
        self._texts: dict[str, QueryTexts] = {}
        self._recognizers: dict[str, Recognizer] = {}
        self._encoders: dict[str, ImageEncoder] = {}
        self._decoders: Decoders | None = None

    def encode_text(self, text: str, generation: Generation) -> NDArray[np.float32]:
        """Return the vector (D,) of a text, with which a generation's vectors of images can be compared.

        Raises:
            UsageError: the encoder is missing.
            FatalError: the installed one belongs to other weights.
        """
        return self._texts_of(generation).encode(text)

    @staticmethod
    def compares_texts(generation: Generation) -> bool:
        """Return whether texts can be compared with the vectors of a generation of a space."""
        return generation.preprocessing.rpartition("; ")[2].startswith(METHODS_WITH_TEXTS)

    def encode_names(self, vocabulary: Names, generation: Generation) -> NDArray[np.float32]:
        """Return the vectors (M, D) of some names of a vocabulary; see ``encode_text``."""
        return self._texts_of(generation).encode_names(vocabulary)

    def encode_picture(self, picture: bytes, generations: Sequence[Generation]) -> list[NDArray[np.float32]]:
        """Return the vectors (D,) of a picture, computed as in each generation. It is decoded once.

        Raises:
            UsageError: the file is not a picture, or a model cannot be loaded here.
            FatalError: an installed model computes other vectors.
        """
        from workers.pipeline.retry import UndecodableError  # noqa: PLC0415

        with self._picture_lock:
            models = [self._picture_model(generation) for generation in generations]
        try:  # outside the lock, because decoding may take long
            decoded = self.decoders().decode_for_all(picture, [model.preprocessing for model, _ in models])
        except UndecodableError as error:
            raise UsageError(f"this file is not a picture that ramq can read: {error}") from error
        with self._picture_lock:
            return [encode(one.pixels[None]) for (_, encode), one in zip(models, decoded, strict=True)]

    def decoders(self) -> Decoders:
        """Return the processes that decode query pictures and thumbnails. They start at their first use."""
        from workers.pipeline.decoders import Decoders  # noqa: PLC0415  (Pillow; not every command needs it)

        with self._decoder_lock:
            if self._decoders is None:
                self._decoders = Decoders(min(DECODERS, self._settings.decode_threads), self._settings.max_pixels)
            return self._decoders

    def _texts_of(self, generation: Generation) -> QueryTexts:
        is_tower = generation.stage != RECOGNITION
        load = load_text_tower if is_tower else load_text_encoder
        made = QueryTexts(
            partial(load, generation.model, models_dir=self._settings.models_path), self._settings.cache_path
        )
        texts = self._texts.setdefault(generation.model, made)
        # The text encoder of recognition has weights of its own.
        if is_tower and texts.sha256() != generation.weights_sha256:
            raise _has_other_weights(generation)
        return texts

    def _picture_model(self, generation: Generation) -> tuple[Any, Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
        """Return a model with a ``preprocessing``, and what makes the vector (D,) of one picture (1, S, S, 3)."""
        place: dict[str, Any] = {"device": self._settings.device, "models_dir": self._settings.models_path}
        name = generation.model
        if generation.stage != RECOGNITION:
            precision = self._settings.look_precision
            encoder = _loaded(self._encoders, name, partial(load_image_encoder, name, precision=precision, **place))
            spec = encoder.spec
            made = (spec.weights_sha256, _in_full(f"{spec.preprocessing}; {spec.method}"), spec.vector_size)
            if made != (generation.weights_sha256, _in_full(generation.preprocessing), generation.vector_size):
                raise _has_other_weights(generation)
            return encoder, lambda pixels: encoder.encode(pixels)[0]
        load = partial(load_model, name, **place, cache_dir=self._settings.cache_path)
        model = _loaded(self._recognizers, name, load)
        if not _makes_vectors_of(model.spec, generation):
            raise _has_other_weights(generation)
        return model, lambda pixels: model.predict(pixels)[0].vector


def _in_full(preprocessing: str) -> str:
    """Return what made a vector, without its number format: vectors in 16 bits can be compared with those in 32."""
    return preprocessing.removesuffix("-bfloat16").removesuffix("-float16")


def _loaded(models: dict[str, Model], name: str, load: Callable[[], Model]) -> Model:
    if name not in models:
        try:
            models[name] = load()
        except ModelError as error:
            raise UsageError(str(error)) from error
    return models[name]


def _has_other_weights(generation: Generation) -> FatalError:
    return FatalError(
        f"the installed {generation.model} has other weights than the one that computed the archive's vectors; "
        "install the same checkpoint here"
    )


def _makes_vectors_of(spec: ModelSpec, generation: Generation) -> bool:
    """Return whether a model computes the same image vectors as a generation, whose vocabulary may differ."""
    if spec.fingerprint == generation.fingerprint:
        return True
    ours = (spec.weights_sha256, spec.vector_kind, spec.vector_size)
    theirs = (generation.weights_sha256, generation.vector_kind, generation.vector_size)
    # Vectors of tags change with the vocabulary. A vocabulary adds its own part at the end of `preprocessing`.
    return ours == theirs and spec.vector_kind != "tags" and generation.preprocessing.startswith(spec.preprocessing)
