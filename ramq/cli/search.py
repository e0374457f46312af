"""Commands that read results: search, tags, show."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from errno import ENAMETOOLONG
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ramq.cli.context import services
from ramq.cli.hits import caption_of, opening_lines, print_images, print_region_hits
from ramq.cli.in_file import print_metadata
from ramq.cli.lines import print_text, text_data
from ramq.cli.output import as_data, err, out, print_json, print_table, shortened, shown
from ramq.cli.regions import print_regions, regions_data, write_overlay
from storage.errors import UsageError
from storage.search.language import pointer
from storage.search.views import SORTS, SearchQuery
from storage.texts import plural, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ramq.wiring import Services
    from storage.search.language.reading import Note
    from storage.search.views import HitPage


def not_empty(option: typer.CallbackParam, value: str | None) -> str | None:
    """Refuse an empty value. A shell passes one for an unset variable, and it must not mean "all"."""
    if value == "":
        raise UsageError(f"{option.opts[0]} is empty; give a value, or omit the option")
    return value


Query = Annotated[
    str | None,
    typer.Argument(metavar="[QUERY]", help="Words, tags and filters: '(castle OR palace) -daisy after:2024-01-01'"),
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail if the text is not valid in the query language.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="T", help="Require this tag (repeatable).")]
AnyTags = Annotated[
    list[str] | None, typer.Option("--any", metavar="T", help="Require at least one of these tags (repeatable).")
]
NotTags = Annotated[list[str] | None, typer.Option("--not", metavar="T", help="Exclude this tag (repeatable).")]
ArchiveOf = Annotated[
    str | None, typer.Option("--archive", metavar="A", help="Only this archive: URI or number.", callback=not_empty)
]
JobOf = Annotated[int | None, typer.Option("--job", metavar="J", min=1, help="Only images recorded by this job.")]
PrefixOf = Annotated[
    str | None, typer.Option("--prefix", metavar="P", help="Only keys starting with P.", callback=not_empty)
]
ThresholdOf = Annotated[
    float | None, typer.Option("--threshold", metavar="X", help="One threshold for all tags, 0..1.")
]
LikeOf = Annotated[
    str | None, typer.Option("--like", metavar="IMAGE", help="Similar to this image: number, key or URI.")
]
NotLikeOf = Annotated[
    list[str] | None,
    typer.Option(
        "--not-like",
        metavar="IMAGE",
        help="Not this image, and with --like less of what is similar to it (repeatable).",
    ),
]
RelevanceOf = Annotated[
    float | None,
    typer.Option(
        "--relevance", metavar="X", help="Minimum relevance to the text or image, 0..1; 0 disables the cutoff."
    ),
]
SpaceOf = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="NAME,…",
        help="What compares text and image: text, look, siglip, clip, dino; several are fused. Default: "
        "RAMQ_TEXT_SPACE for a text, look for an image that has such a vector.",
    ),
]
FoldOf = Annotated[bool, typer.Option("--fold", help="Of images with the same bytes, only the first that matches.")]
FoldNearOf = Annotated[
    bool, typer.Option("--fold-near", help="Of near copies too, only the largest that matches. See `ramq duplicates`.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (search, tags, show):
        app.command()(command)


def _narrow(
    tag: Tags = None,
    any_tag: AnyTags = None,
    not_tag: NotTags = None,
    archive: ArchiveOf = None,
    job: JobOf = None,
    prefix: PrefixOf = None,
    threshold: ThresholdOf = None,
    fold: FoldOf = False,
    fold_near: FoldNearOf = False,
) -> SearchQuery:
    return SearchQuery(
        tags=tuple(tag or ()),
        any_tags=tuple(any_tag or ()),
        not_tags=tuple(not_tag or ()),
        archive=archive,
        job=job,
        prefix=prefix,
        threshold=threshold,
        fold=fold,
        fold_near=fold_near,
    )


def narrowed(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of ``_narrow`` to a command, after its argument. Pass the command the query made from them."""
    shared = signature(_narrow, eval_str=True).parameters
    _, argument, *others = signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def with_options(**given: Any) -> None:
        options = {name: given.pop(name) for name in shared}
        command(_narrow(**options), **given)

    with_options.__signature__ = Signature([argument, *shared.values(), *others])  # type: ignore[attr-defined]
    return with_options


@contextmanager
def pointing_into(text: str | None) -> Iterator[None]:
    """Print the place of an error in ``text``, before the line with the error message."""
    try:
        yield
    except UsageError as error:
        if text and error.at is not None:
            err().print(shortened(pointer(text, error)), markup=False, soft_wrap=True)
        raise


