"""What one step of training learns from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from ram_core.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """B images with what is known of them.

    Attributes:
        pixels: (B, 3, S, S) float32, normalised; S is a multiple of 32.
        captions: B captions, as ``clean_caption`` returns them. An empty one teaches nothing.
        tags: (B, T) 1 for the tags that the image has, from all its captions; 0 for others.
        parse_tags: (B, T) likewise, for the tags that this caption names.
        clip_image: (B, E) CLIP's vectors of the images, not normalised; RAM and RAM++ need them.
        caption_text: (B, E) CLIP's vectors of the captions, of unit length; RAM++ needs them.

    Raises:
        TrainingError: the shapes do not fit each other.
    """

    pixels: torch.Tensor
    captions: list[str]
    tags: torch.Tensor
    parse_tags: torch.Tensor
    clip_image: torch.Tensor | None = None
    caption_text: torch.Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.pixels.shape)
        if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not shape[0]:
            raise TrainingError(f"pixels are {shape}; give (B, 3, S, S) of at least one image")
        if not self.pixels.is_floating_point():
            raise TrainingError(f"pixels are {self.pixels.dtype}; give normalised float32")
        if len(self.captions) != shape[0]:
            raise TrainingError(f"{shape[0]} images have {len(self.captions)} captions; give one for each, '' for none")
        for name in ("tags", "parse_tags", "clip_image", "caption_text"):
            tensor = getattr(self, name)
            if tensor is not None and (tensor.ndim != 2 or len(tensor) != shape[0]):
                raise TrainingError(f"{name} is {tuple(tensor.shape)} for {shape[0]} images; give one row for each")
        if self.tags.shape != self.parse_tags.shape:
            raise TrainingError(
                f"tags are {tuple(self.tags.shape)} and parse_tags {tuple(self.parse_tags.shape)}; give both a column "
                "for each tag of the vocabulary"
            )

    def __len__(self) -> int:
        return len(self.captions)

    def to(self, device: torch.device | str) -> TrainingBatch:
        """Return the batch on a device."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in values.items()
        }
        return TrainingBatch(**moved)


def multi_hot(ids: Sequence[Sequence[int]], tags: int) -> torch.Tensor:
    """Return (rows, tags) uint8 with 1 at the tag ids of each row.

    Raises:
        TrainingError: an id is none of the vocabulary's.
    """
    rows = torch.zeros(len(ids), tags, dtype=torch.uint8)
    for row, own in zip(rows, ids, strict=True):
        if wrong := [each for each in own if not 0 <= each < tags]:
            raise TrainingError(f"tag id {wrong[0]} is unknown: the vocabulary has {tags} tags, 0 to {tags - 1}")
        row[list(own)] = 1
    return rows
