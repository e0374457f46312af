"""Tag2Text as the captioner of this process, beside whichever model recognises."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import structlog

from ram_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.recognition import Preprocessing
    from workers.pipeline.model_options import ModelOptions

CAPTIONER = "tag2text"

log = structlog.get_logger()


class SharedCaptioner:
    """One captioner for all models and vocabularies, loaded with the first caption. Only the inference thread captions.

    Args:
        options: device, folders and number format.
        load: loads a model by its name and those, in a number format.
    """

    def __init__(self, options: ModelOptions, load: Callable[[str, ModelOptions, str], Any]) -> None:
        self._options = options
        self._load = load
        self._model: Any = None

    def sentences(
        self, model: str, preprocessing: Preprocessing, pixels: NDArray[np.uint8], assigned: Sequence[Sequence[str]]
    ) -> Sequence[str]:
        """Return a caption for each of (B, S, S, 3) pixels, made by the ``preprocessing`` of ``model``.

        Args:
            model: name of the model that recognised them.
            preprocessing: of that model. The captioner takes the same pixels as RAM and RAM++.
            pixels: the images.
            assigned: names of the tags of each.

        Raises:
            CheckpointError: the model takes other pixels.
            UnfitError: the captioner cannot be loaded here.
        """
        import torch  # noqa: PLC0415  (loaded with the first model, not with this module)

        from ram_core.transforms import normalise  # noqa: PLC0415

        captioner = self._loaded()
        squash = captioner.preprocessing
        if squash.name != getattr(preprocessing, "name", None):
            raise CheckpointError(
                f"the captioner {CAPTIONER} does not work with {model}: use the model ram or ram_plus, "
                "or the captioner template"
            )
        batch = torch.from_numpy(pixels).to(captioner.runner.device)  # (B, S, S, 3)
        captions: Sequence[str] = captioner.caption(normalise(batch, squash.mean, squash.std), assigned)
        return captions

    def release(self) -> bool:
        """Unload it. Return whether it was loaded."""
        was_loaded, self._model = self._model is not None, None
        if was_loaded:
            log.info("unloading captioner", model=CAPTIONER)
            gc.collect()
        return was_loaded

    def _loaded(self) -> Any:
        captioner = self._model
        if captioner is None:
            # Words depend on all digits. So a captioner is not certified, but exact.
            chosen = self._options.chosen(CAPTIONER).name
            captioner = self._load(CAPTIONER, self._options, "float32" if chosen == "certified" else chosen)
            self._model = captioner
        return captioner
