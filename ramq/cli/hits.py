"""Hits of a search as tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.cli.output import print_table
from ramq.services.captions import in_doubt
from ramq.services.special_tags import special_first
from storage.search.views import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from storage.results.views import ImageView
    from storage.search.views import Hit


def print_images(hits: Sequence[Hit]) -> None:
    """Print images."""
    # Only what is there has a column: dates, text and regions that a search is about, and duplicates.
    found = {
        "original": _missing,
        "taken": _taken,
        "text": _read_in,
        "regions": _regions_in,
        "duplicates": _duplicates_of,
        "near copies": _near_of,
        "keywords": _given,
        "in the file": _told_by_file,
    }
    shown = {name: of for name, of in found.items() if any(map(of, hits))}
    print_table(
        ("image", "score", "key", *shown, "tags", "caption"),
        (
            (
                str(hit.image_id),
                hit.score,
                hit.key,
                *(of(hit) for of in shown.values()),
                _tags_of(hit),
                caption_of(hit),
            )
            for hit in hits
        ),
        keep=("score", "key", *shown),
        empty="No image matches. `ramq tags` lists the tags that images have.",
    )


def print_region_hits(hits: Sequence[Hit]) -> None:
    """Print regions."""
    print_table(
        ("image", "region", "score", "tag", "key", "tags of the region"),
        (
            (
                str(hit.image_id),
                str(region.number),
                hit.score,
                region.tag,
                hit.key,
                ", ".join(tag.name for tag in region.tags[:5]),
            )
            for hit in hits
            if (region := hit.region)
        ),
        keep=("region", "score", "key"),
        empty="No region matches.",
    )


def _tags_of(hit: Hit) -> str:
    """Return the names of a hit's tags. The tags that the text names come first, and general ones last."""
    named = hit.why.tags if hit.why else []
    return ", ".join(tag.name for tag in sorted(special_first(hit.tags), key=lambda tag: tag.id not in named)[:5])


def caption_of(view: Hit | ImageView) -> str | None:
    """Return the caption, with a remark if people said otherwise."""
    doubt = in_doubt(view)
    return f"{view.caption} ({doubt})" if doubt else view.caption


def _taken(hit: Hit) -> str:
    """Return the date in the file, in a search that is ordered by it."""
    return "" if hit.taken_at is None else f"{hit.taken_at:%Y-%m-%d %H:%M}"


def _read_in(hit: Hit) -> str:
    """Return the lines of text in a hit that match."""
    return " / ".join(match.line.text for match in hit.read)


def _missing(hit: Hit) -> str:
    """Return ``missing`` if the file of a hit is."""
    return "missing" if hit.missing_since else ""


def _given(hit: Hit) -> str:
    """Return the keywords that people gave a hit."""
    return ", ".join(hit.keywords)


def _told_by_file(hit: Hit) -> str:
    """Return the keywords, the title and the description in the file of a hit, if the search found them."""
    return " / ".join(one.text for one in hit.told if one.source != "person")


def opening_lines(view: ImageView) -> Iterator[str]:
    """Yield how a picture was read, if not as a whole."""
    if view.truncated == 1:
        yield f"its file is cut short or damaged: pages behind page {view.pages or 1:,} cannot be read"
    elif view.truncated is not None:
        yield f"its file is cut short: {view.truncated:.0%} of the rows could be read"
    if view.tiles:
        yield f"a long picture: recognised in {view.tiles} parts"
    if view.pages:
        others = "the others are not read" if view.page_images == 1 else f"{view.page_images:,} of them are images"
        yield f"page {view.page:,} of {view.pages:,}; {others}"
    if view.previous_page or view.next_page:
        ids = [f"{side} {one}" for side, one in (("before", view.previous_page), ("next", view.next_page)) if one]
        yield f"images of the neighbouring pages: {', '.join(ids)}"


def _duplicates_of(hit: Hit) -> str:
    """Return of how many images with the same bytes a hit is one."""
    return f"one of {hit.duplicates:,}" if hit.duplicates > 1 else ""


def _regions_in(hit: Hit) -> str:
    """Return the tags of the regions in a hit that the search is about, with their numbers."""
    return ", ".join(f"{tag} x{count}" for tag, count in counted(region.tag for region in hit.regions))


def _near_of(hit: Hit) -> str:
    """Return of how many near copies a hit is one."""
    return f"one of {hit.near_copies:,}" if hit.near_copies > 1 else ""
