"""Commands about jobs: enqueue, jobs, job, pause, resume, cancel, failures, retry."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.following import tell_lonely, tell_unused, wait_for_end, wait_for_ends
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
from ramq.cli.output import duration, err, escaped_json, out, print_json, print_table
from storage.errors import UsageError
from storage.objects.ignoring import default_list
from storage.texts import visible

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from ramq.settings import Settings
    from ramq.wiring import Services
    from storage.ledger.views import JobReport, JobView

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]
JobId = Annotated[int, typer.Argument(metavar="ID", help="Number of the job.", min=1)]
ClassOf = Annotated[str | None, typer.Option("--class", metavar="C", help="Only failures of this class.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (enqueue, jobs, job, pause, resume, cancel, failures, retry):
        app.command()(command)


def _tell_defaults(is_asked: bool) -> None:
    if is_asked:
        sys.stdout.write(default_list())
        raise typer.Exit


def enqueue(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="s3://bucket/prefix, a folder, or a manifest; after tar+ the members of tar files."
        ),
    ],
    model: ModelOf = None,
    caption: Caption = None,
    priority: Priority = "normal",
    vocabulary: OwnTags = None,
    stages: Stages = None,
    include: Include = None,
    exclude: Exclude = None,
    defaults: Defaults = True,
    pages: Pages = False,
    list_defaults: Annotated[  # noqa: ARG001  (its callback prints and ends)
        bool, typer.Option("--list-defaults", help="Print this list.", is_eager=True, callback=_tell_defaults)
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 1 if anything failed.")] = False,
    as_json: Json = False,
) -> None:
    """Tag and caption every image in a folder or bucket. Prints the job number.

    Images that are already recorded, in the same version and by the same model, are skipped. Known junk, such as
    Thumbs.db and sidecars, is ignored, and so is what a file .ramqignore in the archive names.

    Example: ramq enqueue s3://holiday/2024 --exclude '*.gif' --wait
    """
    settings = settings_for()
    with services(settings) as ramq:
        further = stages_named(stages)
        for told in (*ramq.stages.lacking(further), *([] if wait else ramq.stages.unused_by(further))):
            err().print(told, markup=False, soft_wrap=True)
        created = ramq.jobs.create(
            source,
            model=model,
            caption=caption,
            priority=priority,
            vocabulary=vocabulary,
            stages=further,
            selection=selected(include, exclude, defaults=defaults),
            pages=pages,
            by=ramq.author,
        )
        if vocabulary is None and created.vocabulary is not None:
            err().print(
                f"The images get the taught tags that search uses ({created.vocabulary}). --vocabulary gives others, "
                "for example the model's own.",
                markup=False,
                soft_wrap=True,
            )
        follow_started(ramq, settings, [created, *ramq.jobs.followers(created.id)], wait=wait, as_json=as_json)


def follow_started(
    ramq: Services, settings: Settings, started: Sequence[JobView], *, wait: bool, as_json: bool
) -> None:
    """Print the jobs that a command started, and wait for them if asked. Exit 1 if anything failed."""
    first = started[0]
    if not as_json:
        for created in started:
            out().print(created.id)
    if wait:
        finished = wait_for_ends(ramq, settings, [created.id for created in started], is_quiet=as_json)
        if as_json:
            print_json(finished[0] if len(finished) == 1 else {"items": finished})
        else:
            for view in finished:
                _report(view, as_json=False)
        tell_unused(ramq, finished)
        if any(view.failed or view.state != "done" for view in finished):
            raise typer.Exit(1)
        return
    if as_json:
        print_json(first if len(started) == 1 else {"items": started})
    else:
        tell_lonely(ramq, settings, first)


def jobs(
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    before: Annotated[int | None, typer.Option(help="Only jobs older than this one.", min=1, max=2**63 - 1)] = None,
    watch: Annotated[int | None, typer.Option(help="Only the jobs of this watch.", min=1, max=2**63 - 1)] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also jobs of watches that ended well and are not the newest one.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List jobs, newest first. Of the jobs of a watch that ended well, only the newest one is shown.

    Example: ramq jobs --limit 5
    """
    with services() as ramq:
        page = ramq.jobs.list(limit=limit, before=before, watch=watch, fold=watch is None and not every)
    if as_json:
        print_json(page)
        return
    print_table(
        ("job", "state", "listed", "done", "skipped", "failed", "pending", "ignored", "stage", "model", "source"),
        (
            (j.id, _state(j), j.listed, j.done, j.skipped, j.failed, j.pending, j.ignored, j.stage, j.model, j.source)
            for j in page.items
        ),
        keep=("state", "source"),
        empty="No jobs yet. Start one with `ramq enqueue SOURCE`.",
    )


