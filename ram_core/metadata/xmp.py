"""Properties of an XMP packet.

The parser of the standard library is used as a stream: nothing is kept but the properties that are wanted. A packet
with a document type is refused, since only such a one can define entities.

Source: ISO 16684-1 (XMP), the namespaces of Adobe, Exif and Lightroom.
"""

from __future__ import annotations

import codecs
from collections import defaultdict
from typing import TYPE_CHECKING, Final
from xml.parsers import expat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MOST_VALUES = 1_000
MOST_CHARACTERS = 20_000
"""Of a value."""

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "
_DC, _XMP = "http://purl.org/dc/elements/1.1/ ", "http://ns.adobe.com/xap/1.0/ "
_PHOTOSHOP, _LIGHTROOM = "http://ns.adobe.com/photoshop/1.0/ ", "http://ns.adobe.com/lightroom/1.0/ "
_EXIF, _TIFF = "http://ns.adobe.com/exif/1.0/ ", "http://ns.adobe.com/tiff/1.0/ "
_EXIF_EX, _AUX = "http://cipa.jp/exif/1.0/ ", "http://ns.adobe.com/exif/1.0/aux/ "
_RAMQ = "urn:ramq:xmp:1.0/ "  # what a sidecar has from ramq itself: see ``ram_core.xmp_packet``
_LANGUAGE = "http://www.w3.org/XML/1998/namespace lang"
_DEFAULT = "x-default"
_OF_RAMQ = " of ramq"

PROPERTIES: Final = {
    _DC + "title": "title",
    _DC + "description": "description",
    _DC + "subject": "keywords",
    _DC + "creator": "creator",
    _DC + "rights": "rights",
    _LIGHTROOM + "hierarchicalSubject": "hierarchies",
    _XMP + "Rating": "rating",
    _XMP + "CreateDate": "digitized",
    _PHOTOSHOP + "DateCreated": "created",
    _EXIF + "DateTimeOriginal": "taken",
    _EXIF + "GPSLatitude": "latitude",
    _EXIF + "GPSLongitude": "longitude",
    _EXIF + "GPSAltitude": "altitude",
    _EXIF + "GPSAltitudeRef": "altitude_ref",
    _EXIF + "ExposureTime": "exposure",
    _EXIF + "FNumber": "f_number",
    _EXIF + "FocalLength": "focal",
    _EXIF + "ISOSpeedRatings": "iso",
    _EXIF_EX + "PhotographicSensitivity": "iso",
    _TIFF + "Make": "make",
    _TIFF + "Model": "model",
    _EXIF_EX + "LensModel": "lens",
    _AUX + "Lens": "aux_lens",
    _RAMQ + "subject": "keywords of ramq",
    _RAMQ + "hierarchicalSubject": "hierarchies of ramq",
    _RAMQ + "description": "description of ramq",
}
"""The properties that are read, by namespace and name, and what they are called here."""


class _RefusedError(Exception):
    """The packet has a document type."""


class _Reader:
    """Collects properties while a packet is parsed."""

    def __init__(self) -> None:
        self.found: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self._path: list[str] = []
        self._property: str | None = None
        self._language = ""
        self._text: list[str] = []
        self._length = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        path = self._path
        if name == f"{_RDF}Description" and path and path[-1] == f"{_RDF}RDF":
            for attribute, value in attributes.items():
                self._add(PROPERTIES.get(attribute), "", value)
        elif name in PROPERTIES and path[-2:] == [f"{_RDF}RDF", f"{_RDF}Description"]:
            self._property = PROPERTIES[name]
        if self._property is not None:
            self._language = attributes.get(_LANGUAGE, "")
            self._text, self._length = [], 0
        path.append(name)

    def characters(self, text: str) -> None:
        if self._property is not None and self._length < MOST_CHARACTERS:
            self._text.append(text)
            self._length += len(text)

    def end(self, name: str) -> None:
        self._path.pop()
        if self._property is None:
            return
        is_end = PROPERTIES.get(name) == self._property
        if is_end or name == f"{_RDF}li":
            self._add(self._property, self._language, "".join(self._text))
        self._text = []
        if is_end:
            self._property = None

    def _add(self, name: str | None, language: str, value: str) -> None:
        if name is not None and value.strip() and len(self.found[name]) < MOST_VALUES:
            self.found[name].append((language, value[:MOST_CHARACTERS]))


def properties(packet: bytes) -> Mapping[str, Sequence[str]]:
    """Return the values of each property, the one for any language first. A damaged packet has none."""
    reader = _read(packet)
    if reader is None:
        return {}
    found = {name: list(_in_order(values)) for name, values in reader.found.items()}
    return {name: _of_people(found, name) for name in found if not name.endswith(_OF_RAMQ)}


def is_whole(packet: bytes) -> bool:
    """Return whether a packet can be read to its end: one that says nothing can, a damaged one cannot."""
    return _read(packet) is not None


def _read(packet: bytes) -> _Reader | None:
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.characters
    try:
        parser.Parse(_unpadded(packet), True)
    except (expat.ExpatError, _RefusedError, ValueError, LookupError):
        return None
    return reader


def _of_people(found: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """Return the values of a property but those that ramq wrote: else its tags would come back as words of people."""
    ours = set(found.get(name + _OF_RAMQ, ()))
    return [value for value in found[name] if value not in ours]


def _unpadded(packet: bytes) -> bytes:
    # In UTF-16, half of the bytes are zeros that belong to it.
    return packet if packet.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else packet.strip(b"\0 \t\r\n")


def _refuse(*_of_doctype: object) -> None:
    raise _RefusedError


def _in_order(values: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield from (value for language, value in values if language.casefold() == _DEFAULT)
    yield from (value for language, value in values if language.casefold() != _DEFAULT)
