"""Following steps of data sets to their ends, with a bar of progress."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.following import progress_bar
from ramq.cli.output import duration, err, print_json
from storage.texts import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.settings import Settings
    from ramq.stack import Workers
    from ramq.wiring import Services
    from storage.datasets.versions import VersionView

NameAt = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="A data set; without a number its newest version that is done.")
]
Wait = Annotated[
    bool | None,
    typer.Option("--wait/--no-wait", help="Follow the step to its end; default: on a terminal. Exit 1 if it failed."),
]

_POLL_SECONDS = 0.5
_LINE_SECONDS = 30.0
"""Between lines of progress in a log or a container, which have no terminal for a bar."""
_PHASES = {
    "gather": "reading the sources",
    "label": "collecting tags",
    "split": "choosing splits",
    "seal": "counting",
    "jobs": "recognising pictures",
    "tally": "adding up",
    "items": "copying pictures",
    "locate": "locating tags",
    "crop": "recognising regions",
    "scale": "measuring features",
    "cluster": "comparing regions",
    "correct": "correcting tags",
}
"""The phases of steps in words."""
ENDED = ("done", "cancelled", "failed", "paused")


def finish_step(ramq: Services, settings: Settings, version: VersionView, *, wait: bool | None, as_json: bool) -> None:
    """Print the version that a step began to make, and follow the step if asked. Exit 1 if it was not done.

    Args:
        ramq: the services.
        settings: the effective settings.
        version: the version.
        wait: whether to follow the step. None: on a terminal only.
        as_json: whether to print JSON.
    """
    if wait is None:
        wait = not as_json and err().is_terminal
    if wait:
        version = follow(ramq, settings, version, is_quiet=as_json)
    if as_json:
        print_json(version)
    else:
        err().print(described(version), markup=False, soft_wrap=True)
        if not wait and not any(worker.is_alive for worker in ramq.jobs.workers()):
            start = "ramq up" if settings.is_embedded else "ramq worker"
            err().print(f"No worker is running. Start one with `{start}`.", style="dim")
    if version.state == "done" and not version.counts["validation"]:
        err().print(
            f"No picture for validation: models cannot be scored on {version.name}@{version.number}. Build it with "
            "more pictures, or with a larger --validation.",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    if wait and version.state != "done":
        raise typer.Exit(1)


def described(version: VersionView) -> str:
    """Return a line on a version: how far it is, or what it has."""
    head = f"{version.name}@{version.number}  {version.step}  {version.state}"
    if version.state != "done":
        return f"{head}  {_so_far(version)}".rstrip()
    counts = version.counts
    dropped = sum(counts["dropped"].values())
    return (
        f"{head}  {counts['images']:,} images ({counts['validation']:,} for validation), {counts['kept']:,} labels of "
        f"{counts['tags']:,} tags, {dropped:,} dropped  sha256 {(version.sha256 or '')[:12]}"
    )


def follow(ramq: Services, settings: Settings, version: VersionView, *, is_quiet: bool) -> VersionView:
    """Follow a step to its end, and return the version.

    On the embedded stack, a worker is started meanwhile, if none is alive.
    """
    fleet: Workers | None = None
    with ExitStack() as cleanup:
        if settings.is_embedded and not any(worker.is_alive for worker in ramq.jobs.workers()):
            from ramq.stack import workers  # noqa: PLC0415  (only to start one)

            assert ramq.broker_url is not None
            database_url = ramq.engine.url.render_as_string(hide_password=False)
            fleet = cleanup.enter_context(workers(settings, database_url, ramq.broker_url, 1))
        progress = cleanup.enter_context(progress_bar(is_quiet=is_quiet))
        cleanup.enter_context(_interrupted_with_a_word(version))
        bar = progress.add_task(f"{version.name}@{version.number}", total=None, rate="", note="")
        told, next_line = "", time.monotonic() + _LINE_SECONDS
        while True:
            if fleet is not None:
                fleet.require_alive()
            version = ramq.datasets.get(version.id)
            left = "" if version.eta_seconds is None else f"{duration(version.eta_seconds)} left"
            progress.update(
                bar,
                total=version.tasks or None,
                completed=version.tasks_done,
                rate=" ".join(part for part in (_doing(version), left) if part),
                note=visible(version.note or ""),
            )
            line = f"{version.phase} {version.note or ''}"
            if not is_quiet and not err().is_terminal and (line != told or time.monotonic() >= next_line):
                if so_far := _so_far(version):
                    err().print(f"{version.name}@{version.number}: {so_far}", markup=False, soft_wrap=True)
                told, next_line = line, time.monotonic() + _LINE_SECONDS
            if version.state in ENDED:
                return version
            time.sleep(_POLL_SECONDS)


def _doing(version: VersionView) -> str:
    return _PHASES.get(version.phase or "", version.phase or "")


def _so_far(version: VersionView) -> str:
    parts = [_doing(version)]
    if version.tasks:
        parts.append(f"{version.tasks_done:,} of {version.tasks:,} tasks")
    if version.eta_seconds is not None:
        parts.append(f"{duration(version.eta_seconds)} left")
    if version.note:
        parts.append(visible(version.note))
    return ", ".join(part for part in parts if part)


@contextmanager
def reading_sources() -> Iterator[None]:
    """On Ctrl-C while sources are read, say that nothing is left of the version."""
    try:
        yield
    except KeyboardInterrupt:
        err().print("\nStopped while the sources were read: nothing was made.", style="dim", soft_wrap=True)
        raise


@contextmanager
def _interrupted_with_a_word(version: VersionView) -> Iterator[None]:
    """On Ctrl-C, say at once that the step goes on, before the wait for our worker begins."""
    try:
        yield
    except KeyboardInterrupt:
        err().print(
            f"\nStopped watching. The step goes on where a worker runs. See `ramq dataset show {version.name}`, or end "
            f"it with `ramq dataset cancel {version.name}`.",
            style="dim",
            soft_wrap=True,
        )
        raise
