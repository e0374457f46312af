"""Keys of tar files and of their members."""

from __future__ import annotations

import re

_TAR = re.compile(r"\.tar$", re.IGNORECASE)
_MEMBER = re.compile(r"(.*?\.tar)/(.*)", re.IGNORECASE | re.DOTALL)


def is_tar(key: str) -> bool:
    """Return whether the name of an object is that of a tar file."""
    return _TAR.search(key) is not None


def split_member(key: str) -> tuple[str, str] | None:
    """Return the tar file and the name of a member, of a key such as ``a/00000.tar/000001.jpg``; None: it is no member.

    The first part that ends in ``.tar`` is the tar file.
    """
    found = _MEMBER.match(key)
    return (found[1], found[2]) if found else None
