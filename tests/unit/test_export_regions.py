"""Exports with regions: boxes and masks of COCO, labels of YOLO, and a picture with regions drawn on it."""

from __future__ import annotations

import io
import json
import tarfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ramq.services.export import write_labels, write_rows
from ramq.services.region_overlay import draw
from storage.results.masks import Mask
from storage.results.region_views import RegionsView, RegionView
from tests.region_archive import painted
from tests.unit.test_export import MADE_BY, hit

if TYPE_CHECKING:
    from collections.abc import Sequence

HALF = (0.0, 0.0, 0.5, 0.5)
FOUND = [
    RegionView(1, "Dog", 0.9, HALF, painted(HALF), 0.75),
    RegionView(2, "a new\nthing", 1.0, (0.5, 0.25, 1.0, 0.75), None, None, 7),
    RegionView(3, "dog", 0.5, (0.1, 0.2, 0.3, 0.4), None, None),
]
LOCATED = {
    number: RegionsView(number, 3, "locator", found, is_cut=False, located_at=datetime(2026, 11, 28, tzinfo=UTC))
    for number, found in ((1, FOUND), (2, []))
}


def regions(ids: Sequence[int]) -> dict[int, RegionsView]:
    return {image_id: LOCATED[image_id] for image_id in ids if image_id in LOCATED}


def test_a_coco_document_has_boxes_areas_and_masks_where_tags_were_located() -> None:
    file = io.BytesIO()
    write_rows([hit(1), hit(2), hit(3)], "coco", file, MADE_BY, regions=regions)
    document = json.loads(file.getvalue())
    located, drawn, small, *plain = document["annotations"]
    mask = located.pop("segmentation")
    assert located == {
        "id": 1, "image_id": 1, "category_id": 0, "score": 0.9, "source": "model", "bbox": [0, 0, 320, 240],
        "iscrowd": 0, "area": 320 * 240, "mask_quality": 0.75,
    }  # fmt: skip
    assert mask["size"] == [480, 640]
    pixels = Mask(480, 640, mask["counts"]).pixels()
    assert pixels[:240, :320].all()
    assert pixels.sum() == located["area"]
    assert drawn == {
        "id": 2, "image_id": 1, "category_id": 3, "score": 1.0, "source": "person", "bbox": [320, 120, 320, 240],
        "iscrowd": 0, "area": 320 * 240,
    }  # fmt: skip
    assert (small["category_id"], small["bbox"]) == (0, [64, 96, 128, 96])
    # A tag without a region, and the tags of the images without any.
    assert [(one["image_id"], one["category_id"]) for one in plain] == [(1, 1), (2, 1), (2, 0), (3, 1), (3, 0)]
    assert not any("bbox" in one for one in plain)
    assert document["categories"][3] == {"id": 3, "name": "a new\nthing", "name_zh": None, "supercategory": "tag"}
    assert [one["id"] for one in document["categories"]] == [0, 1, 2, 3]


def test_labels_of_yolo_have_a_line_for_each_region() -> None:
    file = io.BytesIO()
    assert write_labels([hit(1, key="../a/b.jpg"), hit(2), hit(3)], file, regions) == (2, 1)
    with tarfile.open(fileobj=io.BytesIO(file.getvalue())) as archive:
        texts = {name: archive.extractfile(name).read().decode() for name in archive.getnames()}  # type: ignore[union-attr]
    assert texts == {
        "labels/0/1-b.txt": "0 0.25 0.25 0.5 0.5\n1 0.75 0.5 0.5 0.5\n0 0.2 0.3 0.2 0.2\n",
        "labels/0/2-2.txt": "",
        "classes.txt": "Dog\na new thing\n",
    }


def test_a_picture_shows_its_boxes_and_masks() -> None:
    file = io.BytesIO()
    Image.new("RGB", (120, 80), "white").save(file, "JPEG")
    odd = RegionView(4, "\u72d7\u202e", 0.5, (0.6, 0.9, 1.0, 1.0), None, None)
    drawn = np.array(Image.open(io.BytesIO(draw(file.getvalue(), [*FOUND, odd]))))
    assert drawn.shape == (80, 120, 3)
    tinted, colored, left = drawn[34, 50], drawn[40, 40], drawn[78, 20]
    assert tinted.min() < 250
    assert (colored < 250).any()
    assert left.tolist() == [255, 255, 255]
