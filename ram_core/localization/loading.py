"""From files in a folder to a detector or a segmenter. Nothing is downloaded, and no code in a file is run."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoTokenizer
from transformers import logging as transformers_logging

from ram_core.errors import CheckpointError, UnknownModelError
from ram_core.localization import grounding_dino, owl, sam
from ram_core.localization.pixels import Preparation
from ram_core.localization.precision import choose
from ram_core.localization.results import PartSpec
from ram_core.registry import resolve_device
from ram_core.transforms import IMAGENET_MEAN, IMAGENET_STD, Sides

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ram_core.localization.parts import Detector, Segmenter

WEIGHTS = "model.safetensors"

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
    folder = _folder(name, models_dir, known)
    kind = _kind(folder, _DETECTORS, "detector")
    network, tokenizer = _network(folder, _DETECTORS[kind], numbers.device), _tokenizer(folder)
    weights = _digest(folder / WEIGHTS)
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
    folder = _folder(name, models_dir, known)
    kind = _kind(folder, _SEGMENTERS, "segmenter")
    network = _network(folder, _SEGMENTERS[kind], numbers.device)
    kind = "sam2" if kind == "sam2_video" else kind
    told = network.config.prompt_encoder_config if kind == "sam2" else network.config.vision_config
    side = int(told.image_size)
    preparation = replace(_preparation(folder, Sides(side, side)), sides=Sides(side, side))
    if compiled:
        network.vision_encoder.compile(dynamic=False)
    spec = PartSpec(name, _digest(folder / WEIGHTS), f"{kind}-{sam.METHOD}{numbers.suffix}")
    return sam.Sam(network, kind, preparation, spec, numbers)


def _folder(name: str, models_dir: Path | None, known: Sequence[str]) -> Path:
    """Return the folder of a model: one of the catalogue, or any other in the folder of models."""
    is_name = name not in {"", ".", ".."} and Path(name).name == name  # and not a path to somewhere else
    folder = Path(models_dir) / name if models_dir is not None and is_name else None
    if folder is not None and folder.is_dir():
        return folder
    if name not in known:
        raise UnknownModelError(f"unknown model {name!r}; known models: {', '.join(known)}")
    where = "no folder of models is set" if models_dir is None else f"it is not in {models_dir}"
    raise CheckpointError(f"{name} is not here ({where}); run `ramq models pull {name}`")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing; run `ramq models pull {path.parent.name}`") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); pull {path.parent.name} again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is damaged: it is no object of JSON; pull {path.parent.name} again")
    return content


def _kind(folder: Path, kinds: dict[str, str], role: str) -> str:
    kind = str(_json(folder / "config.json").get("model_type"))
    if kind not in kinds:
        raise CheckpointError(f"{folder} has a model of type {kind!r}, not a {role} ({', '.join(kinds)})")
    return kind


def _network(folder: Path, name: str, place: torch.device) -> Any:
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder / WEIGHTS} is missing; run `ramq models pull {folder.name}`")
    try:
        with _quiet():
            network, report = getattr(transformers, name).from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
            )
    except Exception as error:  # transformers raises any error of its readers
        raise CheckpointError(
            f"{folder} cannot be read as {name} ({_line(error)}); pull {folder.name} again"
        ) from error
    if lacking := sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}):
        raise CheckpointError(
            f"{folder / WEIGHTS} lacks {len(lacking)} weights that {name} needs, for example {lacking[0]}; "
            f"pull {folder.name} again"
        )
    return network.eval().requires_grad_(requires_grad=False).to(place)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from listing weights that are not used, and from drawing a progress bar.

    Weights that lack are looked at by the caller.
    """
    level, has_bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if has_bar:
            transformers_logging.enable_progress_bar()


def _tokenizer(folder: Path) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        tokens = tokenizer("a photo of a dog", add_special_tokens=False)["input_ids"]
    except Exception as error:  # likewise
        raise CheckpointError(
            f"{folder} has no readable tokenizer ({_line(error)}); pull {folder.name} again"
        ) from error
    # Without its files, transformers makes one that knows no word, and says nothing.
    if len(set(tokens)) < len("dog"):
        raise CheckpointError(f"{folder} has no tokenizer that knows words; pull {folder.name} again")
    return tokenizer


def _preparation(folder: Path, sides: Sides) -> Preparation:
    """Read how the model's authors prepare pictures; ``sides`` where their file does not say."""
    told = _json(folder / "preprocessor_config.json")
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


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].strip() or type(error).__name__
