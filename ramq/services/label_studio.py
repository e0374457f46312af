"""Regions as tasks of Label Studio: https://labelstud.io/guide/predictions, and the labels that a project needs.

The form of brush masks is that of https://github.com/thi-ng/umbrella (rle-pack), which Label Studio uses, over four
equal channels of each pixel.
"""

from __future__ import annotations

import json
from itertools import groupby
from string import Formatter
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from ramq.services.line_layout import readable
from ramq.services.region_files import Classes
from storage.errors import UsageError
from storage.results.lookup import uri_of
from storage.results.masks import Mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from storage.results.region_views import RegionsView, RegionView
    from storage.search.views import Hit

_FIELDS = {"id", "key"}
_RUN_BITS = (3, 4, 8, 16)
"""Of the lengths of runs, the four widths to choose from."""
_WORD_BITS = 8
_CHANNELS = 4


def check_address(template: str) -> None:
    """Raise ``UsageError`` unless this is a pattern for the addresses of pictures."""
    try:
        named = {name for _, name, form, conversion in Formatter().parse(template) if name is not None}
        plain = not any(form or conversion for _, _, form, conversion in Formatter().parse(template))
    except ValueError:
        named, plain = set(), False
    if not named or not named <= _FIELDS or not plain:
        raise UsageError(
            f"the address {template!r} needs {{id}} or {{key}} for the image, and no other braces; "
            "for example https://ramq.example.org/v1/images/{id}/original"
        )


def write_tasks(located: Iterable[tuple[Hit, RegionsView | None]], file: IO[bytes], address: str | None) -> Classes:
    """Write one JSON list with a task for each image.

    Regions that were found are a prediction, those that people drew are an annotation. Each is a rectangle, and a
    region with a mask is a brush too. A task of an image that was not located has neither.

    Args:
        located: hits, each with its regions; None: tags were not located in it.
        file: the file to write to.
        address: a pattern of the addresses of pictures, with ``{id}`` or ``{key}``. None: their URIs in the archive.

    Returns:
        The labels of all regions.
    """
    labels = Classes()
    file.write(b"[")
    for number, (hit, view) in enumerate(located):
        task = {"data": _data(hit, address)} | ({} if view is None else _results(hit, view, labels))
        file.write((b",\n" if number else b"\n") + json.dumps(task, ensure_ascii=False).encode())
    file.write(b"\n]\n")
    return labels


def labelling(labels: Classes) -> str:
    """Return the labelling interface that a project needs for these tasks, as XML."""
    values = "\n".join(f"    <Label value={quoteattr(readable(name))}/>" for name in labels.names)
    return "\n".join(
        (
            "<View>",
            '  <Image name="image" value="$image"/>',
            '  <RectangleLabels name="box" toName="image">',
            *([values] if values else []),
            "  </RectangleLabels>",
            '  <BrushLabels name="mask" toName="image">',
            *([values] if values else []),
            "  </BrushLabels>",
            "</View>\n",
        )
    )


def _data(hit: Hit, address: str | None) -> dict[str, Any]:
    uri = uri_of(hit.archive, hit.key)
    return {
        "image": address.format(id=hit.image_id, key=quote(hit.key)) if address else uri,
        "image_id": hit.image_id,
        "archive": hit.archive,
        "key": hit.key,
        "caption": hit.caption,
        "caption_contradicts": list(hit.caption_contradicts),
        "given_keywords": list(hit.keywords),
        "page": hit.page,
        "file_key": hit.file_key or hit.key,
        "tags": [tag.name for tag in hit.tags],
    }


def _results(hit: Hit, view: RegionsView, labels: Classes) -> dict[str, Any]:
    found = [one for one in view.regions if one.correction_id is None]
    drawn = [one for one in view.regions if one.correction_id is not None]
    prediction: dict[str, Any] = {
        "model_version": f"{view.model}, generation {view.generation_id}",
        "result": [result for one in found for result in _shapes(hit, one, labels)],
    }
    if found:
        prediction["score"] = round(sum(one.score for one in found) / len(found), 4)
    told: dict[str, Any] = {"predictions": [prediction]}
    if drawn:
        told["annotations"] = [{"result": [result for one in drawn for result in _shapes(hit, one, labels)]}]
    return told


def _shapes(hit: Hit, region: RegionView, labels: Classes) -> Iterator[dict[str, Any]]:
    label = readable(labels.names[labels.number(" ".join(region.tag.split()))])
    left, top, right, bottom = region.box
    name = f"{hit.image_id}-{region.number}"
    box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    percent = {side: round(100 * number, 4) for side, number in box.items()}
    common = {
        "to_name": "image",
        "original_width": hit.width,
        "original_height": hit.height,
        "image_rotation": 0,
        "score": region.score,
    }
    yield {
        "id": name,
        "from_name": "box",
        "type": "rectanglelabels",
        **common,
        "value": percent | {"rotation": 0, "rectanglelabels": [label]},
    }
    if region.mask is not None:
        pixels = Mask.from_bytes(region.mask).resized(hit.height, hit.width).pixels()
        yield {
            "id": f"{name}-mask",
            "from_name": "mask",
            "type": "brushlabels",
            **common,
            "value": {"format": "rle", "rle": brush(pixels), "brushlabels": [label]},
        }


def brush(pixels: NDArray[np.bool_]) -> list[int]:
    """Return the brush of a mask, (height, width) bool, as bytes.

    A header says how many values follow (32 bits), their width less 1 (5 bits), and the four widths of lengths less 1
    (4 bits each). A run is the bit 1, the number of a width (2 bits), its length less 1, and its value. A value is that
    of one channel, 0 or 255.
    """
    flat = pixels.reshape(-1)
    bounds = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    bits = [f"{flat.size * _CHANNELS:032b}{_WORD_BITS - 1:05b}", *(f"{width - 1:04b}" for width in _RUN_BITS)]
    for start, length in zip(bounds[:-1].tolist(), (np.diff(bounds) * _CHANNELS).tolist(), strict=True):
        value = "11111111" if flat[start] else "00000000"
        bits += (f"{head}{value}" for head in _lengths(length))
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def _lengths(length: int) -> Iterator[str]:
    """Yield the bits before the value of a run. Long runs are several."""
    longest = 1 << _RUN_BITS[-1]
    full, rest = divmod(length, longest)
    for size, times in groupby([longest] * full + ([rest] if rest else [])):
        number = next(number for number, width in enumerate(_RUN_BITS) if size <= 1 << width)
        head = f"1{number:02b}{size - 1:0{_RUN_BITS[number]}b}"
        for _ in times:
            yield head
