"""XMP packets of sidecar files: read one, set keywords and a description in it, write it again.

XMP is RDF in XML (ISO 16684-1). Programs for photographs read keywords from ``dc:subject``, and hierarchies of them
from ``lr:hierarchicalSubject``, whose levels are parted by ``|``. What else is in a packet stays.

So that a later run can take away what an earlier one wrote, and nothing else, a packet remembers which words come from
ramq, in properties of its own namespace.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from ram_core import xmp_regions
from ram_core.xmp_regions import RDF

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ram_core.xmp_regions import Regions

DC = "http://purl.org/dc/elements/1.1/"
LR = "http://ns.adobe.com/lightroom/1.0/"
META = "adobe:ns:meta/"
OURS = "urn:ramq:xmp:1.0/"
XML = "http://www.w3.org/XML/1998/namespace"
MOST_BYTES = 8 * 1024 * 1024

_PREFIXES = {"x": META, "rdf": RDF, "dc": DC, "lr": LR, "ramq": OURS, **xmp_regions.PREFIXES}
_RESERVED = re.compile(r"(ns\d+|xml.*)$", re.IGNORECASE)
_DOCTYPE = re.compile(rb"<\0?!\0?D\0?O\0?C\0?T")
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = '\n<?xpacket end="w"?>\n'
# What XML 1.0 cannot hold (section 2.2).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class PacketError(ValueError):
    """The content is no XMP packet that can be read."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is written into a packet.

    Attributes:
        keywords: plain keywords.
        paths: keywords as paths from the general to the special, each as its levels.
        description: a caption; None: none.
        regions: boxes with names; None: those in the packet stay as they are.
    """

    keywords: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...] = ()
    description: str | None = None
    regions: Regions | None = None


def written(packet: bytes | None, words: Words) -> bytes | None:
    """Return a packet with these words, or None if it has them already.

    Args:
        packet: the file as it is; None: there is none.
        words: replace those of an earlier run. Words of people and of other programs stay, and so does their
            description.

    Raises:
        PacketError: it is no XMP, or larger than 8 MB.
    """
    root = _empty() if packet is None else _parsed(packet)
    rdf = root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF")
    if rdf is None:
        raise PacketError("it has no RDF")
    levels = ["|".join(_plain(level).replace("|", "/") for level in path) for path in words.paths]
    is_changed = _set_bag(rdf, f"{{{DC}}}subject", f"{{{OURS}}}subject", map(_plain, words.keywords))
    is_changed |= _set_bag(rdf, f"{{{LR}}}hierarchicalSubject", f"{{{OURS}}}hierarchicalSubject", levels)
    is_changed |= _set_description(rdf, None if words.description is None else _plain(words.description))
    if words.regions is not None:
        is_changed |= _set_regions(rdf, words.regions)
    return _serialised(root) if is_changed else None


def _plain(text: str) -> str:
    return " ".join(_NOT_XML.sub(" ", text).split())


def _empty() -> ET.Element:
    root = ET.Element(f"{{{META}}}xmpmeta")
    ET.SubElement(ET.SubElement(root, f"{{{RDF}}}RDF"), f"{{{RDF}}}Description", {f"{{{RDF}}}about": ""})
    return root


def _parsed(packet: bytes) -> ET.Element:
    if len(packet) > MOST_BYTES:
        raise PacketError("it is larger than 8 MB")
    if _DOCTYPE.search(packet):
        raise PacketError("it has a document type, which XMP does not")
    root: ET.Element | None = None
    builder = _Builder()
    parser = ET.XMLParser(target=builder)  # noqa: S314  (no document type: nothing defines entities)
    try:
        parser.feed(packet)
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError) as error:
        raise PacketError(f"it is not XML: {error}") from error
    if root is None or root.tag not in {f"{{{META}}}xmpmeta", f"{{{RDF}}}RDF"}:
        raise PacketError("it is XML, but not XMP")
    for prefix, uri in builder.prefixes.items():
        if uri not in _PREFIXES.values() and not _RESERVED.match(prefix):
            ET.register_namespace(prefix, uri)
    return root


class _Builder(ET.TreeBuilder):
    """Builds a tree, and remembers the prefixes of namespaces."""

    def __init__(self) -> None:
        super().__init__(insert_comments=True)
        self.prefixes: dict[str, str] = {}

    def start_ns(self, prefix: str | None, uri: str) -> None:
        if prefix and uri:
            self.prefixes[prefix] = uri


def _descriptions(rdf: ET.Element) -> list[ET.Element]:
    """Return the elements that describe the picture itself, at least one."""
    found = [each for each in rdf.findall(f"{{{RDF}}}Description") if not each.get(f"{{{RDF}}}about")]
    return found or [ET.SubElement(rdf, f"{{{RDF}}}Description", {f"{{{RDF}}}about": ""})]


def _found(rdf: ET.Element, name: str) -> ET.Element | None:
    return next((each for parent in _descriptions(rdf) if (each := parent.find(name)) is not None), None)


def _items(rdf: ET.Element, name: str) -> list[str]:
    held = _found(rdf, name)
    return [] if held is None else [(each.text or "").strip() for each in held.iter(f"{{{RDF}}}li")]


def _set_bag(rdf: ET.Element, name: str, ours: str, wanted: Iterable[str]) -> bool:
    """Put words into a property, and note in ``ours`` which of them come from here. Return whether anything changed.

    A word of ours that somebody took out is not put in again.
    """
    before, of_us = _items(rdf, name), _items(rdf, ours)
    refused = [word for word in of_us if word not in before]
    theirs = [word for word in before if word not in of_us]
    new = [word for word in dict.fromkeys(filter(None, wanted)) if word not in theirs and word not in refused]
    if theirs + new == before and set(new + refused) == set(of_us):
        return False
    _replace(rdf, name, theirs + new)
    _replace(rdf, ours, new + refused)
    return True


def _replace(rdf: ET.Element, name: str, items: Sequence[str]) -> None:
    for parent in _descriptions(rdf):
        for each in parent.findall(name):
            parent.remove(each)
    if items:
        bag = ET.SubElement(ET.SubElement(_descriptions(rdf)[0], name), f"{{{RDF}}}Bag")
        for item in items:
            ET.SubElement(bag, f"{{{RDF}}}li").text = item


def _set_description(rdf: ET.Element, wanted: str | None) -> bool:
    """Set the description in the default language, unless it is one of people. Return whether anything changed."""
    name, ours = f"{{{DC}}}description", f"{{{OURS}}}description"
    before, of_us = _items(rdf, name), _items(rdf, ours)
    if before and before != of_us:
        if not of_us:
            return False
        _replace(rdf, ours, ())  # somebody has changed it since
        return True
    if before == ([wanted] if wanted else []):
        return False
    _replace(rdf, name, ())
    _replace(rdf, ours, [wanted] if wanted else ())
    if wanted:
        texts = ET.SubElement(ET.SubElement(_descriptions(rdf)[0], name), f"{{{RDF}}}Alt")
        ET.SubElement(texts, f"{{{RDF}}}li", {f"{{{XML}}}lang": "x-default"}).text = wanted
    return True


def _set_regions(rdf: ET.Element, regions: Regions) -> bool:
    ours = f"{{{OURS}}}regions"
    plain = replace(regions, named=tuple((_plain(name), box) for name, box in regions.named))
    remembered = xmp_regions.set_regions(_descriptions(rdf), plain, _items(rdf, ours))
    if remembered is None:
        return False
    _replace(rdf, ours, remembered)
    return True


def _serialised(root: ET.Element) -> bytes:
    for prefix, uri in _PREFIXES.items():
        ET.register_namespace(prefix, uri)
    ET.indent(root)
    file = io.BytesIO()
    ET.ElementTree(root).write(file, encoding="utf-8", xml_declaration=False)
    return (_HEAD + file.getvalue().decode() + _TAIL).encode()
