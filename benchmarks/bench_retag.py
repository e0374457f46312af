"""Tags from kept image tokens, beside recognising the picture again; and what keeping them in int8 changes.

Weights are made up, so that the sizes are real and the pictures noise: what is measured is time, and how far a logit
moves by rounding. With trained weights the share of tag sets that change will differ.

    python -m benchmarks.bench_retag --full
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from benchmarks.report import begin, options, write
from ram_core import load_model
from ram_core.features import pack, unpack_tokens
from ram_core.modeling.tiny import build, made_up_weights, write_tiny_models

if TYPE_CHECKING:
    from ram_core.recognizer import RamRecognizer

FULL_TAGS = 4585


def load(folder: Path, *, full: bool) -> RamRecognizer:
    """RAM++ with made-up weights, of the released size or a small one."""
    write_tiny_models("ram_plus", folder, tags=FULL_TAGS if full else None)
    if full:
        network = build("ram_plus", tags=FULL_TAGS, full=True)
        torch.save({"model": made_up_weights(network)}, folder / "ram_plus" / "ram_plus_swin_large_14m.pth")
        del network
    return cast("RamRecognizer", load_model("ram_plus", models_dir=folder, cache_dir=folder))


def seconds(job: Any, rounds: int) -> float:
    """Median wall seconds of a call."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        job()
        taken.append(time.perf_counter() - began)
    return median(taken)


@torch.inference_mode()
def measure(model: RamRecognizer, images: int, rounds: int) -> dict[str, Any]:
    """Both ways on the same pictures, and the difference of their logits."""
    size = model.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), dtype=np.uint8)
    recognised = model.predict(pixels, features="tokens")
    kept = np.stack([each.features for each in recognised if each.features is not None])
    tagged = model.runner(model._normalised(pixels))  # noqa: SLF001  (the same pictures, before the sigmoid)
    exact = tagged.logits.cpu()
    rounded = model.runner.decode(unpack_tokens(kept, model.vector_size)).logits.cpu()
    moved = (exact - rounded).abs()
    thresholds = torch.tensor(model.vocabulary.thresholds)
    differs = (exact.sigmoid() > thresholds) != (rounded.sigmoid() > thresholds)
    return {
        "images": images,
        "tags": len(model.vocabulary),
        "bytes_per_image": kept.shape[1],
        "recognise_seconds_per_image": seconds(lambda: model.predict(pixels), rounds) / images,
        "retag_seconds_per_image": seconds(lambda: model.retag(kept), rounds) / images,
        "pack_seconds_per_image": seconds(lambda: pack(tagged.tokens, "tokens"), rounds) / images,
        "logit_moved_max": float(moved.max()),
        "logit_moved_mean": float(moved.mean()),
        "logit_deviation": float(exact.std()),
        "tags_that_change_share": float(differs.float().mean()),
        "images_whose_tags_change_share": float(differs.any(dim=1).float().mean()),
    }


def main() -> None:
    """Measure, print and write."""
    parser = options(__doc__)
    parser.add_argument("--full", action="store_true", help="also the released size: some GB of memory and disk")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    report = begin(processor=platform.machine(), threads=torch.get_num_threads())
    found: dict[str, Any] = {}
    for name, full in (("tiny", False), *((("full", True),) if chosen.full else ())):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(load(Path(folder), full=full), chosen.images, chosen.rounds)
    print(json.dumps(found, indent=1))
    write(chosen, "retag", report | {"results": found})


if __name__ == "__main__":
    main()
