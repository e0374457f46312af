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
