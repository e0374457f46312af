"""Images that a command line names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ramq.wiring import Services

_KEYWORD = "keyword:"
"""Before a keyword that stands for the images to which people gave it."""


def image_ids(ramq: Services, given: Sequence[str], archive: str | None) -> list[int]:
    """Return the images that numbers, keys, URIs, files of these and keywords of people name."""
    named: list[str] = []
    for each in given:
        if each.lower().startswith(_KEYWORD):
            named += map(str, ramq.keywords.images(each[len(_KEYWORD) :]))
            continue
        if not each.startswith("@"):
            named.append(each)
            continue
        try:
            named += [line.strip() for line in Path(each[1:]).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{each[1:]} cannot be read as text: {error}") from error
    return list(dict.fromkeys(ramq.images.find_all(named, archive)))
