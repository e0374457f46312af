"""Random weights in the official layout: small ones for tests and trials, full-size ones to measure speed.

``python -m ram_core.modeling.tiny ram_plus DIRECTORY`` fills a folder from which ``load_model("ram_plus",
models_dir=DIRECTORY)`` works, without a download. The output of such a model is noise.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ram_core.modeling.architecture import BertSizes, SwinSizes
from ram_core.modeling.published import CHECKPOINTS, DESCRIPTIONS
from ram_core.modeling.ram import RAM
from ram_core.modeling.ram_plus import RAMPlus
from ram_core.modeling.tag2text import Tag2Text
from ram_core.weights import twin_in_tagging_head

if TYPE_CHECKING:
    from ram_core.modeling.ram import Tagger

CLIP_WIDTH = 512
BERT_WORDS = 30524  # bert-base-uncased and two added tokens
TAG2TEXT_TAGS = 3429
TINY_TAGS = 64
SEED = 2  # with this seed some tags are assigned and others not

TINY_SWIN = SwinSizes(width=16, depths=(2, 2, 4, 2), heads=(1, 2, 4, 8), window=12)
SWIN_B = SwinSizes(width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), window=12)  # arXiv:2103.14030, section 3.3
SWIN_L = SwinSizes(width=192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48), window=12)


def build(model: str, *, tags: int, full: bool = False, captions: bool = False) -> Tagger:
    """Return a network without weights, on the ``meta`` device.

    Args:
        model: ``ram``, ``ram_plus`` or ``tag2text``.
        tags: number of tags.
        full: True: of the released size; False: tiny.
        captions: RAM only: with the caption branch, as released.
    """
    swin = TINY_SWIN if not full else SWIN_B if model == "tag2text" else SWIN_L
    memory = swin.output_width if model == "tag2text" else CLIP_WIDTH
    hidden, wide = (768, 3072) if full else (48, 96)
    head = BertSizes(layers=2, hidden=hidden, heads=4, intermediate=wide, memory=memory)
    with torch.device("meta"):
        if model == "ram_plus":
            return RAMPlus(swin, head, (tags * DESCRIPTIONS, CLIP_WIDTH), DESCRIPTIONS)
        layers, heads, positions = (12, 12, 512) if full else (3, 6, 64)
        encoder = BertSizes(layers, hidden, heads, wide, memory, BERT_WORDS, positions)
        decoder = BertSizes(layers, hidden, heads, wide, hidden, BERT_WORDS, positions)
        if model == "ram":
            return RAM(swin, head, (tags, CLIP_WIDTH), (encoder, decoder) if captions else None)
        return Tag2Text(swin, head, tags, encoder, decoder)


def made_up_weights(network: Tagger, seed: int = SEED) -> dict[str, torch.Tensor]:
    """Draw weights under official names. Activations, attention and scores have the magnitude of real ones."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, empty in network.state_dict().items():
        drawn = torch.randn(empty.shape, generator=generator)
        if key == "label_embed" and isinstance(network, RAMPlus):  # descriptions of a tag are similar
            drawn = 0.8 * drawn + drawn[:: network.descriptions].repeat_interleave(network.descriptions, dim=0)
        weights[key] = _scaled(key, drawn)
    for key in weights:
        if (twin := twin_in_tagging_head(key)) in weights:
            weights[key] = weights[twin]
    return weights


def _scaled(  # noqa: PLR0911  (one line per kind of weight)
    key: str, drawn: torch.Tensor
) -> torch.Tensor:
    if key == "reweight_scale":
        return torch.tensor(math.log(1 / 0.07))  # its value at the start of training (arXiv:2103.00020, section 2.5)
    if key == "label_embed":
        return torch.nn.functional.normalize(drawn, dim=1)
    if "norm" in key.lower():
        return 1 + 0.1 * drawn if key.endswith("weight") else 0.1 * drawn
    if key == "text_decoder.cls.predictions.bias":
        drawn = 0.1 * drawn
        drawn[:999] = -12.0  # padding, unused and special words, except the end token
        drawn[102] = 9.0
        drawn[-2:] = -12.0
        return drawn
    if "embeddings" in key or "label_embed" in key or "bias_table" in key:
        return 0.5 * drawn
    if key == "fc.b":
        return 0.3 * drawn - 4.5
    if key.endswith("bias"):
        return 0.1 * drawn - (1.0 if key.startswith("fc.") else 0.0)
    if key == "wordvec_proj.weight":
        return drawn  # labels have unit length, so their numbers are small already
    gain = 6.0 if key.startswith("fc.") else 1.0  # makes scores differ between tags
    return gain * drawn / math.sqrt(drawn.shape[-1] if key == "fc.W" else math.prod(drawn.shape[1:]))


def write_tiny_checkpoint(
    model: str,
    path: Path | str,
    *,
    tags: int | None = None,
    seed: int = SEED,
    captions: bool = False,
    full: bool = False,
) -> None:
    """Write a small official-layout ``.pth``.

    Args:
        model: ``ram``, ``ram_plus`` or ``tag2text``.
        path: file to write.
        tags: number of tags; default: 64, or Tag2Text's 3,429.
        seed: seed of the weights.
        captions: RAM only: with the caption branch, from which it learns.
        full: of the released size instead.
    """
    network = build(model, tags=tags or _default_tags(model), captions=captions, full=full)
    torch.save({"model": made_up_weights(network, seed)}, path)


def write_tiny_models(
    model: str, directory: Path | str, *, tags: int | None = None, seed: int = SEED, full: bool = False
) -> Path:
    """Fill ``directory/model`` with a small checkpoint and its lists, under the official file names.

    ``full`` makes it of the released size.

    Returns:
        The checkpoint's path.
    """
    folder = Path(directory) / model
    folder.mkdir(parents=True, exist_ok=True)
    count = tags or _default_tags(model)
    names = "\n".join(f"tag {i}" for i in range(count))
    if model == "tag2text":
        (folder / "tag2text_ori_tag_list.txt").write_text(names, encoding="utf-8")
    else:
        (folder / "ram_tag_list.txt").write_text(names, encoding="utf-8")
        (folder / "ram_tag_list_chinese.txt").write_text("\n".join(f"标签 {i}" for i in range(count)), encoding="utf-8")
        (folder / "ram_tag_list_threshold.txt").write_text("\n".join(["0.65"] * count), encoding="utf-8")
    path = folder / f"{CHECKPOINTS[model]}.pth"
    write_tiny_checkpoint(model, path, tags=count, seed=seed, full=full)
    return path


def _default_tags(model: str) -> int:
    return TAG2TEXT_TAGS if model == "tag2text" else TINY_TAGS


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=CHECKPOINTS)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tags", type=int)
    parser.add_argument("--seed", type=int, default=SEED)
    chosen = parser.parse_args()
    path = write_tiny_models(chosen.model, chosen.directory, tags=chosen.tags, seed=chosen.seed)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    _main()
