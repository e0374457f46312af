"""Where tags are in pictures: ``load_locator`` gives a ``Locator``, which returns a ``Localization`` for each picture.

Importing this package is cheap: torch and transformers are imported when a model is loaded.

``results``         regions of a picture, and what identifies a locator
``locator``         the steps from a picture to its regions
``parts``           what a detector and a segmenter are
``prompts``         from tags to prompts, and back
``boxes``           which of the many boxes are kept
``rle``             masks as run-length encoding of COCO
``grounding_dino``  the detectors Grounding DINO and MM-Grounding-DINO
``owl``             the detector OWLv2
``sam``             the segmenters SAM, SAM 2 and SAM-HQ
``evidence``        where a recogniser looked, without a detector
``pixels``          from pictures to the input of networks
``memory``          batches in halves where memory is short
``loading``         from files to a detector or segmenter
``tiny``            random weights in the published layout
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ram_core.localization.boxes import Rules
from ram_core.localization.results import Localization, LocatorSpec, Region
from ram_core.localization.rle import RLE
from ram_core.transforms import LocatingTransform

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from ram_core.localization.locator import Locator
    from ram_core.localization.parts import Detector, Segmenter

__all__ = [
    "DETECTORS",
    "RLE",
    "SEGMENTERS",
    "Localization",
    "LocatingTransform",
    "LocatorSpec",
    "Region",
    "Rules",
    "load_detector",
    "load_locator",
    "load_segmenter",
]

DETECTORS = ("grounding-dino-tiny", "grounding-dino-base", "mm-grounding-dino-tiny", "owlv2-base")
"""The detectors of the catalogue (``ramq models``)."""

SEGMENTERS = ("sam-vit-base", "sam-vit-huge", "sam2.1-hiera-tiny", "sam2.1-hiera-large", "sam-hq-vit-base")
"""The segmenters of the catalogue."""


def load_detector(
    name: str,
    *,
    device: str = "cpu",
    models_dir: Path | None = None,
    precision: str = "auto",
    compiled: bool = False,
) -> Detector:
    """Load a detector by name. Nothing is downloaded.

    Args:
        name: one of ``DETECTORS``, or a folder in ``models_dir`` with a model of the same kind.
        device: ``cpu``, ``cuda``, ``cuda:1``…, or ``auto`` for a GPU if there is one.
        models_dir: folder of checkpoints (``ramq models pull``).
        precision: ``float32``, ``bfloat16``, ``float16`` (GPU only), or ``auto``: bfloat16 on GPUs that compute in it,
            float32 elsewhere. Norms, boxes and scores are float32 in any case.
        compiled: fuse with torch.compile what sees pictures of one size only: OWLv2 and segmenters. The first batch of
            each size takes minutes.

    Raises:
        UnknownModelError: no detector has this name.
        CheckpointError: the weights are missing, damaged, or of another kind of model.
        DeviceError: the device or the number format is not available.
    """
    from ram_core.localization import loading  # noqa: PLC0415  (torch and transformers load here, not on import)

    return loading.load_detector(
        name, device=device, models_dir=models_dir, precision=precision, compiled=compiled, known=DETECTORS
    )


def load_segmenter(
    name: str,
    *,
    device: str = "cpu",
    models_dir: Path | None = None,
    precision: str = "auto",
    compiled: bool = False,
) -> Segmenter:
    """Load a segmenter by name. Nothing is downloaded.

    Args:
        name: one of ``SEGMENTERS``, or a folder in ``models_dir`` with a model of the same kind.
        device: see ``load_detector``.
        models_dir: see ``load_detector``.
        precision: see ``load_detector``.
        compiled: see ``load_detector``.

    Raises:
        UnknownModelError, CheckpointError, DeviceError: see ``load_detector``.
    """
    from ram_core.localization import loading  # noqa: PLC0415

    return loading.load_segmenter(
        name, device=device, models_dir=models_dir, precision=precision, compiled=compiled, known=SEGMENTERS
    )


def load_locator(  # noqa: PLR0913  (one knob each; every one has a default)
    detector: str = "grounding-dino-tiny",
    segmenter: str | None = None,
    *,
    rules: Rules | None = None,
    kinds: Mapping[str, Collection[str]] | None = None,
    device: str = "cpu",
    models_dir: Path | None = None,
    precision: str = "auto",
    compiled: bool = False,
) -> Locator:
    """Load a locator. Nothing is downloaded.

    Args:
        detector: name of the detector; see ``load_detector``.
        segmenter: name of the segmenter; see ``load_segmenter``; None: boxes only.
        rules: which boxes are kept.
        kinds: tag -> more general tags; see ``Locator``.
        device: see ``load_detector``.
        models_dir: see ``load_detector``.
        precision: see ``load_detector``. It is part of what made a result.
        compiled: see ``load_detector``.

    Raises:
        UnknownModelError, CheckpointError, DeviceError: see ``load_detector``.
    """
    from ram_core.localization.locator import Locator  # noqa: PLC0415

    how: dict[str, Any] = {
        "device": device,
        "models_dir": models_dir,
        "precision": precision,
        "compiled": compiled,
    }
    finder = load_detector(detector, **how)
    filler = None if segmenter is None else load_segmenter(segmenter, **how)
    return Locator(finder, filler, rules, kinds)
