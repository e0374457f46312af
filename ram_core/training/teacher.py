"""CLIP ViT-B/16 (arXiv:2103.00020) as the teacher: the vectors of images and captions that RAM and RAM++ learn from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

from ram_core.clip_text import DIRECTORY, ClipTextEncoder, read_clip
from ram_core.errors import CheckpointError, TrainingError
from ram_core.training.recipes import CLIP_MEAN, CLIP_STD
from ram_core.transforms import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence


class ClipTeacher:
    """Both towers of CLIP. They never learn.

    Args:
        directory: local copy of ``openai/clip-vit-base-patch16``.
        device: where to run.
        dtype: number format; default: float16 on a GPU, as officially, and float32 elsewhere.

    Raises:
        CheckpointError: a file is missing or damaged.
    """

    def __init__(
        self, directory: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype or (torch.float16 if self.device.type == "cuda" else torch.float32)
        self._texts = ClipTextEncoder(directory, self.device, self.dtype)
        images = read_clip(Path(directory), CLIPVisionModelWithProjection)
        self._images = images.eval().requires_grad_(requires_grad=False).to(self.device, self.dtype)

    @property
    def image_size(self) -> int:
        """Side of the images, in pixels: 224."""
        return int(self._images.config.image_size)

    @torch.no_grad()
    def image_vectors(self, views: torch.Tensor) -> torch.Tensor:
        """Return (B, E) float32 vectors of images, not normalised.

        Args:
            views: (B, 224, 224, 3) uint8.

        Raises:
            TrainingError: the views have another size.
        """
        size = self.image_size
        if views.shape[1:] != (size, size, 3):
            raise TrainingError(f"views are {tuple(views.shape)}; CLIP takes (B, {size}, {size}, 3)")
        pixels = normalise(views.to(self.device, non_blocking=True), CLIP_MEAN, CLIP_STD)
        vectors: torch.Tensor = self._images(pixel_values=pixels.to(self.dtype)).image_embeds
        return vectors.float()

    def text_vectors(self, captions: Sequence[str]) -> torch.Tensor:
        """Return (B, E) float32 vectors of captions, of unit length. What follows 77 tokens is ignored."""
        return self._texts.embed(captions)


def load_teacher(
    *, models_dir: Path | str | None, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> ClipTeacher:
    """Load the teacher that ``ramq models pull clip-vit-base-patch16`` fetched.

    Raises:
        CheckpointError: it is not in ``models_dir``.
    """
    if models_dir is None:
        raise CheckpointError("the teacher needs a folder; pass `models_dir=`")
    return ClipTeacher(Path(models_dir) / DIRECTORY, device, dtype)
