"""A CLIP of random weights with the files that the real one has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from transformers.models.clip.configuration_clip import CLIPConfig
from transformers.models.clip.modeling_clip import CLIPModel

if TYPE_CHECKING:
    from pathlib import Path


def write_tiny_clip(clip: Path, image_size: int = 32) -> None:
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    config = CLIPConfig(
        text_config={**text, **ends, "vocab_size": len(words)},
        vision_config={**text, "image_size": image_size, "patch_size": 16},
        projection_dim=512,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(clip)
    (clip / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (clip / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (clip / "tokenizer_config.json").write_text(
        json.dumps({**special, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer"})
    )
