"""Copies of pictures that ramq takes for other ones. It does not recognise equal bytes twice."""

from __future__ import annotations


def another(body: bytes, number: int) -> bytes:
    """Return the file of a picture with other bytes and the same pixels: a number behind its end."""
    return body + number.to_bytes(8, "big")
