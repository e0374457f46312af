"""Commands about what files say: metadata, facets, forget-places."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.output import agree, err, print_json, print_table
from ramq.cli.search import (
    ArchiveOf,
    Json,
    LikeOf,
    NotLikeOf,
    Query,
    RelevanceOf,
    SpaceOf,
    Strict,
    liking,
    narrowed,
    not_liking,
    pointing_into,
    read,
)
from ramq.cli.stages import Given, start, starting
from storage.search.views import SearchQuery  # noqa: TC001  (the decorator reads the annotations)
from storage.texts import plural


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(metadata)
    app.command()(facets)
    app.command("forget-places")(forget_places)


@starting
def metadata(
    given: Given,
    again: Annotated[
        bool, typer.Option("--again", help="Also read files that were read before, for example without their places.")
    ] = False,
) -> None:
    """Read what files say (date, camera, place, keywords) of images that were recognised before that was kept.

    Recognition keeps it too, so only older images need this. No pixels are decoded, but the files are fetched. Works on
    all recorded images, those of an archive, or the hits of a search. Starts one job for each archive.

    Example: ramq metadata --wait
    """
    settings = settings_for()
    with pointing_into(given.query), services(settings) as ramq:
        start(ramq, settings, given, "metadata", None, {"again": True} if again else {})


@narrowed
def facets(
    narrow: SearchQuery,
    query: Query = None,
    like: LikeOf = None,
    not_like: NotLikeOf = None,
    space: SpaceOf = None,
    relevance: RelevanceOf = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Of cameras, archives and folders.")] = 20,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Count the images that a search finds by year, camera, archive and folder. `ramq tags` counts their tags.

    If all were taken in one year, they are counted by month, and if in one month, by day.

    Example: ramq facets taken:2023 --archive s3://holiday
    """
    with pointing_into(query), services() as ramq:
        asked = read(ramq, replace(narrow, relevance=relevance, space=space), query, is_strict=strict)
        found = ramq.search.file_facets(not_liking(ramq, liking(ramq, asked, like), not_like), limit)
    if as_json:
        print_json(found)
        return
    groups = ((found.step, found.taken), ("camera", found.cameras), ("archive", found.archives))
    for name, group in (*groups, ("folder", found.folders), ("keyword", found.keywords)):
        if group:
            print_table((name, "images", "query"), ((each.label, each.count, each.query) for each in group))
    if found.undated:
        err().print(f"{plural(found.undated, 'image has', 'images have')} no date in the file.", style="dim")


def forget_places(
    archive: ArchiveOf = None, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Erase where images were taken, of all images or those of an archive. The originals are never touched.

    Set RAMQ_KEEP_PLACE=false for the workers too. Otherwise they store it again when they read the files.

    Example: ramq forget-places --yes
    """
    with services() as ramq:
        if not yes:
            agree("Erase where images were taken?")
        count = ramq.metadata.forget_places(archive)
    err().print(f"The places of {plural(count, 'image')} were erased.")
