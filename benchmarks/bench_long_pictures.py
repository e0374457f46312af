"""Are parts of long pictures found, squashed or in tiles? And how much of a picture tells its tags?

    python -m benchmarks.bench_long_pictures

Panoramas and scrolls are made of real photographs (those of installed packages), squares side by side, beginning in the
middle of one. Wanted are the tags that ``lite`` assigns to each photograph alone. Strips are cut from the middle of one
photograph each; wanted are the tags of the whole photograph. ``vector`` is the mean cosine with the vector of the
photographs, or with their mean. Of a picture that is cut short, the lower rows are grey; wanted are its tags when it is
whole.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks.report import begin, options, write
from ram_core import load_model
from ram_core.recognition import merged
from ram_core.tiling import boxes, mean_vector
from ram_core.transforms import to_rgb
from ramq.demo_photos import installed_photographs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ram_core.recognition import Prediction

SIDE = 300
LEAST_SIDE = 200
PARTS = (2, 3, 4, 6, 8)
RATIOS = (2.0, 2.5, 3.0, 4.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Sums:
    """Adds up what was found."""

    def __init__(self) -> None:
        self.right = self.wanted = self.found = self.pictures = 0
        self.cosine = 0.0

    def add(self, found: set[int], wanted: set[int], cosine: float) -> None:
        """Add one picture."""
        self.right, self.wanted = self.right + len(found & wanted), self.wanted + len(wanted)
        self.found, self.pictures, self.cosine = self.found + len(found), self.pictures + 1, self.cosine + cosine

    def shown(self) -> dict[str, float]:
        """Return the shares."""
        return {
            "recall": round(self.right / max(1, self.wanted), 3),
            "precision": round(self.right / max(1, self.found), 3),
            "vector": round(self.cosine / max(1, self.pictures), 3),
            "pictures": self.pictures,
        }


def main() -> None:
    """Measure."""
    parser = options(__doc__)
    parser.add_argument("--panoramas", type=int, default=12, help="of each number of parts")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    report = begin(torch=torch.__version__)
    model: Any = load_model("lite")
    thresholds = np.asarray(model.vocabulary.thresholds)
    photographs = [
        image
        for path in installed_photographs()
        if path.suffix != ".npy" and min((image := to_rgb(Image.open(path))).size) >= LEAST_SIDE
    ]

    def predict(images: Sequence[Image.Image]) -> list[Prediction]:
        found: list[Prediction] = model.predict(np.stack([model.preprocessing(image) for image in images]))
        return found

    def assigned(one: Prediction) -> set[int]:
        return set(one.tag_ids[one.scores > thresholds[one.tag_ids]].tolist())

    ways: dict[str, Callable[[Image.Image], Prediction]] = {
        "squashed": lambda image: predict([image])[0],
        "letterboxed": lambda image: predict([ImageOps.pad(image, (max(image.size),) * 2, color=(124, 116, 104))])[0],
        "tiles": lambda image: merged(predict([image])[0], predict([image.crop(box) for box in boxes(*image.size)])),
        "tiles and the whole": lambda image: merged(
            (whole := predict([image])[0]), [whole, *predict([image.crop(box) for box in boxes(*image.size)])]
        ),
    }

    def measured(pairs: list[tuple[Image.Image, list[Image.Image]]]) -> dict[str, dict[str, float]]:
        sums = {name: Sums() for name in ways}
        for picture, parts in pairs:
            alone = predict(parts)
            wanted = set[int]().union(*map(assigned, alone))
            mean = mean_vector(np.stack([one.vector for one in alone]))
            for name, way in ways.items():
                one = way(picture)
                sums[name].add(assigned(one), wanted, float(one.vector @ mean))
        return {name: each.shown() for name, each in sums.items()}

    report["photographs"] = len(photographs)
    report["panoramas"] = {
        parts: measured([panorama(photographs, parts, seed) for seed in range(chosen.panoramas)]) for parts in PARTS
    }
    report["strips"] = {ratio: measured(strips(photographs, ratio)) for ratio in RATIOS}
    report["cut_short"] = {}
    whole = predict(photographs)
    for share in SHARES:
        sums = Sums()
        for before, after in zip(whole, predict([cut(image, share) for image in photographs]), strict=True):
            sums.add(assigned(after), assigned(before), float(before.vector @ after.vector))
        report["cut_short"][share] = sums.shown()
    write(chosen, "long-pictures", report)


def panorama(photographs: list[Image.Image], parts: int, seed: int) -> tuple[Image.Image, list[Image.Image]]:
    """Return photographs side by side, or for odd seeds one below the other, and the photographs."""
    rng = random.Random(seed)
    squares = [ImageOps.fit(image, (SIDE, SIDE)) for image in rng.sample(photographs, parts)]
    lying = seed % 2 == 0
    whole = Image.new("RGB", (SIDE * parts, SIDE) if lying else (SIDE, SIDE * parts))
    for number, square in enumerate(squares):
        whole.paste(square, (number * SIDE, 0) if lying else (0, number * SIDE))
    begin_at = rng.randrange(SIDE // 2)
    return whole.crop((begin_at, 0, *whole.size) if lying else (0, begin_at, *whole.size)), squares


def strips(photographs: list[Image.Image], ratio: float) -> list[tuple[Image.Image, list[Image.Image]]]:
    """Return the middle of each photograph, lying and standing, and the photograph."""
    return [
        (ImageOps.fit(image, size), [image])
        for image in photographs
        for size in ((image.width, round(image.width / ratio)), (round(image.height / ratio), image.height))
        if size[0] <= image.width and size[1] <= image.height
    ]


def cut(image: Image.Image, share: float) -> Image.Image:
    """Return a picture of whose rows only the first ones were read."""
    part = image.copy()
    part.paste((128, 128, 128), (0, round(share * image.height), *image.size))
    return part


if __name__ == "__main__":
    main()
