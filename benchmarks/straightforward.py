"""RAM, RAM++ and Tag2Text's tagging as their papers' equations say, one after the other, nothing fused or kept.

What `bench_models.py` measures against, and what the tests compare with. It computes as the official code does: timm's
Swin with attention that writes its scores to memory, queries repeated for every image, a loop over the images for the
re-weighting. Weights are those of an official checkpoint, by name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn
from torch.nn import functional

from ram_core.modeling.architecture import TAGGING_HEADS, swin_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping


class Straightforward:
    """One of the three networks.

    Args:
        weights: official names to tensors.
        descriptions: per tag; 1 for RAM and Tag2Text.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor], descriptions: int = 1) -> None:
        self.weights = weights
        self.descriptions = descriptions
        sizes = swin_sizes(weights)
        with torch.device("meta"):
            self.swin = SwinTransformer(
                img_size=sizes.image_size,
                window_size=sizes.window,
                embed_dim=sizes.width,
                depths=sizes.depths,
                num_heads=sizes.heads,
                num_classes=0,
                global_pool="",
            )
        prefix = "visual_encoder."
        own = {key.removeprefix(prefix): each for key, each in weights.items() if key.startswith(prefix)}
        self.swin.load_state_dict(checkpoint_filter_fn(own, self.swin), strict=True, assign=True)
        for module in self.swin.modules():
            if hasattr(module, "init_non_persistent_buffers"):
                for name, buffer in list(module.named_buffers(recurse=False)):
                    setattr(module, name, torch.empty_like(buffer, device="cpu"))
                module.init_non_persistent_buffers()
        self.swin.to(weights["fc.weight" if "fc.weight" in weights else "fc.W"].device).eval().requires_grad_(False)

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, T)."""
        memory = self.memory(self.encode(pixels))
        return self.decode(self.queries(memory), memory)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, 1 + N, C)."""
        tokens = self.swin.forward_features(pixels).flatten(1, 2)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)

    def memory(self, tokens: torch.Tensor) -> torch.Tensor:
        """What the tagging decoder looks at."""
        return self._linear(tokens, "image_proj") if "image_proj.weight" in self.weights else tokens

    def queries(self, memory: torch.Tensor) -> torch.Tensor:
        """(B, T, H)."""
        batch = memory.shape[0]
        if "label_embed.weight" in self.weights:
            return self.weights["label_embed.weight"][None].repeat(batch, 1, 1)
        labels = self.weights["label_embed"]
        if self.descriptions == 1:
            return torch.relu(self._linear(labels, "wordvec_proj"))[None].repeat(batch, 1, 1)
        return torch.relu(self._linear(self.reweight(memory[:, 0]), "wordvec_proj"))

    def reweight(self, images: torch.Tensor) -> torch.Tensor:
        """(B, E) -> (B, T, E): the mean of each tag's descriptions as each image weighs them."""
        labels = self.weights["label_embed"]
        images = images / images.norm(dim=-1, keepdim=True)
        fit = self.weights["reweight_scale"].exp() * images @ labels.T  # (B, T * D)
        averaged = []
        for row in fit:
            share = functional.softmax(row.view(-1, self.descriptions), dim=1)  # (T, D)
            averaged.append((share[:, :, None] * labels.view(-1, self.descriptions, labels.shape[1])).sum(dim=1))
        return torch.stack(averaged)

    def decode(self, queries: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """(B, T, H) queries and (B, 1 + N, E) memory -> (B, T) logits."""
        layer = 0
        while f"tagging_head.encoder.layer.{layer}.output.dense.weight" in self.weights:
            queries = self._layer(queries, memory, f"tagging_head.encoder.layer.{layer}.")
            layer += 1
        if "fc.W" in self.weights:
            return (self.weights["fc.W"] * queries).sum(-1) + self.weights["fc.b"]
        return self._linear(queries, "fc").squeeze(-1)

    def _layer(self, hidden: torch.Tensor, memory: torch.Tensor, name: str) -> torch.Tensor:
        attention = f"{name}crossattention."
        query = self._heads(self._linear(hidden, f"{attention}self.query"))
        key = self._heads(self._linear(memory, f"{attention}self.key"))
        value = self._heads(self._linear(memory, f"{attention}self.value"))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, heads, T, 1 + N)
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        hidden = self._norm(self._linear(mixed, f"{attention}output.dense") + hidden, f"{attention}output.LayerNorm")
        wide = functional.gelu(self._linear(hidden, f"{name}intermediate.dense"))
        return self._norm(self._linear(wide, f"{name}output.dense") + hidden, f"{name}output.LayerNorm")

    def _heads(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.view(*tokens.shape[:2], TAGGING_HEADS, -1).transpose(1, 2)

    def _linear(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(hidden, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return functional.layer_norm(hidden, weight.shape, weight, bias, eps=1e-12)
