"""How much do vectors lose in fewer bits? Real vectors of real pictures: those of ``lite`` in both of its spaces.

    python tests/photographs.py
    python -m benchmarks.bench_vector_formats --stamps stamps/usr/share/tuxpaint/stamps

Vectors of the labelled pictures of ``bench_retrieval`` and of random parts of them. For the whole pictures, the nearest
ten others by float32 are the truth. ``recall_at_10`` is the share of these that a format finds by a scan;
``of_100`` the share that is among its nearest hundred, which can be scored again with more bits. Bytes are those of a
vector. Formats are those of FAISS: 16-bit floats, 8-bit integers (a range for each dimension), 4 bits, and RaBitQ, one
bit for each dimension behind a random rotation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss as _faiss
import numpy as np
from PIL import Image

from benchmarks.labelled import photographs, stamps
from benchmarks.report import begin, options, write
from ram_core import load_model
from ram_core.spaces import load_image_encoder
from ram_core.transforms import to_rgb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

faiss: Any = _faiss

PARTS = 4
SMALLEST = 0.4
"""Of a picture's sides: the smallest part."""

K, MORE = 10, 100
BATCH = 32
FORMATS = {"float16": "SQfp16", "int8": "SQ8", "int4": "SQ4", "RaBitQ": "RR{d},RaBitQ"}


def pictures(paths: Sequence[Path]) -> Iterator[Image.Image]:
    """Yield each picture, and random parts of it."""
    random = np.random.default_rng(0)
    for path in paths:
        with Image.open(path) as opened:
            image = to_rgb(opened)
        yield image
        for _ in range(PARTS):
            sides = random.uniform(SMALLEST, 1, 2) * image.size
            corner = random.uniform(0, 1, 2) * (image.size - sides)
            yield image.crop((*corner.astype(int).tolist(), *np.ceil(corner + sides).astype(int).tolist()))


def vectors(paths: Sequence[Path]) -> dict[str, NDArray[np.float32]]:
    """Return (N, D) unit vectors by space."""
    model, look = load_model("lite"), load_image_encoder("lite")
    found: dict[str, list[NDArray[np.float32]]] = {"text": [], "look": []}
    waiting: list[Image.Image] = []

    def take() -> None:
        prepared = np.stack([model.preprocessing(image) for image in waiting])
        found["text"].append(np.stack([one.vector for one in model.predict(prepared)]))
        found["look"].append(look.encode(np.stack([look.preprocessing(image) for image in waiting])))
        waiting.clear()

    for image in pictures(paths):
        waiting.append(image)
        if len(waiting) == BATCH:
            take()
    if waiting:
        take()
    return {space: np.concatenate(parts) for space, parts in found.items()}


def measure(rows: NDArray[np.float32]) -> dict[str, Any]:
    """Judge every format on (N, D) vectors."""
    asked = rows[:: PARTS + 1]
    truth = _nearest(faiss.IndexFlatIP(rows.shape[1]), rows, asked, K)
    figures = {}
    for name, kind in FORMATS.items():
        index = faiss.index_factory(rows.shape[1], kind.format(d=rows.shape[1]), faiss.METRIC_INNER_PRODUCT)
        index.train(rows)
        near = _nearest(index, rows, asked, MORE)
        figures[name] = {
            "bytes": int(index.sa_code_size()) if hasattr(index, "sa_code_size") else index.code_size,
            f"recall_at_{K}": _share(truth, near[:, :K]),
            f"of_{MORE}": _share(truth, near),
        }
    return figures


def _nearest(index: Any, rows: NDArray[np.float32], asked: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the (Q, k) nearest rows without the row that is asked."""
    index.add(rows)
    found = index.search(asked, k + 1)[1]
    own = np.arange(len(asked))[:, None] * (PARTS + 1)
    return np.array([[each for each in row if each != number][:k] for row, (number,) in zip(found, own, strict=True)])


def _share(truth: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    return round(float(np.mean([np.isin(one, other).mean() for one, other in zip(truth, found, strict=True)])), 4)


def main() -> None:
    """Measure, and write a file."""
    parser = options(__doc__)
    parser.add_argument("--stamps", type=Path, default=Path("/usr/share/tuxpaint/stamps"))
    chosen = parser.parse_args()
    paths = [*stamps(chosen.stamps).paths, *photographs().paths]
    if not paths:
        parser.error("no pictures: run `python tests/photographs.py`")
    report = begin(faiss=faiss.__version__) | {"pictures": len(paths)}
    for space, rows in vectors(paths).items():
        report[space] = {"vectors": rows.shape[0], "vector_size": rows.shape[1], "formats": measure(rows)}
        print(space, report[space], flush=True)
    write(chosen, "vector-formats", report)


if __name__ == "__main__":
    main()
