"""Which vector finds pictures by text better: the projected global token, or the mean of the assigned tags' labels?

Both live in the space of CLIP ViT-B/16's text encoder. Whether the first, trained only to resemble CLIP's image vector,
is good enough for search is an open question that needs real weights and captioned pictures to answer:

    python -m benchmarks.bench_vectors --model ram_plus --models-dir MODELS --captions captions.jsonl --images FOLDER

``captions.jsonl`` has a line ``{"image": "path in the folder", "texts": ["a sentence", …]}`` for each picture.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ram_core import load_model, load_text_encoder

RANKS = (1, 5, 10)


def recall(images: np.ndarray, texts: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """Say how often a text finds its picture among the best.

    Args:
        images: (N, D) unit vectors of pictures.
        texts: (M, D) unit vectors of texts.
        owner: (M,) which picture each text describes.

    Returns:
        Share of texts whose picture is among the first 1, 5 and 10, and the median rank, counted from 1.
    """
    similar = texts @ images.T  # (M, N)
    own = similar[np.arange(len(texts)), owner]
    rank = 1 + (similar > own[:, None]).sum(axis=1)
    shares = {f"recall_at_{k}": float((rank <= k).mean()) for k in RANKS}
    return {**shares, "median_rank": float(np.median(rank))}


def main() -> None:
    """Embed pictures both ways, and their texts; print a line per kind of vector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("ram", "ram_plus"), default="ram_plus")
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=8)
    chosen = parser.parse_args()
    lines = [json.loads(line) for line in chosen.captions.read_text(encoding="utf-8").splitlines() if line.strip()]
    model: Any = load_model(chosen.model, models_dir=chosen.models_dir, device=chosen.device)
    kinds = {kind: model.with_vector_kind(kind) for kind in ("image", "tags")}
    vectors: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    for start in range(0, len(lines), chosen.batch_size):
        part = lines[start : start + chosen.batch_size]
        pixels = np.stack([_pixels(model, chosen.images / line["image"]) for line in part])
        for kind, recogniser in kinds.items():
            vectors[kind] += [prediction.vector for prediction in recogniser.predict(pixels)]
    texts = [text for line in lines for text in line["texts"]]
    owner = np.repeat(np.arange(len(lines)), [len(line["texts"]) for line in lines])
    encoded = load_text_encoder(chosen.model, models_dir=chosen.models_dir, device=chosen.device).encode(texts)
    for kind, found in vectors.items():
        print(
            json.dumps(
                {"vector": kind, "pictures": len(lines), "texts": len(texts), **recall(np.array(found), encoded, owner)}
            )
        )


def _pixels(model: Any, path: Path) -> np.ndarray:
    with Image.open(path) as image:
        pixels: np.ndarray = model.preprocessing(image)
        return pixels


if __name__ == "__main__":
    main()
