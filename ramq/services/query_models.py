"""The models of a process that searches. They compute the vectors of query texts and query pictures."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from ram_core import load_model, load_text_encoder
from ram_core.embeddings import cached_embeddings
from ram_core.errors import ModelError
from ram_core.hierarchy.wordnet import shipped_hierarchy
from storage.errors import FatalError, UsageError
from storage.results.tag_names import spread
from storage.search.ranking import SAMPLE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ram_core.recognition import ModelSpec, Recognizer, TextEncoder
    from ramq.settings import Settings
    from storage.results.tags import Names
    from storage.tables import Generation
    from workers.pipeline.decoders import Decoders

DECODERS = 2
"""The number of pictures that a web server decodes at the same time."""

REMEMBERED_TEXTS = 256
"""The number of recent query texts whose vectors are kept. Each page of hits, and its facets, need the same one."""


class QueryModels:
    """Models and decoders, each loaded at its first use. Thread-safe.

    Each kind has its own lock, so that texts and thumbnails do not wait while an image model is loaded or used.

    Args:
        settings: the folders, the device, and the limits of images.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._encoder_lock = threading.Lock()
        self._recognizer_lock = threading.Lock()
        self._decoder_lock = threading.Lock()
        self._encoders: dict[str, TextEncoder] = {}
        self._name_vectors: dict[tuple[str, int], NDArray[np.float32]] = {}
        self._text_vectors: OrderedDict[tuple[str, str], NDArray[np.float32]] = OrderedDict()
        self._recognizers: dict[str, Recognizer] = {}
        self._decoders: Decoders | None = None

    def encode_text(self, model: str, text: str) -> NDArray[np.float32]:
        """Return the vector (D,) of a text in a model's space. Raises ``UsageError`` if its encoder is missing."""
        key = (model, text)
        with self._encoder_lock:
            if key not in self._text_vectors:
                self._text_vectors[key] = self._encoder(model).encode([text])[0]
                if len(self._text_vectors) > REMEMBERED_TEXTS:
                    self._text_vectors.popitem(last=False)
            self._text_vectors.move_to_end(key)
            return self._text_vectors[key]

    def encode_names(self, model: str, vocabulary: Names) -> NDArray[np.float32]:
        """Return the vectors (M, D) of some names of a vocabulary. Each machine computes them once and caches them."""
        with self._encoder_lock:
            key = (model, vocabulary.vocabulary_id)
            if key not in self._name_vectors:
                # Tags above classes have short, general names that are nearer to any text: the cutoff would rise.
                known = shipped_hierarchy().classes_of(vocabulary.names)
                names = [known[i] for i in spread(len(known), SAMPLE)]
                self._name_vectors[key] = cached_embeddings(self._encoder(model), names, self._settings.cache_path)
            return self._name_vectors[key]

    def encode_picture(self, picture: bytes, generation: Generation) -> NDArray[np.float32]:
        """Return the vector (D,) of a picture, computed as in a generation.

        Raises:
            UsageError: the file is not a picture, or the model cannot be loaded here.
            FatalError: the installed model computes other vectors.
        """
        from workers.pipeline.retry import UndecodableError  # noqa: PLC0415

        model = self._recognizer(generation)
        try:  # outside the lock, because decoding may take long
            decoded = self.decoders().decode(picture, model.preprocessing)
        except UndecodableError as error:
            raise UsageError(f"this file is not a picture that ramq can read: {error}") from error
        with self._recognizer_lock:
            vector: NDArray[np.float32] = model.predict(decoded.pixels[None])[0].vector
        return vector

    def decoders(self) -> Decoders:
        """Return the processes that decode query pictures and thumbnails. They start at their first use."""
        from workers.pipeline.decoders import Decoders  # noqa: PLC0415  (Pillow; not every command needs it)

        with self._decoder_lock:
            if self._decoders is None:
                self._decoders = Decoders(min(DECODERS, self._settings.decode_threads), self._settings.max_pixels)
            return self._decoders

    def _encoder(self, model: str) -> TextEncoder:
        try:
            if model not in self._encoders:
                self._encoders[model] = load_text_encoder(model, models_dir=self._settings.models_path)
        except ModelError as error:
            raise UsageError(str(error)) from error
        return self._encoders[model]

    def _recognizer(self, generation: Generation) -> Recognizer:
        with self._recognizer_lock:
            if generation.model not in self._recognizers:
                try:
                    self._recognizers[generation.model] = load_model(
                        generation.model,
                        device=self._settings.device,
                        models_dir=self._settings.models_path,
                        cache_dir=self._settings.cache_path,
                    )
                except ModelError as error:
                    raise UsageError(str(error)) from error
            model = self._recognizers[generation.model]
        if not _makes_vectors_of(model.spec, generation):
            raise FatalError(
                f"the installed {generation.model} has other weights than the one that computed the archive's vectors; "
                "install the same checkpoint here"
            )
        return model


def _makes_vectors_of(spec: ModelSpec, generation: Generation) -> bool:
    """Return whether a model computes the same image vectors as a generation, whose vocabulary may differ."""
    if spec.fingerprint == generation.fingerprint:
        return True
    ours = (spec.weights_sha256, spec.vector_kind, spec.vector_size)
    theirs = (generation.weights_sha256, generation.vector_kind, generation.vector_size)
    # Vectors of tags change with the vocabulary. A vocabulary adds its own part at the end of `preprocessing`.
    return ours == theirs and spec.vector_kind != "tags" and generation.preprocessing.startswith(spec.preprocessing)
