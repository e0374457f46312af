"""What a file says of an image, with links to the images of which it says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ramq.services.said_by_files import lines_of
from storage.search.language.writer import filter_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.results.metadata import MetadataView

AROUND = "1km"
"""How near images are to which the place of another one links."""


def in_file(view: MetadataView) -> list[tuple[str, str, str | Sequence[tuple[str, str]] | None]]:
    """Return the facts that are there: each with its name, and with a link, or a link for each of its words."""
    links: dict[str, str | Sequence[tuple[str, str]]] = {}
    if view.taken_at is not None:
        links["taken"] = _link("taken", f"{view.taken_at:%Y-%m-%d}")
    if view.latitude is not None and view.longitude is not None:
        links["place"] = _link("near", f"{view.latitude:.5f},{view.longitude:.5f},{AROUND}")
    for name, value in (("camera", view.camera), ("lens", view.lens)):
        if value is not None:
            links[name] = _link(name, value)
    links["keywords"] = [(word, _link("keyword", word)) for word in view.keywords]
    return [(name, value, links.get(name)) for name, value in lines_of(view)]


def _link(name: str, value: str) -> str:
    return f"/?{urlencode({'q': filter_text(name, value)})}"