@narrowed
def search(
    narrow: SearchQuery,
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What the image shows, in English; also tags and filters.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Similar to this image: number, key, URI or a file.")
    ] = None,
    not_like: NotLikeOf = None,
    like_region: Annotated[
        str | None,
        typer.Option(metavar="IMAGE/NUMBER", help="Find regions like this one, as `ramq show IMAGE` numbers them."),
    ] = None,
    space: SpaceOf = None,
    relevance: RelevanceOf = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(SORTS),
            help="By the date in the file, the newest first, or the oldest (taken-asc); default: best first.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500)] = 20,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the previous page.")] = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Search by text, tags and similarity, alone or together.

    Text that is not valid in the query language is searched as words, and a note says so.

    Example: ramq search "a castle by the sea" --not palace --limit 5

    Example: ramq search 'sunset (castle OR palace) -"suspension bridge" after:2024-01-01'

    Example: ramq search --like 12 --not-like 7 --not-like 9

    Example: ramq search --like-region 12/3 --archive s3://holiday

    Example: ramq search "a castle by the sea" --space text,siglip

    Example: ramq search 'taken:2023 camera:"NIKON D90"' --sort taken
    """
    query = replace(narrow, relevance=relevance, limit=limit, cursor=cursor, space=space, sort=sort)
    with pointing_into(text), services() as ramq:
        asked = not_liking(ramq, read(ramq, query, text, is_strict=strict), not_like)
        asked = _liking_region(ramq, asked, like_region)
        page = _page(ramq, asked, like)
        missing = {space: ramq.search.made_by(space) for space in page.unranked}
    _print_notes(note for note in page.notes if note not in asked.notes)
    if as_json:
        print_json(page)
        return
    _print_spaces(page, asked, missing)
    show_hits = print_images if like_region is None else print_region_hits
    show_hits(page.items)
    if page.next_cursor:
        things = "images" if like_region is None else "regions"
        count = "" if page.total is None else f"{page.total:,} {things} match. "
        err().print(f"{count}Next page: --cursor {page.next_cursor}", style="dim", soft_wrap=True)
    elif page.below:
        err().print(f"{page.below:,} less similar images are not shown; --relevance 0 shows them.", style="dim")


def _print_spaces(page: HitPage, query: SearchQuery, missing: dict[str, str]) -> None:
    """Say on stderr which vectors ordered the hits, if not only those of recognition, and what they leave out."""
    *others, last = (page.space or "text").split(",")
    if page.space is None and query.space:
        err().print("Nothing was compared, so --space has no effect: give a text or --like.", style="dim")
    elif page.space == "look" and not query.text:
        err().print("Ordered by how the images look; --space text compares what is in them.", style="dim")
    elif page.space not in {None, "text"}:
        names = f"{', '.join(others)} and {last}" if others else last
        err().print(f"Ordered by the vectors of {names}.", style="dim")
    for space, count in page.unranked.items():
        lacking = plural(count, "matching image has", "matching images have")
        told = f"{lacking} no vector of {space}: run `{missing[space]}`."
        err().print(told, style="dim", soft_wrap=True)


def read(ramq: Services, query: SearchQuery, text: str | None, *, is_strict: bool) -> SearchQuery:
    """Return ``query``, narrowed by the typed text. Print notes on stderr about how the text was read."""
    asked = ramq.search.read(query, text, is_strict=is_strict)
    _print_notes(asked.notes)
    return asked


def _print_notes(notes: Iterable[Note]) -> None:
    for note in notes:
        err().print(visible(note.line), style="dim", markup=False, soft_wrap=True)


def _liking_region(ramq: Services, query: SearchQuery, region: str | None) -> SearchQuery:
    """Return ``query``, for regions like the one that ``--like-region`` names."""
    if region is None:
        return query
    image, _, number = region.rpartition("/")
    if not image or not number.isascii() or not number.isdecimal() or len(number) > 3:
        raise UsageError(f"{region!r} names no region: give an image and a number of `ramq show IMAGE`, such as 12/3")
    return replace(query, like_region=(ramq.images.find(image, query.archive), int(number)))


def _page(ramq: Services, query: SearchQuery, like: str | None) -> HitPage:
    picture = None if like is None else _picture(like)
    if picture is None:
        return ramq.search.page(liking(ramq, query, like))
    return ramq.search.by_image(picture, query)


def _picture(like: str) -> bytes | None:
    """Return the content of the file that ``like`` names, or None if it names an image of an archive."""
    file = Path(like)
    try:
        return None if like.isdecimal() or not file.is_file() else file.read_bytes()
    except OSError as error:
        if error.errno == ENAMETOOLONG:  # keys may be longer than file names
            return None
        raise UsageError(f"{like} cannot be read: {error.strerror}") from error


def liking(ramq: Services, query: SearchQuery, like: str | None) -> SearchQuery:
    """Return ``query``, ranked by similarity to the image that ``--like`` names."""
    if like is None:
        return query
    if query.like is not None:
        raise UsageError("--like and like: cannot be combined; omit one of them")
    return replace(query, like=ramq.images.find(like, query.archive))


def not_liking(ramq: Services, query: SearchQuery, images: Sequence[str] | None) -> SearchQuery:
    """Return ``query``, away from the images that ``--not-like`` names."""
    named = [ramq.images.find(image, query.archive) for image in images or ()]
    return replace(query, unlike=tuple(dict.fromkeys((*query.unlike, *named)))) if named else query


@narrowed
def tags(
    narrow: SearchQuery,
    query: Query = None,
    like: LikeOf = None,
    not_like: NotLikeOf = None,
    space: SpaceOf = None,
    relevance: RelevanceOf = None,
    special: Annotated[
        bool, typer.Option("--special", help="Of each image, count only the most special tags: no animal, but a dog.")
    ] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500)] = 50,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the previous page.")] = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Count the tags of the images that a search finds, most frequent first.

    Example: ramq tags "a castle by the sea" --archive s3://holiday --limit 20
    """
    with pointing_into(query), services() as ramq:
        asked = read(ramq, replace(narrow, relevance=relevance, special=special, space=space), query, is_strict=strict)
        liked = not_liking(ramq, liking(ramq, asked, like), not_like)
        page = ramq.search.facet_page(liked, limit=limit, cursor=cursor)
        regions = ramq.search.region_facets(liked) if as_json and cursor is None else None
    if as_json:
        print_json({"items": page.items, "next_cursor": page.next_cursor, "notes": asked.notes, "regions": regions})
        return
    print_table(("tag", "name", "chinese", "images"), ((str(f.id), f.name, f.name_zh, f.count) for f in page.items))
    if page.next_cursor:
        err().print(f"There are more. Next page: --cursor {page.next_cursor}", style="dim", soft_wrap=True)


