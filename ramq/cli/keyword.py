"""``ramq keyword``: words that people give images; and the undoing of what they did."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.named_images import image_ids
from ramq.cli.output import agree, err, print_json, print_table
from ramq.cli.search import ArchiveOf, Json, not_empty, pointing_into
from storage.errors import UsageError
from storage.search.views import SearchQuery
from storage.texts import plural, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ramq.wiring import Services
    from storage.results.keyword_acts import ActView

app = typer.Typer(
    no_args_is_help=True,
    help="Give images keywords, remove or rename them, and undo it.\n\n"
    "Example: ramq keyword add wedding --query 'taken:2023-06-17'",
)

Words = Annotated[list[str], typer.Argument(metavar="WORD…", help="Keywords; one of several words in quotes.")]
Images = Annotated[
    list[str] | None,
    typer.Option("--image", metavar="IMAGE", help="An image: number, key or URI; @FILE: one a line. Repeatable."),
]
QueryOf = Annotated[
    str | None,
    typer.Option(
        "--query", metavar="Q", help="All images that this search finds now. It must be valid.", callback=not_empty
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Act = Annotated[int, typer.Argument(metavar="ID", min=1, help="As `ramq keyword history` numbers it.")]


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="keyword")


@app.command()
def add(
    words: Words,
    images: Images = None,
    query: QueryOf = None,
    with_tags: Annotated[
        bool, typer.Option("--with-tags", help="Also add the tags that have these names, as corrections.")
    ] = False,
    archive: ArchiveOf = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give keywords to images: to those that are named, or to all that a search finds.

    Example: ramq keyword add "Anna's wedding" garden --image 12 --image 13

    Example: ramq keyword add wedding --query 'taken:2023-06-17 archive:1' --yes
    """
    with pointing_into(query), services() as ramq:
        named = ramq.keywords.tags_named(words)
        if query is None:
            act = ramq.keywords.begin(_named(ramq, images, archive), add=words, with_tags=with_tags, by=ramq.author)
        else:
            asked = _asked(ramq, query, images, archive)
            act = ramq.keywords.begin_for_all(
                asked, add=words, asked=_told(query, archive), with_tags=with_tags, by=ramq.author
            )
            _confirm(ramq, act, yes=yes)
        done = _carry_out(ramq, act, as_json=as_json)
    if named and not with_tags:
        tags = ", ".join(f'"{one.word}" is the tag "{one.tag}" of this model' for one in named)
        err().print(
            f"{visible(tags)}. A keyword does not correct the tag; --with-tags does both.",
            markup=False,
            soft_wrap=True,
        )
    _tell(done, as_json=as_json)


