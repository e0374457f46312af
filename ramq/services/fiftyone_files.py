"""Pictures with their regions as a folder that FiftyOne imports as ``FiftyOneDataset``, without its library.

The form is what https://docs.voxel51.com/user_guide/import_datasets.html calls so: ``metadata.json`` with the fields,
``samples.json`` with a document for each picture, in MongoDB's extended JSON, and the pictures in ``data/``.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ramq.services.reading_files import Picture, file_name
from storage.results.masks import Mask

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ramq.services.picture_bytes import Content
    from storage.results.region_views import RegionsView, RegionView
    from storage.search.views import Hit

VERSION = "1.0.0"
"""Of the form. Newer ones of FiftyOne bring it up to date when they import it."""
_FIRST_TAG = 1 << 31
"""Numbers of tags among the labels of a picture. Those of regions are below."""
_FIELDS = "fiftyone.core.fields"
_LABELS = "fiftyone.core.labels"


def write_fiftyone(pictured: Iterable[tuple[Hit, RegionsView | None, Content]], folder: Path) -> int:
    """Write ``data/``, ``samples.json`` and, last, ``metadata.json``. Memory use does not grow.

    A sample has ``regions`` (detections, with the part of the mask within the box), ``recognised`` (classifications),
    ``caption``, ``image_id``, ``archive``, ``key``, ``page`` and ``file_key``.

    Args:
        pictured: hits, each with its regions and its picture.
        folder: an existing folder.

    Returns:
        The number of images that were written.
    """
    count = 0
    with (folder / "samples.json").open("wb") as file:
        file.write(b'{"samples": [')
        for hit, view, content in pictured:
            ending = content.ending(hit.key)
            stem = hit.key.rstrip("/").rpartition("/")[2].rpartition(".")
            path = f"data/{file_name(Picture(hit.image_id, stem[0] or stem[2], None), ending)}"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content.body)
            file.write((b",\n" if count else b"\n") + json.dumps(_sample(hit, view, content, path)).encode())
            count += 1
        file.write(b"\n]}\n")
    (folder / "metadata.json").write_text(json.dumps(_metadata(), indent=1))
    return count


def _id(image_id: int, number: int) -> dict[str, str]:
    """Return an ObjectId: 12 bytes, the same in each export."""
    return {"$oid": f"{image_id:016x}{number:08x}"}


def _sample(hit: Hit, view: RegionsView | None, content: Content, path: str) -> dict[str, Any]:
    return {
        "_id": _id(hit.image_id, 0),
        "filepath": path,
        "tags": [],
        "metadata": {
            "_cls": "ImageMetadata",
            "size_bytes": len(content.body),
            "mime_type": content.media_type,
            "width": hit.width,
            "height": hit.height,
        },
        "_media_type": "image",
        "_rand": zlib.crc32(str(hit.image_id).encode()) / (1 << 32),
        "image_id": hit.image_id,
        "archive": hit.archive,
        "key": hit.key,
        "caption": hit.caption,
        "caption_contradicts": list(hit.caption_contradicts),
        "given_keywords": list(hit.keywords),
        "page": hit.page,
        "file_key": hit.file_key or hit.key,
        "recognised": {
            "_cls": "Classifications",
            "classifications": [
                {
                    "_id": _id(hit.image_id, _FIRST_TAG + number),
                    "_cls": "Classification",
                    "tags": [],
                    "label": tag.name,
                    "confidence": tag.score,
                    "source": tag.source,
                }
                for number, tag in enumerate(hit.tags)
            ],
        },
        "regions": None
        if view is None
        else {"_cls": "Detections", "detections": [_detection(hit.image_id, one) for one in view.regions]},
    }


def _detection(image_id: int, region: RegionView) -> dict[str, Any]:
    left, top, right, bottom = region.box
    found: dict[str, Any] = {
        "_id": _id(image_id, region.number),
        "_cls": "Detection",
        "attributes": {},
        "tags": [],
        "label": region.tag,
        "bounding_box": [left, top, right - left, bottom - top],
        "confidence": region.score,
        "source": "model" if region.correction_id is None else "person",
    }
    if region.mask is not None:
        found["mask"] = _within(Mask.from_bytes(region.mask), region)
        found["mask_quality"] = region.mask_quality
    return found


def _within(mask: Mask, region: RegionView) -> dict[str, Any]:
    """Return the pixels of a mask in the region's box: a (height, width) array of NumPy, compressed, as base64."""
    left, top, right, bottom = region.box
    rows = slice(_first(top, mask.height), max(round(bottom * mask.height), _first(top, mask.height) + 1))
    columns = slice(_first(left, mask.width), max(round(right * mask.width), _first(left, mask.width) + 1))
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(mask.pixels()[rows, columns]), allow_pickle=False)
    return {"$binary": {"base64": base64.b64encode(zlib.compress(file.getvalue())).decode(), "subType": "00"}}


