"""Following jobs: to their ends, with a bar of progress; and what to do with their results."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ramq.cli.output import duration, err
from storage.errors import FatalError
from storage.ledger.waiting import waits_for
from storage.texts import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import Progress

    from ramq.settings import Settings
    from ramq.stack import Workers
    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from storage.ledger.worker_views import WorkerView

_POLL_SECONDS = 0.5
_LONELY_SECONDS = 10.0
_LINE_SECONDS = 30.0  # between lines of progress in a log or a container, which have no terminal for a bar


def tell_unused(ramq: Services, jobs: Sequence[JobView]) -> None:
    """Say on stderr which results of these jobs search leaves aside, and what to do about it."""
    for told in ramq.stages.unused(jobs):
        err().print(told, markup=False, soft_wrap=True)


def tell_lonely(ramq: Services, settings: Settings, view: JobView) -> None:
    """Say on stderr if a job runs, but no worker does, and what to do about it."""
    if view.state == "running" and not view.note and not any(worker.is_alive for worker in ramq.jobs.workers()):
        start = "ramq up" if settings.is_embedded else "ramq worker"
        err().print(
            f"No worker is running. Start one with `{start}`, or follow the job with `ramq job {view.id} --watch`.",
            style="dim",
            soft_wrap=True,
        )


def wait_for_end(ramq: Services, settings: Settings, job_id: int, *, is_quiet: bool) -> JobView:
    """Follow a job to its end, and return it. See ``wait_for_ends``."""
    return wait_for_ends(ramq, settings, [job_id], is_quiet=is_quiet)[0]


def wait_for_ends(ramq: Services, settings: Settings, job_ids: Sequence[int], *, is_quiet: bool) -> list[JobView]:
    """Follow jobs to their ends, one after the other, and return them.

    On the embedded stack, a worker is started while they are followed, if none is alive.
    """
    fleet: Workers | None = None
    with ExitStack() as cleanup:
        is_ours = settings.is_embedded and not any(worker.is_alive for worker in ramq.jobs.workers())
        if is_ours and not all(ramq.jobs.get(job_id).is_over for job_id in job_ids):
            from ramq.stack import workers  # noqa: PLC0415

            assert ramq.broker_url is not None
            database_url = ramq.engine.url.render_as_string(hide_password=False)
            fleet = cleanup.enter_context(workers(settings, database_url, ramq.broker_url, 1))
        return [_follow(ramq, job_ids[n:], fleet, is_quiet=is_quiet) for n in range(len(job_ids))]


@contextmanager
def _interrupted_with_a_word(job_ids: Sequence[int]) -> Iterator[None]:
    """On Ctrl-C, print at once how to go on with each job, before the wait for our worker begins."""
    try:
        yield
    except KeyboardInterrupt:
        for number, job_id in enumerate(job_ids):
            err().print(
                f"{'' if number else chr(10) + 'Stopped watching. '}Job {job_id} keeps its finished work. "
                f"Continue with `ramq job {job_id} --watch`, or end it with `ramq cancel {job_id}`.",
                style="dim",
                soft_wrap=True,
            )
        raise


def progress_bar(*, is_quiet: bool) -> Progress:
    """Return a bar whose tasks have the fields ``rate`` and ``note``. It is shown on a terminal only."""
    from rich.progress import (  # noqa: PLC0415  (needed only while waiting for a job)
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[note]}", style="yellow"),
        console=err(),
        disable=is_quiet or not err().is_terminal,
        transient=True,
    )


def _follow(ramq: Services, job_ids: Sequence[int], fleet: Workers | None, *, is_quiet: bool) -> JobView:
    """Follow the first of these jobs to its end, and return it."""
    job_id, started = job_ids[0], time.monotonic()
    # The word is the innermost, so that it is printed before any wait.
    with progress_bar(is_quiet=is_quiet) as progress, _interrupted_with_a_word(job_ids):
        task = progress.add_task(f"job {job_id}", total=None, rate="", note="")
        told, next_line = "", started
        while True:
            if fleet is not None:
                fleet.require_alive()
            view = ramq.jobs.get(job_id)
            is_idle = not view.images_per_second
            alive = [worker for worker in ramq.jobs.workers() if worker.is_alive] if is_idle or fleet else []
            is_lonely = is_idle and not alive and fleet is None and time.monotonic() - started > _LONELY_SECONDS
            note = _note(view, alive, is_lonely=is_lonely, is_starting=is_idle and fleet is not None and not alive)
            if fleet is not None and not view.has_no_work and (stuck := waits_for(view, alive)):
                # Only this user can fix it, and would not see otherwise that the job waits.
                raise FatalError(f"job {job_id} is {stuck}. Then: ramq job {job_id} --watch")
            progress.update(
                task,
                total=None if view.is_listing and not view.listed else view.listed,
                completed=view.listed - view.pending,
                rate=_rate(view) if view.listed or not note else "",
                note=note,
            )
            if not is_quiet and not err().is_terminal and (note != told or time.monotonic() >= next_line):
                counts = f"{view.listed - view.pending:,} of {view.listed:,}"
                counts += f", {view.ignored:,} ignored" if view.ignored else ""
                parts = (f"job {job_id}: {counts}", _rate(view), note)
                err().print("  ".join(part for part in parts if part), markup=False, soft_wrap=True)
                told, next_line = note, time.monotonic() + _LINE_SECONDS
            if view.is_over or view.state == "paused":
                return view
            time.sleep(_POLL_SECONDS)


def _rate(view: JobView) -> str:
    if not view.images_per_second:
        return "listing" if view.is_listing else ""
    left = f", {duration(view.eta_seconds)} left" if view.eta_seconds is not None else ""
    return f"{view.images_per_second:,.1f} images/s{', listing' if view.is_listing else left}"


def _note(view: JobView, alive: Sequence[WorkerView], *, is_lonely: bool, is_starting: bool) -> str:
    """Return the reason why a job waits, or the current step while there is no progress to show yet."""
    if view.note:
        return visible(view.note)
    if view.is_over or not (view.pending or view.is_listing):
        return ""
    if is_lonely:
        return "no worker is running; start one with `ramq worker`"
    if is_starting:
        return "starting a worker"
    if alive and not view.done and all(worker.model != view.model for worker in alive):
        return f"loading the model {view.model}"
    return ""
