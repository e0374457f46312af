"""From files in a folder to a detector or a segmenter. Nothing is downloaded, and no code in a file is run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ram_core.checkpoints.folders import (
    WEIGHTS,
    digest_of,
    folder_of,
    kind_of,
    load_network,
    load_tokenizer,
    read_json,
)
from ram_core.errors import CheckpointError
from ram_core.localization import grounding_dino, owl, sam
from ram_core.localization.pixels import Preparation
from ram_core.localization.results import PartSpec
from ram_core.precision import choose
from ram_core.registry import resolve_device
from ram_core.transforms import IMAGENET_MEAN, IMAGENET_STD, Sides

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ram_core.localization.parts import Detector, Segmenter

# model_type of config.json -> class of transformers
_DETECTORS = {
    "grounding-dino": "GroundingDinoForObjectDetection",
    "mm-grounding-dino": "MMGroundingDinoForObjectDetection",
    "owlv2": "Owlv2ForObjectDetection",
}
# SAM 2 is published as the model for videos, of which a part is the one for pictures.
_SEGMENTERS = {"sam": "SamModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model", "sam_hq": "SamHQModel"}


def load_detector(
    name: str, *, device: str, models_dir: Path | None, precision: str, compiled: bool, known: Sequence[str]
) -> Detector:
    """Load a detector; see ``ram_core.localization.load_detector``."""
    numbers = choose(precision, resolve_device(device))
    folder = folder_of(name, models_dir, known)
    kind = kind_of(folder, _DETECTORS, "detector")
    network, tokenizer = load_network(folder, _DETECTORS[kind], numbers.device), load_tokenizer(folder)
    weights = digest_of(folder / WEIGHTS)
    if kind == "owlv2":
        side = int(network.config.vision_config.image_size)
        preparation = _preparation(folder, Sides(side, side))
        if compiled:
            network.owlv2.vision_model.compile(dynamic=False)
        spec = PartSpec(name, weights, f"{kind}-{owl.METHOD}{numbers.suffix}")
        return owl.Owl(network, tokenizer, preparation, spec, numbers)
    preparation = _preparation(folder, Sides(800, 1333))
    spec = PartSpec(name, weights, f"{kind}-{grounding_dino.METHOD}{numbers.suffix}")
    return grounding_dino.GroundingDino(network, tokenizer, preparation, spec, numbers)


def load_segmenter(
    name: str, *, device: str, models_dir: Path | None, precision: str, compiled: bool, known: Sequence[str]
) -> Segmenter:
    """Load a segmenter; see ``ram_core.localization.load_segmenter``."""
    numbers = choose(precision, resolve_device(device))
    folder = folder_of(name, models_dir, known)
    kind = kind_of(folder, _SEGMENTERS, "segmenter")
    network = load_network(folder, _SEGMENTERS[kind], numbers.device)
    kind = "sam2" if kind == "sam2_video" else kind
    told = network.config.prompt_encoder_config if kind == "sam2" else network.config.vision_config
    side = int(told.image_size)
    preparation = replace(_preparation(folder, Sides(side, side)), sides=Sides(side, side))
    if compiled:
        network.vision_encoder.compile(dynamic=False)
    spec = PartSpec(name, digest_of(folder / WEIGHTS), f"{kind}-{sam.METHOD}{numbers.suffix}")
    return sam.Sam(network, kind, preparation, spec, numbers)


def _preparation(folder: Path, sides: Sides) -> Preparation:
    """Read how the model's authors prepare pictures; ``sides`` where their file does not say."""
    told = read_json(folder / "preprocessor_config.json")
    size = told.get("size") or {}
    try:
        if "longest_edge" in size:
            sides = Sides(int(size.get("shortest_edge", size["longest_edge"])), int(size["longest_edge"]))
        mean, std = (
            tuple(float(value) for value in told.get(key) or other)
            for key, other in (("image_mean", IMAGENET_MEAN), ("image_std", IMAGENET_STD))
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'preprocessor_config.json'} is damaged ({error})") from error
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or not 0 < sides.short <= sides.long:
        raise CheckpointError(f"{folder / 'preprocessor_config.json'} has sizes or levels that cannot be")
    return Preparation(sides, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
