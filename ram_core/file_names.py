"""Files by the names that lists give them. Systems write letters such as é in two ways that look the same."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath


def on_disk(folder: Path, name: str) -> Path:
    """Return the path of a file below a folder, each part in the Unicode form in which the disk has it.

    A path that exists as it is given counts first. If none exists, or several do, it is returned as it is given.

    Args:
        folder: an existing folder.
        name: a path below it. Letters may be composed (NFC) or decomposed (NFD).
    """
    given = folder / name
    if name.isascii() or os.path.lexists(given):
        return given
    found = [folder]
    for part in PurePosixPath(name).parts:
        forms = dict.fromkeys((part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part)))
        found = [path for each in found for form in forms if os.path.lexists(path := each / form)]
    return found[0] if len(found) == 1 else given
