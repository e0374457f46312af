"""``ramq dataset review``: what people say of the tags that steps dropped or added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.output import err, print_json, print_table
from ramq.cli.search import Json, not_empty
from storage.errors import UsageError
from storage.texts import plural

if TYPE_CHECKING:
    from ramq.wiring import Services
    from storage.datasets.review_views import Decision, Said, Tally
    from storage.page import Page


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(review)


def review(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME[@VERSION]", help="A data set; without a number its newest version that is done."),
    ],
    tag: Annotated[str | None, typer.Argument(metavar="TAG", help="Show what waits of this tag.")] = None,
    added: Annotated[bool, typer.Option("--added", help="What was added; default: what was dropped.")] = False,
    confirm: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE", help="The step was right about TAG in this image; repeatable."),
    ] = None,
    reject: Annotated[list[str] | None, typer.Option(metavar="IMAGE", help="It was wrong; repeatable.")] = None,
    undo: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE", help="Undo your answer, and its correction; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Tags or images to list.")] = 20,
    cursor: Annotated[
        str | None, typer.Option(metavar="C", help="Go on after the images that were listed.", callback=not_empty)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which dropped and added tags wait for a person, and how many were right; or answer.

    Answers become corrections of the images. `ramq web` shows them as pictures, under Data sets.

    Example: ramq dataset review pets

    Example: ramq dataset review pets dog --confirm 12 --confirm 15
    """
    asked = {"--confirm": (confirm, True), "--reject": (reject, False), "--undo": (undo, None)}
    given = {option: answer for option, answer in asked.items() if answer[0]}
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are different answers; give one of them at a time")
    if given and tag is None:
        raise UsageError(f"{next(iter(given))} is about a tag; name it after the data set")
    if given and added:
        raise UsageError(f"{next(iter(given))} answers what was dropped and what was added alike; leave out --added")
    if cursor is not None and (given or tag is None):
        raise UsageError("--cursor is for listing what waits of a tag; name the tag, and give no answer")
    with services() as ramq:
        if given:
            [(images, is_right)] = given.values()
            image_ids = [ramq.images.find(image) for image in images or ()]
            said = ramq.reviews.say(name, tag or "", image_ids, is_right=is_right, by=ramq.author)
            _print_said(said, is_right=is_right, as_json=as_json)
        elif tag is None:
            _print_progress(ramq, name, limit, as_json=as_json)
        else:
            page = ramq.reviews.waiting(name, tag, "added" if added else "dropped", limit=limit, cursor=cursor)
            _print_waiting(page, as_json=as_json)


def _print_said(said: Said, *, is_right: bool | None, as_json: bool) -> None:
    if as_json:
        print_json(said)
        return
    done = {True: "confirmed", False: "rejected", None: "undone"}[is_right]
    err().print(f"{plural(len(said.image_ids), 'image')} of {said.tag} {done}.", markup=False)
    for other in said.others:
        earlier = "confirmed" if other.is_right else "rejected"
        err().print(f"Image {other.image_id} was {earlier} before by {other.said_by}; that stays.", markup=False)


def _print_progress(ramq: Services, name: str, limit: int, *, as_json: bool) -> None:
    found = ramq.reviews.progress(name)
    if as_json:
        print_json(found)
        return
    print_table(
        ("tag", "dropped", "to review", "right", "added", "to review", "right"),
        ((tag.name, *_tally(tag.dropped), *_tally(tag.added)) for tag in found.tags[:limit]),
        keep=("tag",),
        empty="No step of this version dropped a tag, or added one.",
    )
    if len(found.tags) > limit:
        err().print(f"{plural(len(found.tags) - limit, 'more tag')}; --limit shows more.", style="dim")
    for what, tally in (("Dropped", found.dropped), ("Added", found.added)):
        share = "" if tally.agreement is None else f", {tally.agreement:.0%} of these right"
        err().print(f"{what}: {tally.waiting:,} to review, {tally.reviewed:,} reviewed{share}.")
    for person in found.people:
        err().print(f"{person.said_by}: {person.reviewed:,} reviewed, {person.right:,} found right.", markup=False)


def _tally(tally: Tally) -> tuple[int, int, str | None]:
    right = None if tally.agreement is None else f"{tally.right:,} of {tally.reviewed:,}"
    return tally.waiting + tally.reviewed, tally.waiting, right


def _print_waiting(page: Page[Decision], *, as_json: bool) -> None:
    if as_json:
        print_json({"items": page.items, "next_cursor": page.next_cursor})
        return
    print_table(
        ("image", "key", "reason", "certainty", "origins"),
        (_row(one) for one in page.items),
        keep=("image",),
        empty="Nothing to review.",
    )
    if page.next_cursor:
        err().print(f"There are more: --cursor {page.next_cursor}", style="dim", soft_wrap=True)


def _row(one: Decision) -> tuple[int, str, str | None, float | None, str]:
    certainty = None if one.certainty is None else round(one.certainty, 3)
    return one.image_id, one.key, one.reason, certainty, ", ".join(one.origins)
