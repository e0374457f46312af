"""A real worker process whose model costs nothing: run as a script with the settings in the environment.

Pictures may be fatal to its decoders (``tests.services.marked_decoder``). The model's results are a function of the
pixels alone, so that a test can compute what every record must hold.

``NULL_MODEL_SECONDS`` (float): how long a batch takes. ``NULL_MODEL_SLOW_SECONDS`` (float): how long each image whose
first pixel is white takes beside that. ``NULL_MODEL_POISON`` (hex digest of pixels, comma separated):
images that kill the process as a segmentation fault would. ``NULL_MODEL_COUNT``: a file that grows by a byte for each
image. ``NULL_MODEL_WEIGHTS`` (hex): the weights' hash, by which a generation is known. ``NULL_MODEL_TROUBLE``: its
``checkpoint`` cannot be loaded, or the ``memory`` is not enough for any batch. ``NULL_MODEL_LOSES_DEVICE`` (as
``NULL_MODEL_POISON``): images at which the device fails. What else can go wrong in it is in
``tests.services.fault_hooks``.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import CheckpointError
from ram_core.recognition import ModelSpec, Prediction
from ram_core.transforms import SquashTransform
from ram_core.vocabulary import TagVocabulary
from tests.services.marked_decoder import use_marked_decoder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.stages import StageKind

TAGS = 64
SIZE = 32
VECTOR_SIZE = 16


def digest(pixels: NDArray[np.uint8]) -> str:
    """Name (S, S, 3) pixels."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def expected(pixels: NDArray[np.uint8]) -> Prediction:
    """What the model says about (S, S, 3) pixels: 1 to 4 tags and a unit vector, drawn from their hash."""
    random = np.random.default_rng(int(digest(pixels)[:16], 16))
    tag_ids = np.sort(random.choice(TAGS, size=random.integers(1, 5), replace=False)).astype(np.int32)
    vector = random.standard_normal(VECTOR_SIZE).astype(np.float32)
    return Prediction(
        tag_ids, random.uniform(0.6, 1.0, len(tag_ids)).astype(np.float32), vector / np.linalg.norm(vector)
    )


class NullModel:
    """A recognizer that knows its answers at once."""

    score_floor = 0.1
    preprocessing = SquashTransform(SIZE)
    vocabulary = TagVocabulary.from_names("null", [f"tag {number}" for number in range(TAGS)])
    spec = ModelSpec("lite", "0" * 64, vocabulary.sha256, "null", "tags", VECTOR_SIZE)

    def predict(
        self, pixels: NDArray[np.uint8], *, caption: bool = False, features: str | None = None
    ) -> list[Prediction]:
        poison = set(filter(None, os.environ.get("NULL_MODEL_POISON", "").split(",")))
        if poison and any(digest(image) in poison for image in pixels):
            signal.raise_signal(signal.SIGSEGV)  # to this thread: no other may go on meanwhile
        if count_path := os.environ.get("NULL_MODEL_COUNT"):
            with Path(count_path).open("ab", buffering=0) as file:  # appends are atomic, also between processes
                file.write(b"." * len(pixels))
        lost = set(filter(None, os.environ.get("NULL_MODEL_LOSES_DEVICE", "").split(",")))
        if lost and any(digest(image) in lost for image in pixels):
            raise RuntimeError("CUDA error: device-side assert triggered")
        if os.environ.get("NULL_MODEL_TROUBLE") == "memory":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes")
        time.sleep(float(os.environ.get("NULL_MODEL_SECONDS", "0")))
        slow = sum(bool((image[0, 0] == 255).all()) for image in pixels)
        time.sleep(slow * float(os.environ.get("NULL_MODEL_SLOW_SECONDS", "0")))
        return [expected(image) for image in pixels]


def load_null(_name: str, **_options: object) -> NullModel:
    """Stand in for ``load_model``."""
    if os.environ.get("NULL_MODEL_TROUBLE") == "checkpoint":
        raise CheckpointError("lite.safetensors is damaged: run `ramq models pull lite`")
    model = NullModel()
    model.spec = replace(model.spec, weights_sha256=os.environ.get("NULL_MODEL_WEIGHTS", model.spec.weights_sha256))
    return model


def null_crops() -> StageKind:
    """Return the stage ``crops`` with this model."""
    from workers.stages.crops import KIND, CropsStage  # noqa: PLC0415

    return replace(KIND, load=lambda model, _: CropsStage(load_null(model)))


def arguments(_options: object) -> dict[str, object]:
    """Stand in for what ``load_model`` is given: only a GPU that is asked for is looked for, which takes torch."""
    device = os.environ.get("RAMQ_DEVICE", "cpu")
    if device.startswith("cuda"):
        from ram_core.registry import resolve_device  # noqa: PLC0415

        return {"device": resolve_device(device)}
    return {}


def chosen(_options: object, _name: str) -> object:
    """Stand in for the choice of a number format, which takes torch."""
    return SimpleNamespace(name="float32", why="a null model has no numbers")


def main() -> None:
    """Run ``ramq worker`` with the null model, which needs no torch and so starts in half the time."""
    import sys  # noqa: PLC0415

    from ramq.cli import main as cli  # noqa: PLC0415
    from tests.services import fault_hooks, null_locator, null_reader  # noqa: PLC0415
    from workers.pipeline import model_holder, model_options  # noqa: PLC0415
    from workers.stages import STAGES  # noqa: PLC0415

    model_holder.load_model = load_null  # type: ignore[assignment]
    model_options.ModelOptions.arguments = property(arguments)  # type: ignore[assignment]
    model_options.ModelOptions.chosen = chosen  # type: ignore[assignment, method-assign]
    null_reader.use_null_reader()
    STAGES["crops"] = null_crops()
    null_locator.use_null_locator()
    use_marked_decoder()
    fault_hooks.prepare(os.environ)
    sys.argv = ["ramq", "worker"]
    cli.main()


if __name__ == "__main__":
    main()