def job(
    job_id: JobId,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Print the counts of all outcomes and a SHA-256 of all keys.")
    ] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="Print every key with its outcome, as JSON lines; not with --report.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a job: its counters, rate, remaining time, and the rate of each step. Or print its keys or a report.

    The hash of a report is the SHA-256 of its lines. To check it, run `ramq job 3 --lines | sha256sum`.

    Example: ramq job 3 --watch
    """
    if lines and report:
        raise UsageError("--lines and --report cannot be combined: run the command once with each of them")
    settings = settings_for()
    with services(settings) as ramq:
        if watch and (report or lines):
            wait_for_end(ramq, settings, job_id, is_quiet=as_json)
        if lines:
            _print_lines(ramq.jobs.report_lines(job_id))
            return
        if report:
            _print_report(ramq.jobs.report(job_id), as_json=as_json)
            return
        shown = wait_for_end(ramq, settings, job_id, is_quiet=as_json) if watch else ramq.jobs.get(job_id)
        _report(shown, as_json=as_json)
        if not as_json:
            tell_unused(ramq, [shown])
            tell_lonely(ramq, settings, shown)


def pause(job_id: JobId, as_json: Json = False) -> None:
    """Pause a job within one batch. Finished work is kept.

    Example: ramq pause 3
    """
    with services() as ramq:
        _report(ramq.jobs.pause(job_id), as_json=as_json)


def resume(job_id: JobId, as_json: Json = False) -> None:
    """Resume a paused or failed job.

    Example: ramq resume 3
    """
    with services() as ramq:
        _report(ramq.jobs.resume(job_id), as_json=as_json)


def cancel(job_id: JobId, as_json: Json = False) -> None:
    """Cancel a job within one batch. Recorded results stay.

    Example: ramq cancel 3
    """
    with services() as ramq:
        _report(ramq.jobs.cancel(job_id), as_json=as_json)


def failures(
    job_id: JobId,
    error_class: ClassOf = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many to show.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the previous page.")] = None,
    as_json: Json = False,
) -> None:
    """List every image that failed, with the reason.

    Example: ramq failures 3 --class truncated
    """
    with services() as ramq:
        page = ramq.jobs.failures(job_id, error_class=error_class, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    print_table(
        ("image", "class", "attempts", "key", "detail"),
        ((str(f.image_id), f.error_class, f.attempts, f.key, f.detail) for f in page.items),
        keep=("class", "key", "detail"),
        empty="No failures.",
    )
    if page.next_cursor:
        err().print(f"There are more. Next page: --cursor {page.next_cursor}", style="dim")


def retry(job_id: JobId, error_class: ClassOf = None, as_json: Json = False) -> None:
    """Retry the failed images of a job: all of them, or those of one class.

    Example: ramq retry 3 --class store_unavailable
    """
    with services() as ramq:
        _report(ramq.jobs.retry(job_id, error_class), as_json=as_json)


def _print_lines(lines: Generator[bytes, None, None]) -> None:
    """Print the lines of a report: as they are, since there is a hash of them, but not to a terminal."""
    with closing(lines):  # the reader may close the pipe, and the transaction must end before the services do
        if sys.stdout.isatty():
            sys.stdout.writelines(escaped_json(line.decode()) for line in lines)
        else:
            sys.stdout.buffer.writelines(lines)


def _print_report(report: JobReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    classes = _numbers(report.failures_by_class)
    rows = {
        "job": f"{report.job_id}  {report.state}"
        + ("" if report.is_final else "  (not final: this report will change)"),
        "source": report.source,
        "archive": report.archive,
        "generation": f"{report.generation_id or '-'}  model {report.model}  weights {report.weights_sha256 or '-'}",
        "listed": f"{report.listed:,}",
        "done": f"{report.done:,}",
        "skipped": f"{report.skipped:,}",
        "failed": f"{report.failed:,}" + (f"  ({classes})" if classes else ""),
        "pending": f"{report.pending:,}",
        "ignored": f"{report.ignored:,}" + (f"  ({_numbers(report.ignored_by_reason)})" if report.ignored else ""),
        "not whole": _odd(report),
        "first key": report.first_key or "-",
        "last key": report.last_key or "-",
        "lines": f"{report.lines:,}  (without {report.folder_markers:,} folder markers and {report.erased:,} erased)",
        "sha256": report.sha256,
    }
    for name, value in rows.items():
        if value:
            sys.stdout.write(f"{name:<11} {visible(value)}\n")


def _odd(report: JobReport) -> str:
    """Return how many pictures were not read as a whole; nothing if all were."""
    told = {
        "cut short": report.truncated,
        "long, in parts": report.tiled,
        "the first of several pages": report.first_pages,
        "pages beyond RAMQ_PAGES_MOST": report.pages_left_out,
    }
    return _numbers({name: count for name, count in told.items() if count})


def _numbers(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items())


def _rounded(rate: float) -> str:
    """Return a rate with the digits that matter: reading a page of small print takes seconds."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _state(view: JobView) -> str:
    if not view.is_listing:
        return view.state
    return f"listing by {view.listers} workers" if view.listers > 1 else "listing"


