"""Colour profiles for tests."""

from __future__ import annotations

from functools import cache

from PIL import ImageCms


@cache
def srgb() -> bytes:
    """Return the profile of sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@cache
def exchanged() -> bytes:
    """Return a profile whose red is the blue of sRGB, and the reverse: nobody overlooks that it was dropped."""
    profile = bytearray(srgb())
    table = {bytes(profile[at : at + 4]): at + 4 for at in range(132, 132 + 12 * profile[131], 12)}
    red, blue = (slice(table[name], table[name] + 8) for name in (b"rXYZ", b"bXYZ"))
    profile[red], profile[blue] = profile[blue], profile[red]
    return bytes(profile)


@cache
def display_p3() -> bytes:
    """Return the profile of Display P3: the curve of sRGB, other primaries (as Apple publishes them, for D50)."""
    profile = bytearray(srgb())
    table = {bytes(profile[at : at + 4]): at + 4 for at in range(132, 132 + 12 * profile[131], 12)}
    primaries = {
        b"rXYZ": (0.515102, 0.241182, -0.001050),
        b"gXYZ": (0.291965, 0.692236, 0.041882),
        b"bXYZ": (0.157153, 0.066581, 0.784378),
    }
    for name, values in primaries.items():
        at = int.from_bytes(profile[table[name] : table[name] + 4], "big")
        for place, value in enumerate(values):
            start = at + 8 + 4 * place
            profile[start : start + 4] = round(value * 65536).to_bytes(4, "big", signed=True)
    return bytes(profile)


@cache
def grey_inks() -> bytes:
    """Return a profile of CMYK whose inks are grey, three of them a third of black: A2B0 as lut8 (ICC.1:2010)."""
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    levels = b"".join(bytes([round(255 * max(0, 1 - (c + m + y) / 3 - k)), 128, 128]) for c, m, y, k in corners)
    identity = b"".join((1 << 16 if row == column else 0).to_bytes(4, "big") for row in range(3) for column in range(3))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4 + levels + bytes(range(256)) * 3
    return _profile(b"prtrCMYKLab ", {b"A2B0": table})


@cache
def linear_grey() -> bytes:
    """Return a profile of grey whose levels are amounts of light."""
    return _profile(b"mntrGRAYXYZ ", {b"kTRC": b"curv\0\0\0\0\0\0\0\0"})


def _profile(kind: bytes, parts: dict[bytes, bytes]) -> bytes:
    """Return a profile of this class, space and connection space."""
    white = bytes.fromhex("0000f6d6000100000000d32d")  # D50
    parts = parts | {b"wtpt": b"XYZ \0\0\0\0" + white, b"cprt": b"text\0\0\0\0-\0\0\0"}
    parts[b"desc"] = b"desc\0\0\0\0\0\0\0\2x\0" + bytes(78)
    directory, data, at = b"", b"", 128 + 4 + 12 * len(parts)
    for name, content in parts.items():
        directory += name + (at + len(data)).to_bytes(4, "big") + len(content).to_bytes(4, "big")
        data += content + bytes(-len(content) % 4)
    body = len(parts).to_bytes(4, "big") + directory + data
    head = (128 + len(body)).to_bytes(4, "big") + b"lcms\x02\x10\0\0" + kind + bytes(12) + b"acsp" + bytes(28)
    return (head + white).ljust(128, b"\0") + body
