"""New tags scored by their names alone, which RAM and RAM++ can do from image tokens (open set)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import structlog

from workers.messages import MODELS_WITH_TOKENS, kind_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ramq.settings import Settings
    from storage.tables import Generation

log = structlog.get_logger()


class NameScores:
    """Scores images by the name of a tag. It loads the model at its first use, and keeps it. Thread-safe.

    Args:
        settings: where models are, and where they run.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._name: str | None = None
        self._model: Any = None

    def __call__(self, source: Generation, tag: str, rows: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Return (B,) scores of a tag from (B, R) tokens; None if the model of a generation cannot, or is not here."""
        if kind_of(source.model) not in MODELS_WITH_TOKENS:
            return None
        from ram_core import load_model  # noqa: PLC0415  (loads torch)
        from ram_core.errors import ModelError  # noqa: PLC0415
        from ram_core.teaching.recognizer import scores_of  # noqa: PLC0415

        with self._lock:
            try:
                if self._name != source.model:
                    self._model, self._name = None, None
                    self._model = load_model(
                        source.model,
                        device=self._settings.device,
                        models_dir=self._settings.models_path,
                        cache_dir=self._settings.cache_path,
                    )
                    self._name = source.model
                if self._model.spec.weights_sha256 != source.weights_sha256:
                    return None
                return scores_of(self._model.with_vocabulary([tag]).retag(rows), 0)
            except ModelError as error:
                log.info("not scored by name", tag=tag, model=source.model, reason=str(error))
                return None
