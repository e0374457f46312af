"""Tokens and what is derived from them. A token is 256 random bits, so one round of SHA-256 hides it well enough."""

from __future__ import annotations

import hashlib
import hmac
import secrets

PREFIX = "ramq_"
"""Every token begins with this, so that programs that look for leaked secrets find it: ``ramq_[A-Za-z0-9_-]{43}``."""


def new_secret() -> str:
    """Return a random token."""
    return f"{PREFIX}{secrets.token_urlsafe(32)}"


def digest_of(secret: str) -> bytes:
    """Return the SHA-256 of a token or of a session. Spaces around it, as from copying, do not count."""
    return hashlib.sha256(secret.strip().encode()).digest()


def session_from(key: bytes) -> str:
    """Return the session, in hex, that only who knows ``key`` can compute."""
    return hmac.digest(key, b"ramq page session", hashlib.sha256).hex()
