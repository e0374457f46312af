"""Training of RAM, RAM++ and Tag2Text as their papers and the official code do it (docs/training.md).

* ``loading``: a network to train from a checkpoint, and a checkpoint from a network.
* ``batch``: what a step learns from. ``networks``: what each model learns. ``losses``: the formulas.
* ``captions``: cleaning of captions. ``teacher``: CLIP's vectors of images and captions.
* ``recipes``: the two official ones. ``augmentation``: random views. ``order``: which images are in which batch.
* ``trainer``: the loop. ``processes``: several that share it. ``states``, ``files``: what it writes.
* ``data``: from files and archives to batches.
* ``validation``: mean average precision. ``initial``: weights to begin with, without a checkpoint.

Importing this package is cheap, because processes that decode images import ``augmentation``: torch comes with the
first name that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ram_core.training.batch import TrainingBatch, multi_hot
    from ram_core.training.captions import clean_caption
    from ram_core.training.loading import load_for_training, save_checkpoint
    from ram_core.training.losses import asymmetric_loss

__all__ = ["TrainingBatch", "asymmetric_loss", "clean_caption", "load_for_training", "multi_hot", "save_checkpoint"]

_MODULES = {
    "TrainingBatch": "batch",
    "asymmetric_loss": "losses",
    "clean_caption": "captions",
    "load_for_training": "loading",
    "multi_hot": "batch",
    "save_checkpoint": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