@app.command()
def remove(
    words: Words,
    images: Images = None,
    query: QueryOf = None,
    from_all: Annotated[bool, typer.Option("--all", help="From all images that have them.")] = False,
    archive: ArchiveOf = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove keywords that people gave. Those in files stay, and the answer says how many images have them there.

    Example: ramq keyword remove draft --image 12

    Example: ramq keyword remove draft --query 'archive:1'
    """
    from ramq.services.keywords import in_files_told  # noqa: PLC0415  (it loads numpy)
    from storage.results.keyword_acts import IMAGES_AT_ONCE  # noqa: PLC0415

    concerned: Iterable[Sequence[int]] | None
    with pointing_into(query), services() as ramq:
        if from_all:
            if query is not None or images or archive is not None:
                raise UsageError("--all is about every image: omit --query, --image and --archive")
            act, concerned = ramq.keywords.begin_removal(words, ramq.author), None
            _confirm(ramq, act, yes=yes)
        elif query is None:
            ids = _named(ramq, images, archive)
            act, concerned = ramq.keywords.begin(ids, remove=words, by=ramq.author), [sorted(set(ids))]
        else:
            asked = _asked(ramq, query, images, archive)
            act = ramq.keywords.begin_for_all(asked, remove=words, asked=_told(query, archive), by=ramq.author)
            concerned = ramq.search.id_batches(asked, IMAGES_AT_ONCE)
            _confirm(ramq, act, yes=yes)
        done = _carry_out(ramq, act, as_json=as_json)
        left = in_files_told(ramq.keywords.in_files(words, concerned), words)
    _tell(done, as_json=as_json)
    if left:
        err().print(visible(left), markup=False, soft_wrap=True)


@app.command()
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD")],
    new: Annotated[str, typer.Argument(metavar="NEW")],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give all images that have one keyword another one instead. Keywords in files stay as they are.

    Example: ramq keyword rename brige bridge
    """
    with services() as ramq:
        act = ramq.keywords.begin_rename(old, new, ramq.author)
        _confirm(ramq, act, yes=yes)
        done = _carry_out(ramq, act, as_json=as_json)
    _tell(done, as_json=as_json)


@app.command("list")
def list_keywords(
    beginning: Annotated[str, typer.Argument(metavar="[BEGINNING]", help="Only those that begin so.")] = "",
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500)] = 100,
    cursor: Annotated[int, typer.Option(help="next_cursor of the previous page.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """List the keywords that people gave, with the numbers of their images.

    Example: ramq keyword list wed
    """
    with services() as ramq:
        page = ramq.keywords.list(beginning, limit=limit, offset=cursor)
    if as_json:
        print_json({"items": page.items, "next_cursor": page.next_cursor})
        return
    print_table(
        ("keyword", "images"),
        ((one.word, one.images) for one in page.items),
        empty="No keywords. `ramq keyword add` gives them; facets count those in files.",
    )
    if page.next_cursor:
        err().print(f"Next page: --cursor {page.next_cursor}", style="dim", soft_wrap=True)


@app.command()
def history(
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500)] = 50,
    cursor: Annotated[int | None, typer.Option(help="next_cursor of the previous page.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """List who gave, removed and renamed keywords when, the newest first.

    Example: ramq keyword history --limit 10
    """
    with services() as ramq:
        page = ramq.keywords.history(limit=limit, before=cursor)
    if as_json:
        print_json({"items": page.items, "next_cursor": page.next_cursor})
        return
    print_table(
        ("id", "when", "who", "what", "images", "changed", "state", "search"),
        (
            (str(act.id), act.said_at, act.said_by, act.what, act.images, act.changed, act.state_in_words, act.query)
            for act in page.items
        ),
        keep=("what",),
        empty="Nobody has given a keyword yet.",
    )
    if page.next_cursor:
        err().print(f"Next page: --cursor {page.next_cursor}", style="dim", soft_wrap=True)


@app.command()
def undo(act_id: Act, as_json: Json = False) -> None:
    """Undo what was done at one time. Images then have the keywords that they would have without it.

    What others did before it or since stays.

    Example: ramq keyword undo 7
    """
    with services() as ramq:
        done = _carry_out(ramq, ramq.keywords.begin_undo(act_id, ramq.author), as_json=as_json)
    _tell(done, as_json=as_json)


@app.command()
def redo(act_id: Act, as_json: Json = False) -> None:
    """Do again what was undone. Images then have the keywords that they would have if it had not been undone.

    Example: ramq keyword redo 7
    """
    with services() as ramq:
        done = _carry_out(ramq, ramq.keywords.begin_redo(act_id, ramq.author), as_json=as_json)
    _tell(done, as_json=as_json)


@app.command("continue")
def go_on(act_id: Act, as_json: Json = False) -> None:
    """Do the rest of what was interrupted.

    Example: ramq keyword continue 7
    """
    with services() as ramq:
        done = _carry_out(ramq, ramq.keywords.act(act_id), as_json=as_json)
    _tell(done, as_json=as_json)


def _named(ramq: Services, images: Sequence[str] | None, archive: str | None) -> list[int]:
    if not images:
        raise UsageError("say which images: --image IMAGE, or --query Q for all that a search finds")
    return image_ids(ramq, images, archive)


def _asked(ramq: Services, query: str, images: Sequence[str] | None, archive: str | None) -> SearchQuery:
    if images:
        raise UsageError("--image and --query cannot be combined; omit one of them")
    # A search that is read otherwise than meant would change the wrong images, so it must be valid.
    return ramq.search.read(SearchQuery(archive=archive), query, is_strict=True)


def _told(query: str, archive: str | None) -> str:
    """Return the search for the history."""
    return query if archive is None else f"{query} --archive {shlex.quote(archive)}"


def _confirm(ramq: Services, act: ActView, *, yes: bool) -> None:
    """Ask whether to do an act. If the answer is no, it is forgotten."""
    if yes:
        return
    try:
        agree(f"{act.what[0].upper()}{act.what[1:]} ({plural(act.images, 'image')})?")
    except BaseException:
        ramq.keywords.give_up(act.id)
        raise


def _carry_out(ramq: Services, act: ActView, *, as_json: bool) -> ActView:
    """Do an act, or undo it, with a bar of progress. On Ctrl-C say how far it is and how to go on."""
    seen = act
    with _bar(act, is_quiet=as_json) as advance:

        def progress(now: ActView) -> None:
            nonlocal seen
            seen = now
            advance(now)

        try:
            return ramq.keywords.go_on(act.id, progress=progress)
        except KeyboardInterrupt:
            how = "being undone" if seen.state == "undoing" else f"{seen.seen:,} of {plural(seen.images, 'image')} done"
            err().print(
                f"Stopped: {how}. `ramq keyword continue {act.id}` does the rest, and `ramq keyword undo {act.id}` "
                "takes back what was done.",
                soft_wrap=True,
            )
            raise


@contextmanager
def _bar(act: ActView, *, is_quiet: bool) -> Iterator[Callable[[ActView], None]]:
    if is_quiet or not err().is_terminal:
        yield lambda _now: None
        return
    from rich.progress import Progress  # noqa: PLC0415  (only a terminal needs it)

    is_undoing = act.state == "undoing"
    with Progress(console=err(), transient=True) as bar:
        task = bar.add_task("undoing" if is_undoing else "images", total=None if is_undoing else act.images)
        yield lambda now: bar.update(task, completed=now.seen)


def _tell(done: ActView, *, as_json: bool) -> None:
    if as_json:
        print_json(done)
    elif done.state == "undone":
        err().print(
            f"Undone: {done.what} ({plural(done.changed, 'image')}). `ramq keyword redo {done.id}` does it again.",
            markup=False,
            soft_wrap=True,
        )
    else:
        err().print(
            f"{plural(done.changed, 'image')} of {done.images:,} changed. `ramq keyword undo {done.id}` takes it back.",
            markup=False,
            soft_wrap=True,
        )
    if done.full and done.state == "done":
        from storage.results.keywords import MAX_OF_IMAGE  # noqa: PLC0415

        err().print(
            f"{plural(done.full, 'image')} would have more than {MAX_OF_IMAGE} keywords and stayed as they were.",
            soft_wrap=True,
        )
        raise typer.Exit(1)
