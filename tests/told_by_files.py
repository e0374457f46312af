"""Pictures whose files say something: EXIF and XMP as Pillow writes them, IPTC by hand."""

from __future__ import annotations

import hashlib
import io
import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base
from PIL.TiffImagePlugin import IFDRational

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
}


def exif(
    taken: str | None = "2023:05:01 18:30:00",
    *,
    offset: str | None = None,
    subseconds: str | None = None,
    make: str | None = "NIKON CORPORATION",
    model: str | None = "NIKON D90",
    lens: str | None = None,
    place: tuple[float, float] | None = None,
    altitude: float | None = None,
    utc: tuple[str, tuple[int, int, int]] | None = None,
    image: Mapping[int, Any] | None = None,
    own: Mapping[int, Any] | None = None,
) -> Image.Exif:
    """Return EXIF. ``image`` and ``own`` are further tags, of the image and of EXIF."""
    made = Image.Exif()
    made.update(({Base.Make: make} if make else {}) | ({Base.Model: model} if model else {}) | dict(image or {}))
    told = {
        Base.DateTimeOriginal: taken,
        Base.OffsetTimeOriginal: offset,
        Base.SubsecTimeOriginal: subseconds,
        Base.LensModel: lens,
    }
    made.get_ifd(IFD.Exif).update({tag: value for tag, value in told.items() if value is not None} | dict(own or {}))
    gps = made.get_ifd(IFD.GPSInfo)
    if place is not None:
        north, east = place
        gps[GPS.GPSLatitudeRef], gps[GPS.GPSLatitude] = "S" if north < 0 else "N", _degrees(abs(north))
        gps[GPS.GPSLongitudeRef], gps[GPS.GPSLongitude] = "W" if east < 0 else "E", _degrees(abs(east))
    if altitude is not None:
        gps[GPS.GPSAltitudeRef] = bytes([altitude < 0])
        gps[GPS.GPSAltitude] = IFDRational(round(abs(altitude) * 10), 10)
    if utc is not None:
        gps[GPS.GPSDateStamp], gps[GPS.GPSTimeStamp] = utc[0], tuple(map(float, utc[1]))
    return made


def _degrees(value: float) -> tuple[IFDRational, ...]:
    minutes = value % 1 * 60
    seconds = IFDRational(round(minutes % 1 * 60 * 10_000), 10_000)
    return IFDRational(int(value), 1), IFDRational(int(minutes), 1), seconds


def xmp(properties: Mapping[str, str | Sequence[str]]) -> bytes:
    """Return an XMP packet. A text is written as an attribute, a sequence as a bag."""
    names = " ".join(f'xmlns:{prefix}="{url}"' for prefix, url in NAMESPACES.items())
    plain = " ".join(f'{name}="{value}"' for name, value in properties.items() if isinstance(value, str))
    bags = "".join(
        f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{each}</rdf:li>' for each in value)}</rdf:Bag></{name}>"
        for name, value in properties.items()
        if not isinstance(value, str)
    )
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description rdf:about="" {names} {plain}>{bags}</rdf:Description></rdf:RDF>'
        f'</x:xmpmeta>{" " * 100}<?xpacket end="w"?>'
    ).encode()


def iptc(sets: Sequence[tuple[int, bytes]], *, is_utf8: bool = False) -> bytes:
    """Return data sets of record 2."""
    head = b"\x1c\x01\x5a\x00\x03\x1b%G" if is_utf8 else b""
    return head + b"".join(b"\x1c\x02" + bytes([n]) + len(value).to_bytes(2) + value for n, value in sets)


def jpeg(
    exif_: Image.Exif | None = None,
    xmp_: bytes | None = None,
    iptc_: bytes | None = None,
    *,
    digest: bytes | None = None,
    size: tuple[int, int] = (64, 48),
    color: str = "teal",
) -> bytes:
    """Return a JPEG with these blocks. ``digest``: what it says that IPTC hashes to; None: nothing."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(
        buffer, "JPEG", **({} if exif_ is None else {"exif": exif_}), **({} if xmp_ is None else {"xmp": xmp_})
    )
    body = buffer.getvalue()
    if iptc_ is None:
        return body
    resources = _resource(0x0404, iptc_) + (b"" if digest is None else _resource(0x0425, digest))
    segment = b"Photoshop 3.0\0" + resources
    return body[:2] + b"\xff\xed" + (len(segment) + 2).to_bytes(2) + segment + body[2:]


def _resource(number: int, data: bytes) -> bytes:
    return b"8BIM" + number.to_bytes(2) + b"\0\0" + len(data).to_bytes(4) + data + b"\0" * (len(data) % 2)


def digest_of(data: bytes) -> bytes:
    """Return what Photoshop writes beside IPTC."""
    return hashlib.md5(data, usedforsecurity=False).digest()


def png(exif_: bytes | None = None, xmp_: bytes | None = None, *, is_behind: bool = False) -> bytes:
    """Return a PNG with these blocks, before its pixels or behind them."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(buffer, "PNG")
    body = buffer.getvalue()
    blocks = b"" if exif_ is None else _chunk(b"eXIf", exif_)
    blocks += b"" if xmp_ is None else _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp_)
    at = len(body) - 12 if is_behind else 33
    return body[:at] + blocks + body[at:]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


TOLD: Mapping[str, Any] = {
    "taken_at": datetime(2023, 5, 1, 18, 30),  # noqa: DTZ001  (files have no zone)
    "taken_offset": -210,
    "camera_make": "NIKON CORPORATION",
    "camera_model": "NIKON D90",
    "lens": "AF-S 50mm",
    "focal_mm": 50.0,
    "exposure_seconds": 1 / 200,
    "f_number": 1.8,
    "iso": 200,
    "latitude": -17.7,
    "longitude": 179.98,
    "altitude_m": 12.0,
    "title": "A title",
    "keywords": ("Dom", "Places|Vienna"),
    "rating": -1,
}
"""What a file may say, as it is given to ``results.metadata.write``."""