def _ignored(view: JobView) -> list[str]:
    if not view.ignored:
        return []
    lines = [f"  ignored {view.ignored:,}: {_numbers(view.ignored_by_reason)}   (ramq job {view.id} --lines)"]
    if "sidecar" in view.ignored_by_reason:
        lines.append("  sidecars are no pictures; in folders and buckets, XMP is read for the pictures beside it")
    if view.listed or not view.is_over:
        return lines
    return [*lines, "  nothing else is there; to have it read: --include, --exclude, --no-defaults, or .ramqignore"]


def _origin(view: JobView) -> list[str]:
    """Return what a job belongs to."""
    lines = []
    if view.query is not None:
        lines.append(f"  images: {visible(view.query) or 'a search'}")
    if view.with_job is not None:
        lines.append(f"  together with job {view.with_job}")
    if view.watch is not None:
        lines.append(f"  of watch {view.watch}{', on keys that events named' if view.of_keys else ''}")
    if view.followers:
        lines.append(f"  further stages: job {', '.join(map(str, view.followers))}")
    return lines


def _report(view: JobView, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    kind = f"captions {view.captioner}" if view.stage == "recognition" else f"stage {view.stage}"
    lines = [f"job {view.id}  {_state(view)}  {visible(view.source)}  model {view.model}  {kind}"]
    lines += [f"  started by {view.said_by}"] * bool(view.said_by)
    lines += _origin(view)
    lines.append(
        f"  listed {view.listed:,} = done {view.done:,} + skipped {view.skipped:,} + failed {view.failed:,} "
        f"+ pending {view.pending:,}"
    )
    lines += [f"  copied {view.copied:,}: done with the results of images with the same bytes"] * bool(view.copied)
    if view.images_per_second:
        left = f", {duration(view.eta_seconds)} left" if view.eta_seconds is not None else ""
        lines.append(f"  {view.images_per_second:,.1f} images/s{left}")
    if view.stages:
        stages = ", ".join(f"{s.stage} {_rounded(s.images_per_second)}" for s in view.stages if s.images_per_second)
        lines.append(f"  maximum rate per step, images/s: {stages}; bottleneck: {view.bottleneck}")
    if view.failures_by_class:
        lines.append(f"  failed: {_numbers(view.failures_by_class)}   (ramq failures {view.id})")
    lines += _ignored(view)
    if view.note:
        lines.append(f"  {visible(view.note)}")
    if view.webhook:
        lines.append(f"  webhook: {visible(view.webhook)}")
    err().print("\n".join(lines), markup=False)
