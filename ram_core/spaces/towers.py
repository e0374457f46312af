"""Towers of others, by transformers.

SigLIP and SigLIP 2 (arXiv:2303.15343, 2502.14786), CLIP and OpenCLIP (2103.00020, 2212.07143), DINOv2 and DINOv3
(2304.07193, 2508.10104).

A picture's vector is what the authors compare: the projected or pooled output, for DINO the class token after the last
normalisation. Pictures are squashed into the square that the network takes. The authors of CLIP and DINO cut the middle
out instead; here people also search for things at the edge of a picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from ram_core.checkpoints.folders import (
    WEIGHTS,
    digest_of,
    folder_of,
    kind_of,
    load_network,
    load_tokenizer,
    read_json,
)
from ram_core.errors import CheckpointError, UnknownModelError
from ram_core.spaces.encoder import EncoderSpec, unit_rows
from ram_core.transforms import SquashTransform, normalise, require_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ram_core.precision import Precision

# model_type of config.json -> class of transformers
_WITH_TEXTS = {"siglip": "SiglipModel", "clip": "CLIPModel"}
_PICTURES = {**_WITH_TEXTS, "dinov2": "Dinov2Model", "dinov3_vit": "DINOv3ViTModel"}

METHODS = {"siglip": "pooled", "clip": "projected", "dinov2": "class-token", "dinov3_vit": "class-token"}

TEXTS_AT_ONCE = 64


class Tower:
    """An encoder of pictures.

    Args:
        name: its name.
        network: of transformers, in float32, on its device. Its large products are converted to the number format.
        kind: its ``model_type``.
        weights_sha256: hash of the weights.
        preprocessing: from a decoded image to pixels.
        numbers: number format to compute in.
    """

    def __init__(
        self,
        name: str,
        network: Any,
        kind: str,
        weights_sha256: str,
        preprocessing: SquashTransform,
        numbers: Precision,
    ) -> None:
        self._network = network
        self._numbers = numbers
        numbers.reduce(network)
        self._has_texts = kind in _WITH_TEXTS
        self._preprocessing = preprocessing
        config = network.config
        size = config.hidden_size if not self._has_texts else _text_width(config, kind)
        self._spec = EncoderSpec(name, weights_sha256, preprocessing.name, METHODS[kind] + numbers.suffix, int(size))

    @property
    def spec(self) -> EncoderSpec:
        """What makes its vectors."""
        return self._spec

    @property
    def preprocessing(self) -> SquashTransform:
        """The transform from a decoded image to pixels."""
        return self._preprocessing

    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, D) float32 of unit length for (B, S, S, 3) uint8 pixels. See ``ImageEncoder``."""
        require_pixels(pixels, self._preprocessing.size)
        if not len(pixels):
            return np.empty((0, self._spec.vector_size), dtype=np.float32)
        device = self._numbers.device
        images = normalise(torch.tensor(pixels).to(device), self._preprocessing.mean, self._preprocessing.std)
        with self._numbers.products():
            if self._has_texts:
                found = _pooled(self._network.get_image_features(pixel_values=images))
            else:
                found = self._network(pixel_values=images).last_hidden_state[:, 0]
        return unit_rows(found, self._numbers)


class TowerTexts:
    """The text encoder of a tower. Implements ``ram_core.recognition.TextEncoder``.

    Args:
        network: of transformers, in float32.
        kind: its ``model_type``.
        tokenizer: of transformers.
        weights_sha256: hash of the weights.
    """

    def __init__(self, network: Any, kind: str, tokenizer: Any, weights_sha256: str) -> None:
        self._network, self._tokenizer, self.sha256 = network, tokenizer, weights_sha256
        self._context = int(network.config.text_config.max_position_embeddings)
        # SigLIP was trained on texts in lower case that are filled up to the full length, and reads the last place.
        self._filled_up = kind == "siglip"
        self.vector_size = int(_text_width(network.config, kind))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts), D) float32, each row of unit length. Text that is too long for the tower is cut off."""
        vectors = np.empty((len(texts), self.vector_size), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            part = [text.lower() if self._filled_up else text for text in texts[start : start + TEXTS_AT_ONCE]]
            tokens = self._tokenizer(
                part,
                padding="max_length" if self._filled_up else True,
                truncation=True,
                max_length=self._context,
                return_tensors="pt",
                return_attention_mask=not self._filled_up,
            )
            wanted = {key: value.to(self._network.device) for key, value in tokens.items() if key != "token_type_ids"}
            found = _pooled(self._network.get_text_features(**wanted))
            vectors[start : start + len(part)] = functional.normalize(found.float(), dim=1).cpu().numpy()
        return vectors


def load(
    name: str,
    *,
    numbers: Precision,
    models_dir: Path | str | None,
    types: Sequence[str] = tuple(_PICTURES),
) -> Tower:
    """Load the encoder of pictures; see ``load_image_encoder``."""
    folder, kind = _folder(name, models_dir, {each: _PICTURES[each] for each in types})
    network = load_network(folder, _PICTURES[kind], numbers.device)
    if kind in _WITH_TEXTS:
        network.text_model = None  # it is loaded by itself where texts are encoded
    preprocessing = _preprocessing(folder, network, kind)
    return Tower(name, network, kind, digest_of(folder / WEIGHTS), preprocessing, numbers)


def load_texts(name: str, *, device: torch.device, models_dir: Path | str | None) -> TowerTexts:
    """Load the text encoder; see ``load_text_tower``."""
    folder, kind = _folder(name, models_dir, _WITH_TEXTS)
    network = load_network(folder, _WITH_TEXTS[kind], device)
    network.vision_model = None
    return TowerTexts(network, kind, load_tokenizer(folder), digest_of(folder / WEIGHTS))


def _folder(name: str, models_dir: Path | str | None, kinds: dict[str, str]) -> tuple[Path, str]:
    from ram_core.spaces import ENCODERS, TOWERS  # noqa: PLC0415  (this module is imported from there)

    try:
        folder = folder_of(name, None if models_dir is None else Path(models_dir), TOWERS)
    except UnknownModelError as error:
        raise UnknownModelError(f"unknown model {name!r}; known models: {', '.join(ENCODERS)}") from error
    return folder, kind_of(folder, kinds, "tower")


def _preprocessing(folder: Path, network: Any, kind: str) -> SquashTransform:
    path = folder / "preprocessor_config.json"
    told = read_json(path)
    config = network.config.vision_config if kind in _WITH_TEXTS else network.config
    size = int(config.image_size)
    if kind in {"dinov2", "dinov3_vit"}:  # trained for any size; the authors take this one
        size = _side(told.get("crop_size") or told.get("size"), size)
        size -= size % int(config.patch_size)
    try:
        mean, std = (tuple(float(value) for value in told[key]) for key in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} lacks means and deviations ({error})") from error
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or size < 1:
        raise CheckpointError(f"{path} has sizes or levels that cannot be")
    return SquashTransform(size, (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def _side(told: Any, default: int) -> int:
    if isinstance(told, dict):
        told = told.get("height") or told.get("shortest_edge")
    return int(told) if isinstance(told, int) else default


def _text_width(config: Any, kind: str) -> int:
    """Return D: the length that pictures and texts share."""
    return int(config.projection_dim if kind == "clip" else config.text_config.projection_size)


def _pooled(found: Any) -> torch.Tensor:
    """Return the tensor of features. Newer transformers wrap it."""
    tensor: torch.Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
    return tensor
