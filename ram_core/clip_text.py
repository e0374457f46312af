"""The text encoder for RAM's vectors: the text tower of OpenAI's CLIP ViT-B/16 (arXiv:2103.00020), by transformers.

RAM and RAM++ were trained with label embeddings of this encoder, and their projected image token was trained towards
CLIP's image tower. Therefore it can embed the labels of new tags, and queries that find images.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional
from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from ram_core.errors import CheckpointError
from ram_core.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DIRECTORY = "clip-vit-base-patch16"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # either; the published revision has the second
CONTEXT = 77  # tokens that CLIP reads; text beyond is cut off (arXiv:2103.00020, section 2.4)
TEXTS_AT_ONCE = 64


class ClipTextEncoder:
    """Encodes text to vectors in the space of RAM's and RAM++'s image vectors.

    Args:
        directory: local copy of ``openai/clip-vit-base-patch16`` (``config.json``, weights, tokenizer).
        device: where to run.
        dtype: number format.

    Raises:
        CheckpointError: a file is missing or damaged.
    """

    def __init__(
        self, directory: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        directory = Path(directory)
        self._device = torch.device(device)
        model = read_clip(directory, CLIPTextModelWithProjection)
        self._model = model.eval().requires_grad_(requires_grad=False).to(self._device, dtype)
        self._tokenizer = read_clip(directory, CLIPTokenizer)
        with _weights(directory).open("rb") as stream:
            self._sha256 = hashlib.file_digest(stream, "sha256").hexdigest()

    @property
    def vector_size(self) -> int:
        """D, 512 for ViT-B/16."""
        return int(self._model.config.projection_dim)

    @property
    def sha256(self) -> str:
        """Hash (hex) of the weights."""
        return self._sha256

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts), D) float32, each row of unit length. Text after 77 tokens is ignored.

        The encoder is causal and read at the end token, so padding and other texts in the batch have no effect.
        """
        vectors = np.empty((len(texts), self.vector_size), dtype=np.float32)
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            part = list(texts[start : start + TEXTS_AT_ONCE])
            vectors[start : start + len(part)] = self.embed(part).cpu().numpy()
        return vectors

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Return what ``encode`` does, of few texts at once, on the device."""
        limit = min(CONTEXT, self._model.config.max_position_embeddings)
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        embedded = self._model(**tokens.to(self._device)).text_embeds
        return functional.normalize(embedded.float(), dim=1)


def read_clip(directory: Path, part: Any) -> Any:
    """Read a part of CLIP, a class of transformers, from a folder of ``ramq models pull``.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    if not (directory / "config.json").is_file():
        raise CheckpointError(f"{directory / 'config.json'} is missing; run `ramq models pull {DIRECTORY}`")
    _weights(directory)
    try:
        with quiet():  # the other tower's weights are omitted on purpose
            return part.from_pretrained(str(directory), local_files_only=True)
    except Exception as error:  # transformers raises any error of its readers
        raise CheckpointError(f"{directory} cannot be read as CLIP ({error}); pull {DIRECTORY} again") from error


def _weights(directory: Path) -> Path:
    for name in WEIGHTS:
        if (directory / name).is_file():
            return directory / name
    raise CheckpointError(f"{directory} has no weights ({' or '.join(WEIGHTS)}); run `ramq models pull {DIRECTORY}`")


def load_clip_text(*, models_dir: Path | str | None, device: torch.device | str = "cpu") -> ClipTextEncoder:
    """Load the encoder that ``ramq models pull clip-vit-base-patch16`` fetched.

    Raises:
        CheckpointError: it is not in ``models_dir``.
    """
    if models_dir is None:
        raise CheckpointError("the CLIP text encoder needs a folder; pass `models_dir=`")
    return ClipTextEncoder(Path(models_dir) / DIRECTORY, device)