def show(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Number, key or URI of an image.")],
    overlay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a PNG of it with its regions: boxes, tags and masks.")
    ] = None,
    archive: ArchiveOf = None,
    as_json: Json = False,
) -> None:
    """Show one image: key, size, tags with scores, caption, text, regions, vectors, history.

    Example: ramq show 12

    Example: ramq show 12 --overlay out.png
    """
    with services() as ramq:
        view = ramq.images.get(ramq.images.find(image, archive))
        reading = ramq.readings.find(view.image_id)
        said = [] if reading is None else ramq.readings.corrections(view.image_id)
        regions = ramq.regions.find(view.image_id)
        said_of_regions = [] if regions is None else ramq.regions.corrections(view.image_id)
        if overlay is not None:
            write_overlay(overlay, ramq, ramq.regions.get(view.image_id))
    if as_json:
        text = None if reading is None else text_data(reading, said)
        print_json(as_data(view) | {"text": text, "regions": regions_data(regions, said_of_regions)})
        return
    size = f"{view.width} x {view.height} pixels, " if view.width else ""
    out().print(
        f"image {view.image_id}  {visible(view.uri)}\n  {size}{shown(view.size_bytes)} bytes, version {view.version}\n"
        f"  {caption_of(view) or 'no caption'}"
        + (f"\n  original missing since {view.missing_since:%Y-%m-%d %H:%M}" if view.missing_since else "")
        + (f"\n  number format {view.precision}" if view.precision else "")
        + (f"\n  one of {view.duplicates:,} with the same bytes" if view.duplicates > 1 else "")
        + (f"\n  one of {view.near_copies:,} near copies" if view.near_copies > 1 else "")
        + "".join(f"\n  {line}" for line in opening_lines(view)),
        markup=False,
    )
    print_table(
        ("tag", "name", "score", "threshold", "assigned", "by"),
        ((str(t.id), t.name, t.score, t.threshold, t.is_assigned, t.source) for t in view.tags),
    )
    if view.metadata is not None:
        print_metadata(view.metadata)
    if view.keywords:
        print_table(("keyword", "who", "when"), ((k.word, k.said_by, k.said_at) for k in view.keywords))
    if view.corrections:
        print_table(
            ("tag", "correction", "who", "when"),
            ((c.name, "added" if c.is_present else "removed", c.said_by, c.said_at) for c in view.corrections),
        )
    if reading is not None:
        print_text(reading, said)
    if regions is not None:
        print_regions(regions, said_of_regions)
    if view.vectors:
        print_table(
            ("vector", "model", "generation", "numbers"),
            ((v.space, v.model, str(v.generation_id), v.length) for v in view.vectors),
        )
    print_table(
        ("when", "job", "stage", "model", "outcome", "detail"),
        ((h.at, h.job_id, h.stage, h.model, h.error_class or h.outcome, h.detail) for h in view.history),
    )
