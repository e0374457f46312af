"""Random weights in the layout of the published towers, for tests and trials: small ones, or of full size for speed.

``python -m ram_core.spaces.tiny siglip2-base DIRECTORY`` fills a folder from which ``load_image_encoder("siglip2-base",
models_dir=DIRECTORY)`` works, without a download. What such a tower says is noise.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    SiglipModel,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ram_core.transforms import CENTRED_MEAN, CENTRED_STD, IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 3
SIDE = 64
_LETTERS = [chr(code) for code in range(ord(" "), ord("~") + 1)]
_WORDS = ["<pad>", "<eos>", "<unk>", *_LETTERS]
_SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CONTEXT = 64


def write_tiny_tower(name: str, models_dir: Path | str, *, full: bool = False, seed: int = SEED) -> Path:
    """Write a tower with random weights.

    Args:
        name: one of ``MODELS``.
        models_dir: folder of checkpoints; the tower gets a folder of its own in it.
        full: True: of the published size; False: tiny.
        seed: of the weights.

    Returns:
        The tower's folder.
    """
    folder = Path(models_dir) / name
    folder.mkdir(parents=True, exist_ok=True)
    build, levels = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(full).eval()
    network.save_pretrained(str(folder))
    if hasattr(network, "text_model"):
        _write_tokenizer(folder)
    side = 224 if full else SIDE
    told = {"size": {"height": side, "width": side}, "image_mean": list(levels[0]), "image_std": list(levels[1])}
    (folder / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def _write_tokenizer(folder: Path) -> None:
    """Write a tokenizer whose words are letters, in the form that every class of transformers reads."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(_WORDS)}, unk_token="<unk>"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "<eos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")


def _siglip(full: bool) -> Any:  # noqa: FBT001  (called through a table, like those below)
    size = _BASE if full else _SMALL
    words = {"vocab_size": 256_000 if full else len(_WORDS), "max_position_embeddings": _CONTEXT}
    text = {**size, **words, "projection_size": size["hidden_size"], "pad_token_id": 0, "eos_token_id": 1}
    return SiglipModel(
        SiglipConfig(text_config=text, vision_config={**size, "image_size": 224 if full else SIDE, "patch_size": 16})
    )


def _clip(full: bool) -> Any:  # noqa: FBT001
    size = _BASE if full else _SMALL
    words = {"vocab_size": 49_408 if full else len(_WORDS), "max_position_embeddings": 77 if full else _CONTEXT}
    text = {**size, **words, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    if full:
        text |= {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
    vision = {**size, "image_size": 224 if full else SIDE, "patch_size": 32}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=512 if full else 24))


def _dinov2(full: bool) -> Any:  # noqa: FBT001
    size = {key: value for key, value in (_BASE if full else _SMALL).items() if key != "intermediate_size"}
    return Dinov2Model(Dinov2Config(**size, image_size=518 if full else SIDE, patch_size=14))


def _dinov3(full: bool) -> Any:  # noqa: FBT001
    return DINOv3ViTModel(DINOv3ViTConfig(**(_BASE if full else _SMALL), image_size=224 if full else SIDE))


_CLIP_LEVELS = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)

# name -> network, channel means and deviations
MODELS: dict[str, tuple[Callable[[bool], Any], tuple[Any, Any]]] = {
    "siglip2-base": (_siglip, (CENTRED_MEAN, CENTRED_STD)),
    "clip-vit-base-patch32-laion2b": (_clip, _CLIP_LEVELS),
    "dinov2-base": (_dinov2, (IMAGENET_MEAN, IMAGENET_STD)),
    "dinov3-base": (_dinov3, (IMAGENET_MEAN, IMAGENET_STD)),
}


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--full", action="store_true", help="of the published size")
    chosen = parser.parse_args()
    folder = write_tiny_tower(chosen.model, chosen.directory, full=chosen.full)
    sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    _main()
