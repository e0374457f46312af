"""Which cosine tells copies of a picture from other pictures? On photographs, and copies made from them.

    python -m benchmarks.bench_near_copies

Photographs are those of ``tests.photographs``. Of each, copies are made as people make them. For ``lite``, the vector
of recognition is compared with the means over the picture that it keeps (``pooled``), each part of unit length.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks.labelled import opened
from benchmarks.report import begin, options, write
from ram_core import load_model
from ram_core.features import unpack_pooled
from ram_core.lite.network import SIZES
from ram_core.transforms import to_rgb
from tests.photographs import photographs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_BATCH = 32
THRESHOLDS = (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)


def recompressed(image: Image.Image) -> Image.Image:
    """A JPEG of low quality."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def cropped(image: Image.Image) -> Image.Image:
    """Without 4 % at each side."""
    dx, dy = round(image.width * 0.04), round(image.height * 0.04)
    return image.crop((dx, dy, image.width - dx, image.height - dy))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": recompressed,
    "half the size": lambda image: image.resize((max(32, image.width // 2), max(32, image.height // 2))),
    "cropped": cropped,
    "brighter": lambda image: image.point(lambda value: min(255, int(value * 1.2))),
    "mirrored": ImageOps.mirror,
}


def main() -> None:
    """Measure."""
    parser = options(__doc__)
    parser.add_argument("--every", type=int, default=1, help="take one of so many photographs")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    report = begin()
    model: Any = load_model("lite", device="cpu")
    paths = photographs()[:: chosen.every]
    images = [opened(path, lambda image: to_rgb(image).copy()) for path in paths]
    vectors = {name: _vectors(model, [make(image) for image in images]) for name, make in COPIES.items()}
    plain = _vectors(model, images)
    report["photographs"] = len(images)
    for kind in ("recognition", "pooled"):
        ours = plain[kind]
        others = ours @ ours.T
        np.fill_diagonal(others, -1)
        nearest = others.max(axis=1)
        found = {name: (ours * of[kind]).sum(axis=1) for name, of in vectors.items()}
        report[kind] = {
            "nearest_other": _quantiles(nearest),
            "copies": {name: _quantiles(each) for name, each in found.items()},
            "by_threshold": {
                str(each): {
                    "photographs_with_another_one": round(float((nearest >= each).mean()), 4),
                    **{name: round(float((of >= each).mean()), 4) for name, of in found.items()},
                }
                for each in THRESHOLDS
            },
            "nearest_pairs": _pairs(others, [path.name for path in paths]),
        }
    write(chosen, "near-copies", report)


def _vectors(model: Any, images: list[Image.Image]) -> dict[str, NDArray[np.float32]]:
    kept: dict[str, list[NDArray[np.float32]]] = {"recognition": [], "pooled": []}
    for start in range(0, len(images), _BATCH):
        pixels = np.stack([model.preprocessing(image) for image in images[start : start + _BATCH]])
        found = model.predict(pixels, features="pooled")
        kept["recognition"].append(np.stack([each.vector for each in found]))
        parts = unpack_pooled(np.stack([each.features for each in found]), SIZES)
        parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
        joined = np.concatenate(parts, axis=1)
        kept["pooled"].append(joined / np.linalg.norm(joined, axis=1, keepdims=True))
    return {name: np.concatenate(each) for name, each in kept.items()}


def _quantiles(values: NDArray[np.float32]) -> dict[str, float]:
    return {
        str(share): round(float(np.quantile(values, share)), 4) for share in (0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99)
    }


def _pairs(others: NDArray[np.float32], names: list[str], count: int = 25) -> list[list[Any]]:
    rows, columns = np.triu_indices(len(names), 1)
    best = np.argsort(-others[rows, columns])[:count]
    return [[names[rows[n]], names[columns[n]], round(float(others[rows[n], columns[n]]), 4)] for n in best]


if __name__ == "__main__":
    main()
