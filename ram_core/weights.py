"""Load weights from files, official ``.pth`` and ``.safetensors``, strictly and safely.

No code in a file is ever run. Every key must be known, every shape must fit, and missing keys are named.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ram_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

Weights = dict[str, torch.Tensor]

# Keys in official files that the networks compute themselves: index tables and masks of Swin, position ids of BERT.
_COMPUTED = re.compile(r"(relative_position_index|attn_mask|position_ids)$")
# The output layer of the text decoder is the word embedding. Official files store the same tensor under two names.
_TIED = {
    "text_decoder.cls.predictions.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}
# What the lowest layers of the tag encoder have in common with the tagging head.
_SHARED = re.compile(r"tag_encoder\.(encoder\.layer\.\d+\.(?:crossattention|intermediate|output)\..*)")
_CAPTION = ("tag_encoder.", "text_decoder.")
_SHOWN = 5  # keys named in a message before "and N more"


def read_checkpoint(path: Path | str, *, captions: bool = True) -> Weights:
    """Read the weights that the networks use, under their official names.

    A ``.pth`` is memory-mapped, so its gigabytes of optimizer state are never read.

    Args:
        path: ``.pth`` holding ``{"model": state_dict}`` (or a bare state dict), or ``.safetensors``.
        captions: keep ``tag_encoder.*`` and ``text_decoder.*``; tagging alone does not need them.

    Raises:
        CheckpointError: the file is missing, truncated, would run code, or contains no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; fetch it with `ramq models pull`, or give another path")
    raw = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    weights: Weights = {}
    for original, tensor in raw.items():
        key = re.sub(r"^vision_multi\.", "tagging_head.", original)  # the name in older files
        if _COMPUTED.search(key) or (not captions and key.startswith(_CAPTION)):
            continue
        if (twin := _TIED.get(key)) and twin in raw:
            if not torch.equal(tensor, raw[twin]):
                raise CheckpointError(f"{path}: {key} and {twin} must be equal, but differ; fetch the file again")
            continue
        weights[key] = tensor
    return weights


def _read_safetensors(path: Path) -> Weights:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or not a safetensors file ({error}); fetch it again") from error


def _read_pickle(path: Path) -> Weights:
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path} is truncated or not a PyTorch checkpoint; fetch it again (`ramq models verify` checks its hash)"
        )
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} contains more than weights and would run code, so it was not read; use an official file or "
            "convert it where you trust it"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({_first_line(error)}); fetch it again") from error
    state = loaded.get("model", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(each, torch.Tensor) for each in state.values()):
        raise CheckpointError(f'{path} contains no weights; expected {{"model": state_dict}}')
    return state


def load_into(network: nn.Module, weights: Mapping[str, torch.Tensor], path: Path | str, model: str) -> None:
    """Load weights into a network built on the ``meta`` device: every one of its tensors and no other.

    Args:
        network: network to fill.
        weights: official names to tensors, as ``read_checkpoint`` returns them.
        path: named in errors.
        model: named in errors.

    Raises:
        CheckpointError: a key is missing, unexpected or of another shape; the message names keys and the likely fix.
    """
    wanted = {key: tensor.shape for key, tensor in network.state_dict().items()}
    if missing := wanted.keys() - weights.keys():
        raise CheckpointError(f"{path} lacks {_some(missing)}, which {model} needs{_likely(missing)}")
    if unexpected := weights.keys() - wanted.keys():
        raise CheckpointError(f"{path} has {_some(unexpected)}, which {model} does not know{_likely(unexpected)}")
    misshapen = {
        f"{key} {tuple(weights[key].shape)} (expected {tuple(shape)})"
        for key, shape in wanted.items()
        if weights[key].shape != shape
    }
    if misshapen:
        raise CheckpointError(f"{path} has {_some(misshapen)}; it belongs to a model with other sizes than {model}")
    network.load_state_dict({key: weights[key].float() for key in wanted}, strict=True, assign=True)


def weights_sha256(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the hash (hex) of the used tensors. A ``.pth`` and the file that ``convert`` makes of it have the same."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        tensor = weights[key].contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def convert(checkpoint: Path | str, out: Path | str, *, captions: bool | None = None) -> int:
    """Write a ``.safetensors`` with only the tensors that are used.

    Args:
        checkpoint: official ``.pth``, or a ``.safetensors``.
        out: file to write; it appears complete or not at all.
        captions: keep the caption branch; default: for Tag2Text, whose purpose it is, and not for RAM.

    Returns:
        Size of ``out`` in bytes.

    Raises:
        CheckpointError: the checkpoint cannot be read, or ``out`` does not end in ``.safetensors``.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out} must end in .safetensors")
    weights = read_checkpoint(checkpoint, captions=True)
    if captions is None:
        captions = "fc.W" in weights
    kept = {key: each.contiguous().clone() for key, each in weights.items() if captions or not key.startswith(_CAPTION)}
    partial = out.with_name(out.name + ".part")
    save_file(kept, partial)
    partial.replace(out)
    return out.stat().st_size


def twin_in_tagging_head(key: str) -> str | None:
    """Return the tagging head's weight that is the same as this one of the tag encoder; None if there is none."""
    match = _SHARED.fullmatch(key)
    return f"tagging_head.{match[1]}" if match else None


def _likely(keys: Iterable[str]) -> str:
    """Return what missing or unexpected keys usually mean."""
    keys = set(keys)
    if "reweight_scale" in keys:
        return "; RAM++ has it, RAM does not: load the file as the other of `ram` and `ram_plus`"
    if keys & {"fc.W", "fc.b", "label_embed.weight"}:
        return "; only Tag2Text has it: load the file as `tag2text`, or fetch one of the model you want"
    if any(key.startswith(_CAPTION) for key in keys):
        return "; that is the caption branch, which RAM++ never has"
    return "; the file is incomplete or of another model: fetch it again"


def _some(keys: Iterable[str]) -> str:
    ordered = sorted(keys)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].strip() or type(error).__name__


def model_of(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the model that weights belong to, ``ram``, ``ram_plus`` or ``tag2text``.

    Raises:
        CheckpointError: they belong to none of them.
    """
    if "fc.W" in weights:
        return "tag2text"
    if "label_embed" in weights:
        return "ram_plus" if "reweight_scale" in weights else "ram"
    raise CheckpointError("these are not weights of RAM, RAM++ or Tag2Text: label_embed and fc.W are missing")
