"""Does the place where ``lite`` looked lie on the thing that it named? On photographs with boxes drawn by hand.

    python tests/photographs.py
    python -m benchmarks.bench_evidence

``evidence_marks.json`` has the photographs, the tag with the highest score, whether the thing is really that, and boxes
around it. They were drawn over a grid, to about a fiftieth of a side, without looking at any map. Where the tag is
wrong, the boxes are around what it was plausibly given for (a hedgehog taken for a porcupine). Photographs without such
a thing, or of which the boxes would fill more than about two thirds, were left out.

A hit: the centre of the map's strongest cell lies in a box. *chance* is the same for a random place: the mean area of
the boxes. *centre* is the same for the middle of the picture, where photographers put things.

Since the middle is so good a guess, the same photographs are also put together in fours, two by two, each squashed to
the same size, and the map of each one's tag is asked of all four. A map that only points to the middle, or to whatever
stands out, is right in one of four then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks.report import begin, options, write
from ram_core import load_model
from ram_core.lite.imagenet import CLASSES
from ram_core.localization.evidence import evidence
from tests.photographs import UNPACKED, photographs

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARKS = Path(__file__).with_name("evidence_marks.json")
_FINE = (np.arange(200) + 0.5) / 200  # for the area of boxes that overlap
_CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))
_CELL = 480  # pixels of a photograph in a picture of four
_ROUNDS = 3  # each photograph is put together with others so many times
_SEED = 1


def is_inside(boxes: list[list[float]], x: Any, y: Any) -> NDArray[np.bool_]:
    """Tell which places, as fractions, lie in one of the boxes."""
    x, y = np.asarray(x), np.asarray(y)
    return np.any([(x >= x0) & (x <= x1) & (y >= y0) & (y <= y1) for x0, y0, x1, y1 in boxes], axis=0)


def measure(model: Any, image: Image.Image, mark: dict[str, Any]) -> dict[str, Any]:
    """Look at one photograph."""
    boxes = mark["boxes"]
    found = evidence(model, image, mark["tag"])
    rows, columns = found.shape
    places = (np.arange(columns) + 0.5) / columns, ((np.arange(rows) + 0.5) / rows)[:, None]
    row, column = np.unravel_index(found.argmax(), found.shape)
    prediction = model.predict(model.preprocessing(image)[None])[0]
    is_class = prediction.tag_ids < CLASSES
    best = model.vocabulary.names[prediction.tag_ids[is_class][prediction.scores[is_class].argmax()]]
    return {
        "image": mark["image"],
        "tag": mark["tag"],
        "is_right": mark["is_right"],
        "is_still_the_best_tag": best == mark["tag"],
        "hit": bool(is_inside(boxes, (column + 0.5) / columns, (row + 0.5) / rows)),
        "centre": bool(is_inside(boxes, 0.5, 0.5)),
        "area": round(float(is_inside(boxes, _FINE, _FINE[:, None]).mean()), 3),
        "share_of_the_map": round(float(found[is_inside(boxes, *places)].sum() / found.sum()), 3),
    }


def mosaics(model: Any, images: list[Image.Image], marks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask for each photograph's tag in a picture of four. Photographs of one tag are not put together."""
    random = np.random.default_rng(_SEED)
    rows = []
    for _ in range(_ROUNDS):
        left = random.permutation(len(images)).tolist()
        while len({marks[i]["tag"] for i in left}) >= len(_CORNERS):
            four: list[int] = []
            for i in left:
                if len(four) < len(_CORNERS) and marks[i]["tag"] not in {marks[j]["tag"] for j in four}:
                    four.append(i)
            left = [i for i in left if i not in four]
            whole = Image.new("RGB", (2 * _CELL, 2 * _CELL))
            for (x, y), i in zip(_CORNERS, four, strict=True):
                whole.paste(images[i].resize((_CELL, _CELL), Image.Resampling.BILINEAR), (x * _CELL, y * _CELL))
            rows += [_found_in(model, whole, corner, marks[i]) for corner, i in zip(_CORNERS, four, strict=True)]
    return rows


def _found_in(model: Any, whole: Image.Image, corner: tuple[int, int], mark: dict[str, Any]) -> dict[str, Any]:
    found = evidence(model, whole, mark["tag"])
    row, column = np.unravel_index(found.argmax(), found.shape)
    x, y = 2 * (column + 0.5) / found.shape[1] - corner[0], 2 * (row + 0.5) / found.shape[0] - corner[1]
    return {
        "quarter": bool(0 <= x < 1 and 0 <= y < 1),
        "hit": bool(is_inside(mark["boxes"], x, y)),
        "area": float(is_inside(mark["boxes"], _FINE, _FINE[:, None]).mean()) / len(_CORNERS),
        "is_right": mark["is_right"],
    }


def summary_of_mosaics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise pictures of four."""
    mean = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in ("quarter", "hit", "area")}
    return {
        "asked": len(rows),
        "right_quarter": mean["quarter"],
        "chance_of_the_quarter": 1 / len(_CORNERS),
        "hit_rate": mean["hit"],
        "chance": mean["area"],
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise photographs."""
    mean = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in ("hit", "centre", "area")}
    return {
        "photographs": len(rows),
        "hits": sum(row["hit"] for row in rows),
        "hit_rate": mean["hit"],
        "chance": mean["area"],
        "centre": mean["centre"],
        "mean_share_of_the_map_in_the_boxes": round(float(np.mean([row["share_of_the_map"] for row in rows])), 3),
    }


def main() -> None:
    """Measure all marked photographs that are installed; write a file."""
    parser = options(__doc__)
    chosen = parser.parse_args()
    by_name = {_name(path): path for path in photographs()}
    marks = [mark for mark in json.loads(MARKS.read_text(encoding="utf-8")) if mark["image"] in by_name]
    if not marks:
        parser.error("no marked photographs: run `python tests/photographs.py`")
    model: Any = load_model("lite")
    images = [_opened(by_name[mark["image"]]) for mark in marks]
    rows = [measure(model, image, mark) for image, mark in zip(images, marks, strict=True)]
    fours = mosaics(model, images, marks)
    small = [row for row in rows if row["area"] < 0.4]
    report = begin() | {
        "model": model.spec.model,
        "all": summary(rows),
        "right_tags": summary([row for row in rows if row["is_right"]]),
        "wrong_tags": summary([row for row in rows if not row["is_right"]]),
        "boxes_under_two_fifths": summary(small),
        "in_pictures_of_four": summary_of_mosaics(fours),
        "in_pictures_of_four_right_tags": summary_of_mosaics([row for row in fours if row["is_right"]]),
        "rows": rows,
    }
    for key, value in report.items():
        if isinstance(value, dict):
            print(key, value)
    write(chosen, "evidence-lite", report)


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _name(path: Path) -> str:
    return str(path.relative_to(UNPACKED)) if path.is_relative_to(UNPACKED) else "/".join(path.parts[-2:])


if __name__ == "__main__":
    main()