def _first(fraction: float, size: int) -> int:
    return min(round(fraction * size), size - 1)


def _metadata() -> dict[str, Any]:
    label = [
        _field("id", "ObjectIdField", db_field="_id"),
        _field("tags", "ListField", subfield="StringField"),
        _field("label", "StringField"),
        _field("confidence", "FloatField"),
        _field("source", "StringField"),
    ]
    detection = [
        *label,
        _field("attributes", "DictField", document=f"{_LABELS}.Attribute", subfield="EmbeddedDocumentField"),
        _field("bounding_box", "ListField", subfield="FloatField"),
        _field("mask", "ArrayField"),
        _field("index", "IntField"),
        _field("mask_quality", "FloatField"),
    ]
    tags = [_several("classifications", "Classification", label)]
    size = [_field(name, "IntField") for name in ("size_bytes", "width", "height", "num_channels")]
    return {
        "name": "ramq",
        "version": VERSION,
        "media_type": "image",
        "tags": [],
        "info": {},
        "classes": {},
        "default_classes": [],
        "mask_targets": {},
        "default_mask_targets": {},
        "skeletons": {},
        "frame_fields": [],
        "sample_fields": [
            _field("id", "ObjectIdField", db_field="_id"),
            _field("filepath", "StringField"),
            _field("tags", "ListField", subfield="StringField"),
            _embedded("metadata", "fiftyone.core.metadata.ImageMetadata", [*size, _field("mime_type", "StringField")]),
            _field("_media_type", "StringField"),
            _field("_rand", "FloatField"),
            _field("_dataset_id", "ObjectIdField"),
            _field("created_at", "DateTimeField", read_only=True),
            _field("last_modified_at", "DateTimeField", read_only=True),
            _field("image_id", "IntField"),
            *(_field(name, "StringField") for name in ("archive", "key", "file_key", "caption")),
            _field("page", "IntField"),
            _field("caption_contradicts", "ListField", subfield="StringField"),
            _field("given_keywords", "ListField", subfield="StringField"),
            _embedded("recognised", f"{_LABELS}.Classifications", tags),
            _embedded("regions", f"{_LABELS}.Detections", [_several("detections", "Detection", detection)]),
        ],
    }


def _field(  # noqa: PLR0913  (what the form says of a field)
    name: str,
    kind: str,
    *,
    document: str | None = None,
    subfield: str | None = None,
    fields: list[dict[str, Any]] | None = None,
    db_field: str | None = None,
    read_only: bool = False,
) -> dict[str, Any]:
    return {
        "name": name,
        "ftype": f"{_FIELDS}.{kind}",
        "embedded_doc_type": document,
        "subfield": f"{_FIELDS}.{subfield}" if subfield else None,
        "fields": fields or [],
        "db_field": db_field or name,
        "description": None,
        "info": None,
        "read_only": read_only,
        "created_at": None,
    }


def _embedded(name: str, document: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return _field(name, "EmbeddedDocumentField", document=document, fields=fields)


def _several(name: str, document: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return _field(name, "ListField", document=f"{_LABELS}.{document}", subfield="EmbeddedDocumentField", fields=fields)
