"""Captions as training reads them (official code, ``pre_caption``)."""

from __future__ import annotations

import re

MAX_WORDS = 30  # further words are cut off
_REMOVED = re.compile(r'[.!"()*#:;~]')


def clean_caption(caption: str, max_words: int = MAX_WORDS) -> str:
    """Return a caption in lower case, without most punctuation, with single spaces, of at most ``max_words`` words."""
    return " ".join(_REMOVED.sub(" ", caption.lower()).split()[:max_words])
