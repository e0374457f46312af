"""The model in this process: loaded when the first job needs it, one at a time, with the captioner beside it."""

from __future__ import annotations

import gc
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ram_core import load_model
from ram_core.captions import template_caption
from ram_core.errors import CheckpointError
from ramq.kit.logs import get_logger
from storage.repositories import generations

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from ram_core.recognition import Prediction, Recognizer

log = get_logger()


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Where models come from and where they run."""

    device: str
    models_dir: Path
    cache_dir: Path

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``load_model`` takes. On a GPU the large models run in float16, which changes logits by hundredths."""
        import torch  # noqa: PLC0415

        from ram_core.registry import resolve_device  # noqa: PLC0415

        device = resolve_device(self.device)
        return {
            "device": device,
            "dtype": torch.float16 if device.type == "cuda" else torch.float32,
            "models_dir": self.models_dir,
            "cache_dir": self.cache_dir,
        }


@dataclass(slots=True)
class LoadedModel:
    """A recognizer and what else a job on it needs."""

    name: str
    recognizer: Recognizer
    thresholds: NDArray[np.float32]  # (T,)
    options: ModelOptions
    _tag2text: Any = field(default=None)

    def captions(
        self, captioner: str, pixels: NDArray[np.uint8], predictions: Sequence[Prediction]
    ) -> list[str | None]:
        """Return a caption for each of (B, S, S, 3) pixels, as ``captioner`` makes them (None for ``none``)."""
        if captioner == "none":
            return [None] * len(predictions)
        assigned = [self._assigned(prediction) for prediction in predictions]
        if captioner == "template":
            are_things = self.recognizer.vocabulary.name == "imagenet"
            return [template_caption(names, are_things=are_things) for names in assigned]
        return list(self._sentences(pixels, assigned))

    def _sentences(self, pixels: NDArray[np.uint8], assigned: list[list[str]]) -> list[str]:
        """Caption with Tag2Text, which takes the same pixels as RAM and RAM++."""
        import torch  # noqa: PLC0415  (loaded with the first model, not with this module)

        from ram_core.transforms import normalise  # noqa: PLC0415

        if self._tag2text is None:
            self._tag2text = load_model("tag2text", **self.options.arguments)
        squash = self._tag2text.preprocessing
        if squash.name != getattr(self.recognizer.preprocessing, "name", None):
            raise CheckpointError(f"the captioner tag2text does not go with {self.name}: use ram, ram_plus or template")
        batch = torch.from_numpy(pixels).to(self._tag2text.runner.device)  # (B, S, S, 3)
        captions: list[str] = self._tag2text.caption(normalise(batch, squash.mean, squash.std), assigned)
        return captions

    def _assigned(self, prediction: Prediction) -> list[str]:
        above = prediction.scores > self.thresholds[prediction.tag_ids]
        order = prediction.scores[above].argsort()[::-1]
        names = self.recognizer.vocabulary.names
        return [names[tag] for tag in prediction.tag_ids[above][order].tolist()]


class ModelHolder:
    """Loads models and registers their generations.

    Args:
        engine: the database.
        options: device and folders.
        pinned: the only model that this worker runs, or None for any.
    """

    def __init__(self, engine: Engine, options: ModelOptions, pinned: str | None) -> None:
        self._engine = engine
        self._options = options
        self._lock = threading.Lock()
        self._loaded: LoadedModel | None = None
        self.pinned = pinned

    @property
    def served(self) -> tuple[str, ...] | None:
        """The models this worker takes jobs for; None for any."""
        return None if self.pinned is None else (self.pinned,)

    @property
    def current(self) -> str | None:
        """The name of the loaded model."""
        return self._loaded.name if self._loaded else None

    @property
    def device(self) -> str:
        """The device that was asked for."""
        return self._options.device

    def get(self, name: str) -> LoadedModel:
        """Return a model, loading it in place of another if need be.

        Raises:
            ModelError: it cannot be loaded; the message says what to do.
        """
        with self._lock:
            if self._loaded is None or self._loaded.name != name:
                self._loaded = None  # before the next is loaded: two may not fit
                gc.collect()
                self._loaded = self._load(name)
            return self._loaded

    def _load(self, name: str) -> LoadedModel:
        log.info("loading model", model=name, device=self._options.device)
        recognizer = load_model(name, **self._options.arguments)
        log.info("model is ready", model=name)
        return LoadedModel(name, recognizer, recognizer.vocabulary.thresholds, self._options)

    def register(self, session: Session, name: str) -> int:
        """Return the id of a model's generation, which cannot be dropped before the transaction ends.

        Asked for each job and not kept: a generation may be dropped while the model stays loaded.

        Raises:
            ModelError: it cannot be loaded; the message says what to do.
        """
        recognizer = self.get(name).recognizer
        spec, vocabulary = recognizer.spec, recognizer.vocabulary
        return generations.ensure(
            session,
            generations.GenerationSpec(
                fingerprint=spec.fingerprint,
                model=spec.model,
                weights_sha256=spec.weights_sha256,
                preprocessing=spec.preprocessing,
                vector_kind=spec.vector_kind,
                vector_size=spec.vector_size,
            ),
            generations.VocabularySpec(
                sha256=vocabulary.sha256,
                name=vocabulary.name,
                names=vocabulary.names,
                names_zh=vocabulary.names_zh,
                thresholds=[float(threshold) for threshold in vocabulary.thresholds],
            ),
        )
