"""The models of a process that searches. They compute the vectors of query texts and query pictures."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from ram_core import load_model, load_text_encoder
from ram_core.errors import ModelError, UnknownModelError
from ram_core.spaces import METHODS_WITH_TEXTS, load_image_encoder, load_text_tower
from ramq.services.query_texts import QueryTexts
from storage.errors import ModelMissingError, UsageError
from storage.results.spaces import TEXT
from storage.tables import RECOGNITION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ram_core.pictures import Decoded
    from ram_core.recognition import ModelSpec, Preprocessing, Recognizer
    from ram_core.spaces import ImageEncoder
    from ramq.settings import Settings
    from storage.results.tags import Names
    from storage.tables import Generation
    from workers.pipeline.decoders import Decoders

DECODERS = 2
"""The number of pictures that a web server decodes at the same time."""

UPLOAD_SECONDS = 5
"""How long a picture to search by may take to decode. People wait for it, and others wait behind it."""

GLANCE = 32
"""The side, in pixels, at which a file is decoded only to see whether it is a picture."""

Model = TypeVar("Model")


class _Kept(Generic[Model]):
    """Models by name. One that does not fit is made anew if files of models have changed since. Thread-safe.

    Making may be cheap (``QueryTexts`` loads later) or slow; nobody who needs a model that is there waits for it.

    Args:
        folder: the models'.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._models: dict[str, tuple[_Stamp, Model]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._models

    def get(self, name: str, make: Callable[[], Model], fits: Callable[[Model], bool]) -> Model | None:
        """Return the model; None if the one that is installed does not fit."""
        kept = self._models.get(name)
        if kept is not None and fits(kept[1]):
            return kept[1]
        with self._lock:
            now = _stamp(self._folder)
            if name in self._models and self._models[name][0] != now:
                kept = None
                del self._models[name]  # so that not both are in memory
            if name not in self._models:
                self._models[name] = now, make()
            model = self._models[name][1]
        return model if fits(model) else None


_Stamp = frozenset[tuple[str, int, int]]


