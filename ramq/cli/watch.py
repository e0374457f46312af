"""``ramq watch``: archives that are listed every so often, and looked at where events say that something changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.job_options import (
    Caption,
    Defaults,
    Exclude,
    Include,
    ModelOf,
    OwnTags,
    Pages,
    Priority,
    Stages,
    selected,
    stages_named,
)
from ramq.cli.output import duration, err, out, print_json, print_table
from storage.texts import visible

if TYPE_CHECKING:
    from storage.ledger.watch_views import WatchView

app = typer.Typer(
    no_args_is_help=True,
    help="Watch archives: list them every so often, and look at once where something changed.\n\n"
    "Example: ramq watch add /mnt/photos --events inotify",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
WatchId = Annotated[int, typer.Argument(metavar="ID", help="Number of the watch.", min=1, max=2**63 - 1)]


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="watch")


@app.command()
def add(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="s3://bucket/prefix or a folder.")],
    every: Annotated[str, typer.Option(metavar="TIME", help="List everything this often: 15m, 1h, 1d.")] = "1h",
    events: Annotated[
        str,
        typer.Option(metavar="KIND", help="What tells of changes: inotify (a folder), webhook or sqs:QUEUE-URL."),
    ] = "none",
    settle: Annotated[
        float, typer.Option(metavar="SECONDS", help="Look at a key after it was quiet for this long.")
    ] = 2.0,
    model: ModelOf = None,
    caption: Caption = None,
    priority: Priority = "normal",
    vocabulary: OwnTags = None,
    stages: Stages = None,
    include: Include = None,
    exclude: Exclude = None,
    defaults: Defaults = True,
    pages: Pages = False,
    as_json: Json = False,
) -> None:
    """Watch a folder or bucket. It is listed now and then every so often; events make new pictures searchable at once.

    The workers do it, whichever is there. Prints the number of the watch. With --events webhook, also prints where the
    store has to send its events, and the secret that it has to send.

    Example: ramq watch add s3://holiday/2024 --every 1d --events sqs:https://sqs.eu-west-1.amazonaws.com/1/holiday
    """
    from ramq.services.job_wishes import JobWishes  # noqa: PLC0415  (`--help` needs none of it)

    further = stages_named(stages)
    selection = selected(include, exclude, defaults=defaults)
    with services() as ramq:
        added = ramq.watches.add(
            source,
            JobWishes(model, caption, priority, vocabulary, further, selection, pages),
            every=every,
            events=events,
            settle_seconds=settle,
            by=ramq.author,
        )
        has_worker = any(worker.is_alive for worker in ramq.jobs.workers())
    watch, secret = added
    if as_json:
        print_json({"watch": watch, "secret": secret})
        return
    out().print(watch.id)
    if secret is not None:
        _tell_secret(watch, secret)
    if not has_worker:
        err().print("No worker is running, so nothing is listed yet. Start one with `ramq worker`.", style="dim")


@app.command("list")
def list_watches(as_json: Json = False) -> None:
    """List the watches.

    Example: ramq watch list
    """
    with services() as ramq:
        found = ramq.watches.list()
    if as_json:
        print_json({"items": found})
        return
    print_table(
        ("watch", "state", "every", "events", "waiting", "listed", "next", "source"),
        (
            (w.id, w.state, duration(w.every_seconds), w.events, w.events_waiting, w.listed_at, w.next_listing_at,
             w.source)
            for w in found
        ),
        keep=("state", "source"),
        empty="Nothing is watched. Begin with `ramq watch add SOURCE`.",
    )  # fmt: skip


@app.command()
def show(watch_id: WatchId, as_json: Json = False) -> None:
    """Show a watch: its listings, its events, its last error.

    Example: ramq watch show 1
    """
    with services() as ramq:
        _show(ramq.watches.get(watch_id), as_json=as_json)


@app.command()
def pause(watch_id: WatchId, as_json: Json = False) -> None:
    """Begin no further jobs. Events in a queue stay there, and events that are sent are kept.

    Example: ramq watch pause 1
    """
    with services() as ramq:
        _show(ramq.watches.pause(watch_id), as_json=as_json)


@app.command()
def resume(watch_id: WatchId, as_json: Json = False) -> None:
    """Go on with a watch that is paused, or that waits after failures.

    Example: ramq watch resume 1
    """
    with services() as ramq:
        _show(ramq.watches.resume(watch_id), as_json=as_json)


@app.command()
def remove(watch_id: WatchId, as_json: Json = False) -> None:
    """Watch no longer. The archive, its results and the jobs stay.

    Example: ramq watch remove 1
    """
    with services() as ramq:
        view = ramq.watches.remove(watch_id)
    if as_json:
        print_json(view)
        return
    err().print(f"Watch {view.id} of {visible(view.source)} is removed.", markup=False, soft_wrap=True)


@app.command()
def secret(watch_id: WatchId, as_json: Json = False) -> None:
    """Make a new secret for the events of a watch. The old one no longer counts.

    Example: ramq watch secret 1
    """
    with services() as ramq:
        watch, new = ramq.watches.renew_secret(watch_id)
    if as_json:
        print_json({"watch": watch, "secret": new})
        return
    _tell_secret(watch, new or "")


def _tell_secret(watch: WatchView, secret: str) -> None:
    err().print(
        f"Let the store send its events to http(s)://THIS-SERVER/v1/watches/{watch.id}/events, with the secret as "
        f"bearer token. It is shown only now: {secret}",
        markup=False,
        soft_wrap=True,
    )


def _show(view: WatchView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    listing = f"every {duration(view.every_seconds)}"
    if view.listing_job is not None:
        listing += f", last by job {view.listing_job}{' (not ended)' if view.is_listing else ''}"
    lines = [
        f"watch {view.id}  {view.state}  {visible(view.source)}  model {view.model}  captions {view.captioner}",
        f"  listing: {listing}",
        f"  last ended: {view.listed_at or '-'}   next: {view.next_listing_at}",
        f"  events: {view.events}, {visible(view.events_state)}",
    ]
    if view.list_now_reason:
        lines.append(f"  everything will be listed soon: {visible(view.list_now_reason)}")
    if view.events != "none":
        oldest = f", the oldest for {duration(view.oldest_event_seconds)}" if view.events_waiting else ""
        lines.append(f"  keys that wait: {view.events_waiting:,}{oldest}")
        lines.append(f"  events: {view.events_taken:,} taken, {view.events_ignored:,} about something else")
    if view.searchable_after_seconds is not None:
        lines.append(
            f"  newest pictures searchable after {view.searchable_after_seconds:,.0f} s (job {view.event_job})"
        )
    if view.error:
        lines.append(f"  failed {view.failures} times: {visible(view.error)}")
    if view.note:
        lines.append(f"  {visible(view.note)}")
    err().print("\n".join(lines), markup=False, soft_wrap=True)
