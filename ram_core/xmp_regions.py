"""Regions of a picture in XMP: ``mwg-rs:Regions``, as the Metadata Working Group defines them.

(Guidelines for Handling Image Metadata, version 2.0, section "Image Regions".) An area is the middle, the width and the
height of a box, in 0..1 of the picture as it is stored, before its EXIF orientation is applied. The dimensions to which
that applies are written beside them.

As with words, a packet remembers which regions come from ramq. Those of other programs stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
MWG = "http://www.metadataworkinggroup.com/schemas/regions/"
AREA = "http://ns.adobe.com/xmp/sType/Area#"
DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
PREFIXES = {"mwg-rs": MWG, "stArea": AREA, "stDim": DIMENSIONS}

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in 0..1."""

_SIDEWAYS = 5
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Regions:
    """The regions of a picture as it is shown.

    Attributes:
        width: of the upright picture, in pixels.
        height: of the upright picture, in pixels.
        orientation: EXIF's, of the file.
        named: name and box of each, in 0..1 of the upright picture.
    """

    width: int
    height: int
    orientation: int
    named: tuple[tuple[str, Box], ...]


def stored(box: Box, orientation: int) -> Box:
    """Return where a box of the upright picture is in the stored one. (EXIF 2.32, tag 0x0112)."""
    left, top, right, bottom = box
    turned = {
        2: (1 - right, top, 1 - left, bottom),
        3: (1 - right, 1 - bottom, 1 - left, 1 - top),
        4: (left, 1 - bottom, right, 1 - top),
        5: (top, left, bottom, right),
        6: (top, 1 - right, bottom, 1 - left),
        7: (1 - bottom, 1 - right, 1 - top, 1 - left),
        8: (1 - bottom, left, 1 - top, right),
    }
    return turned.get(orientation, box)


def set_regions(descriptions: Sequence[ET.Element], regions: Regions, before: Sequence[str]) -> list[str] | None:
    """Put regions into a packet, instead of those of an earlier run.

    Args:
        descriptions: the elements that describe the picture, at least one.
        regions: all that there shall be.
        before: what the last call returned, as the packet remembers it.

    Returns:
        What the packet has to remember; None: nothing changes.
    """
    wanted = {_signature(name, *(area := _area(box, regions.orientation))): (name, area) for name, box in regions.named}
    held = _list_of(descriptions)
    there = {} if held is None else {_signature_of(item): item for item in held.findall(f"{{{RDF}}}li")}
    gone = [one for one in before if one not in wanted and one in there]
    # What somebody took out is not put in again, and what another program has already is not doubled.
    new = [one for one in wanted if one not in before and one not in there]
    if not gone and not new:
        return None
    if held is None:
        held = _new_list(descriptions[0], regions)
    for one in gone:
        held.remove(there[one])
    for one in new:
        _add(held, *wanted[one])
    if not len(held):
        _remove(descriptions)
    return [one for one in before if one in wanted] + new


def _area(box: Box, orientation: int) -> tuple[float, float, float, float]:
    """Return middle, width and height of a box in the stored picture."""
    left, top, right, bottom = stored(box, orientation)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _number(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".") or "0"


def _signature(name: str, *area: float) -> str:
    return " ".join([*(_number(value) for value in area), name])


def _signature_of(item: ET.Element) -> str:
    """Return the signature of a region, in whichever of RDF's forms it is written; empty: it has no area."""
    name = _value(item, f"{{{MWG}}}Name") or ""
    area = next(iter(item.iter(f"{{{MWG}}}Area")), None)
    if area is None:
        return ""
    try:
        numbers = [float(_value(area, f"{{{AREA}}}{side}") or "") for side in "xywh"]
    except ValueError:
        return ""
    return _signature(name, *numbers)


def _value(parent: ET.Element, name: str) -> str | None:
    """Return the value of a field: an attribute or an element, of the structure or of the description in it."""
    for each in (parent, *parent.findall(f"{{{RDF}}}Description")):
        if (written := each.get(name)) is not None:
            return written
        if (child := each.find(name)) is not None:
            return (child.text or "").strip()
    return None


def _list_of(descriptions: Sequence[ET.Element]) -> ET.Element | None:
    for description in descriptions:
        for regions in description.findall(f"{{{MWG}}}Regions"):
            for held in regions.iter(f"{{{MWG}}}RegionList"):
                bag = held.find(f"{{{RDF}}}Bag")
                return held.find(f"{{{RDF}}}Seq") if bag is None else bag
    return None


def _new_list(description: ET.Element, regions: Regions) -> ET.Element:
    found = description.find(f"{{{MWG}}}Regions")
    if found is None:
        found = ET.SubElement(description, f"{{{MWG}}}Regions", {f"{{{RDF}}}parseType": "Resource"})
    inner = found.find(f"{{{RDF}}}Description")
    home = found if inner is None else inner
    if next(home.iter(f"{{{MWG}}}AppliedToDimensions"), None) is None:
        sides = (regions.width, regions.height)
        width, height = sides[::-1] if regions.orientation >= _SIDEWAYS else sides
        dimensions = {
            f"{{{DIMENSIONS}}}w": str(width), f"{{{DIMENSIONS}}}h": str(height), f"{{{DIMENSIONS}}}unit": "pixel"
        }  # fmt: skip
        ET.SubElement(home, f"{{{MWG}}}AppliedToDimensions", dimensions)
    return ET.SubElement(ET.SubElement(home, f"{{{MWG}}}RegionList"), f"{{{RDF}}}Bag")


def _add(held: ET.Element, name: str, area: tuple[float, float, float, float]) -> None:
    item = ET.SubElement(held, f"{{{RDF}}}li", {f"{{{RDF}}}parseType": "Resource"})
    ET.SubElement(item, f"{{{MWG}}}Name").text = name
    sides = {f"{{{AREA}}}{side}": _number(value) for side, value in zip("xywh", area, strict=True)}
    ET.SubElement(item, f"{{{MWG}}}Area", {**sides, f"{{{AREA}}}unit": "normalized"})


def _remove(descriptions: Sequence[ET.Element]) -> None:
    """Take out a structure without regions: it would say that people looked and found none."""
    for description in descriptions:
        for regions in description.findall(f"{{{MWG}}}Regions"):
            description.remove(regions)