def _stamp(folder: Path) -> _Stamp:
    """Return what tells whether files of models have changed: their paths, times and sizes."""
    found = set()
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        try:
            about = path.stat()
        except OSError:  # it was removed meanwhile
            continue
        found.add((str(path), about.st_mtime_ns, about.st_size))
    return frozenset(found)


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
        self._texts: _Kept[QueryTexts] = _Kept(settings.models_path)
        self._recognizers: _Kept[Recognizer] = _Kept(settings.models_path)
        self._encoders: _Kept[ImageEncoder] = _Kept(settings.models_path)
        self._decoders: dict[int | None, Decoders] = {}

    def encode_text(self, text: str, generation: Generation) -> NDArray[np.float32]:
        """Return the vector (D,) of a text, with which a generation's vectors of images can be compared.

        Raises:
            ModelMissingError: the encoder is missing, or the installed one belongs to other weights.
        """
        with _needed_for(generation):
            return self._texts_of(generation).encode(text)

    @staticmethod
    def compares_texts(generation: Generation) -> bool:
        """Return whether texts can be compared with the vectors of a generation of a space."""
        return generation.preprocessing.rpartition("; ")[2].startswith(METHODS_WITH_TEXTS)

    def encode_names(self, vocabulary: Names, generation: Generation) -> NDArray[np.float32]:
        """Return the vectors (M, D) of some names of a vocabulary; see ``encode_text``."""
        with _needed_for(generation):
            return self._texts_of(generation).encode_names(vocabulary)

    def encode_picture(self, picture: bytes, generations: Sequence[Generation]) -> list[NDArray[np.float32]]:
        """Return the vectors (D,) of a picture, computed as in each generation. It is decoded once.

        Raises:
            UsageError: the file is not a picture.
            ModelMissingError: a model cannot be loaded here, or computes other vectors.
        """
        if not all(generation.model in self._models_of_pictures(generation) for generation in generations):
            self._decoded(picture, [_glance()])  # loading takes seconds, which a file that is no picture must not cost
        with self._picture_lock:
            models = [self._picture_model(generation) for generation in generations]
        # outside the lock, because decoding may take long
        decoded = self._decoded(picture, [preprocessing for preprocessing, _ in models])
        vectors = []
        with self._picture_lock:
            for generation, (_, encode), one in zip(generations, models, decoded, strict=True):
                with _needed_for(generation):  # a damaged checkpoint may show only now
                    vectors.append(encode(one.pixels))
        return vectors

    def _decoded(self, picture: bytes, preparations: Sequence[Preprocessing]) -> list[Decoded]:
        from workers.pipeline.retry import UndecodableError  # noqa: PLC0415

        try:
            return self._decoders_of(UPLOAD_SECONDS).decode_for_all(picture, preparations)
        except UndecodableError as error:
            raise UsageError(f"this file is not a picture that ramq can read: {error}") from error

    def decoders(self) -> Decoders:
        """Return the processes that decode pictures of archives. They start at their first use.

        Pictures to search by have others, so that thumbnails never wait for them.
        """
        return self._decoders_of(None)

    def _decoders_of(self, seconds: int | None) -> Decoders:
        """Return those with this time limit; None: the one of workers."""
        from workers.pipeline.decoders import (  # noqa: PLC0415  (Pillow; not every command needs it)
            PICTURE_SECONDS,
            Decoders,
        )

        with self._decoder_lock:
            if seconds not in self._decoders:
                count, most = min(DECODERS, self._settings.decode_threads), self._settings.max_pixels
                limit, reads = seconds or PICTURE_SECONDS, self._settings.truncated == "read"
                self._decoders[seconds] = Decoders(count, most, limit, reads_truncated=reads)
            return self._decoders[seconds]

    def _texts_of(self, generation: Generation) -> QueryTexts:
        is_tower = generation.stage != RECOGNITION
        load = load_text_tower if is_tower else load_text_encoder

        def make() -> QueryTexts:
            loading = partial(load, generation.model, models_dir=self._settings.models_path)
            return QueryTexts(loading, self._settings.cache_path)

        def fits(texts: QueryTexts) -> bool:
            # The text encoder of recognition has weights of its own.
            return not is_tower or texts.sha256() == generation.weights_sha256

        texts = self._texts.get(generation.model, make, fits)
        if texts is None:
            raise _has_other_weights(generation)
        return texts

    def _models_of_pictures(self, generation: Generation) -> _Kept[Recognizer] | _Kept[ImageEncoder]:
        return self._recognizers if generation.stage == RECOGNITION else self._encoders

    def _picture_model(
        self, generation: Generation
    ) -> tuple[Preprocessing, Callable[[NDArray[np.uint8]], NDArray[np.float32]]]:
        """Return what prepares a picture, and what makes the vector (D,) of that."""
        place: dict[str, Any] = {"device": self._settings.device, "models_dir": self._settings.models_path}
        name = generation.model
        with _needed_for(generation):
            if generation.stage != RECOGNITION:
                load_encoder = partial(load_image_encoder, name, precision=self._settings.look_precision, **place)
                encoder = self._encoders.get(name, load_encoder, lambda one: _encodes_as(one, generation))
                if encoder is not None:
                    return encoder.preprocessing, lambda pixels: encoder.encode(pixels[None])[0]
            else:
                load = partial(load_model, name, **place, cache_dir=self._settings.cache_path)
                model = self._recognizers.get(name, load, lambda one: _makes_vectors_of(one.spec, generation))
                if model is not None:
                    return _as_recorded(model.preprocessing), partial(_vector_of, model)
        raise _has_other_weights(generation)


def _glance() -> Preprocessing:
    from ram_core.transforms import SquashTransform  # noqa: PLC0415  (Pillow; not every command needs it)

    return SquashTransform(GLANCE)


def _as_recorded(preprocessing: Preprocessing) -> Preprocessing:
    """Return what prepares a picture as workers do: a long one in tiles."""
    from ram_core.tiling import tiled  # noqa: PLC0415  (Pillow; not every command needs it)

    found: Preprocessing = tiled(preprocessing)
    return found


def _vector_of(model: Recognizer, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    from ram_core.tiling import mean_vector, squares  # noqa: PLC0415  (loaded with the first model)

    seen = squares(pixels)
    found = model.predict(seen[1:] if len(seen) > 1 else seen)
    return found[0].vector if len(found) == 1 else mean_vector(np.stack([one.vector for one in found]))


@contextmanager
def _needed_for(generation: Generation) -> Iterator[None]:
    """Turn errors of loading a model into one that says which vectors it is needed for."""
    try:
        yield
    except ModelError as error:
        space = TEXT if generation.stage == RECOGNITION else generation.stage
        what = f"searching by {space} needs {generation.model}, which made its vectors"
        reason = "it is not in RAMQ_MODELS_DIR of this machine" if isinstance(error, UnknownModelError) else error
        raise ModelMissingError(f"{what}: {reason}") from error


def _encodes_as(encoder: ImageEncoder, generation: Generation) -> bool:
    spec = encoder.spec
    made = (spec.weights_sha256, _in_full(f"{spec.preprocessing}; {spec.method}"), spec.vector_size)
    return made == (generation.weights_sha256, _in_full(generation.preprocessing), generation.vector_size)


def _in_full(preprocessing: str) -> str:
    """Return what made a vector, without its number format: vectors in 16 bits can be compared with those in 32."""
    return preprocessing.removesuffix("-bfloat16").removesuffix("-float16")


def _has_other_weights(generation: Generation) -> ModelMissingError:
    return ModelMissingError(
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
