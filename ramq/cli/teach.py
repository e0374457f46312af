"""``ramq teach``: name a new thing, or mend a tag, on a few pictures."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.following import tell_unused, wait_for_ends
from ramq.cli.output import err, out, print_json, print_table
from ramq.cli.search import ArchiveOf, Json  # noqa: TC001  (typer reads the annotations)
from storage.errors import UsageError
from storage.texts import plural, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ram_core.teaching.measures import Measure, Share
    from ramq.services.teach_views import Suggestions, Taught, TeachReport
    from ramq.wiring import Services
    from storage.results.teachings import TaughtTag

_METHODS = {
    "head": "kept features",
    "own+head": "kept features and the model's score",
    "threshold": "the model's score",
    "description": "the tag's name",
}

_APPLIES = {"--precision", "--apply", "--skip-missing", "--wait"}
_TAKEN = {
    "TAG": {"--yes", "--no", "--archive", *_APPLIES},
    "--suggest": {"--yes", "--no", "--archive"},
    "--from-corrections": {"--least", *_APPLIES},
    "--list": set[str](),
}
"""The options that each way to use the command takes."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(teach)


def teach(
    tag: Annotated[str | None, typer.Argument(metavar="[TAG]", help="A new name, or a tag to mend.")] = None,
    yes: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE", help="An image of this kind: number, key or URI; @FILE: one a line. Repeatable."),
    ] = None,
    no: Annotated[list[str] | None, typer.Option(metavar="IMAGE", help="An image that is not. Repeatable.")] = None,
    from_corrections: Annotated[
        bool, typer.Option("--from-corrections", help="All tags that people added to enough images.")
    ] = False,
    least: Annotated[
        int | None, typer.Option(min=5, help="With --from-corrections: how many are enough; 5 if not given.")
    ] = None,
    precision: Annotated[
        float | None,
        typer.Option(min=0.5, max=0.99, help="Share of the images with the tag that shall be right; 0.9 if not given."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Give the tag to all recorded images; reads none.")] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="With --apply: leave out images whose features are not kept.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="With --apply: wait for the end of the jobs.")] = False,
    suggest: Annotated[
        int | None, typer.Option(min=1, max=500, metavar="N", help="Name N images to label next instead.")
    ] = None,
    show_taught: Annotated[bool, typer.Option("--list", help="List the tags that were taught.")] = False,
    archive: ArchiveOf = None,
    as_json: Json = False,
) -> None:
    """Teach a tag on five pictures or more. Without --apply, only show what it would do on held-out pictures.

    Corrections of the tag count as pictures too. --apply keeps the answers, and makes a new generation of results.
    Run `ramq generations use` to search it, and `ramq generations rollback` to take it back. --archive only tells which
    images keys name.

    Example: ramq teach "our logo" --yes 12 --yes 31 --yes 44 --yes 45 --yes 78 --no 13 --apply --wait
    """
    _require_one_way(tag, from_corrections=from_corrections, show_taught=show_taught, suggest=suggest)
    given = {
        "--yes": yes,
        "--no": no,
        "--archive": archive,
        "--least": least is not None,
        "--precision": precision is not None,
        "--apply": apply,
        "--skip-missing": skip_missing,
        "--wait": wait,
    }
    way = "--list" if show_taught else "--from-corrections" if from_corrections else "TAG"
    _refuse_unused("--suggest" if suggest is not None else way, {name for name, value in given.items() if value})
    settings = settings_for()
    with services(settings) as ramq:
        if show_taught:
            _tell_taught(ramq.teaching.taught(), as_json=as_json)
            return
        named = [_ids(ramq, images or (), archive) for images in (yes, no)]
        if suggest is not None:
            found = ramq.teaching_by_name.suggest(tag or "", suggest, yes=named[0], no=named[1])
            keys = {} if as_json else {one.image_id: ramq.images.get(one.image_id).key for one in found.images}
            _tell_suggestions(found, keys, as_json=as_json)
            return
        from ramq.services.teach_views import Wanted  # noqa: PLC0415
        from ramq.services.teaching import LEAST, PRECISION  # noqa: PLC0415

        wanted = ramq.teaching.corrected(least or LEAST) if tag is None else [Wanted(tag, *named)]
        done = ramq.teaching_by_name.teach(
            wanted, precision=precision or PRECISION, apply=apply, skip_missing=skip_missing, by=ramq.author
        )
        if not as_json:
            for report in done.reports:
                _tell(report)
            for warning in done.warnings:
                err().print(f"{warning}.", markup=False, soft_wrap=True)
            _tell_applied(done)
        jobs = done.jobs
        if wait and jobs:
            jobs = wait_for_ends(ramq, settings, [job.id for job in jobs], is_quiet=as_json)
            tell_unused(ramq, jobs)
    if as_json:
        print_json({"items": done.reports, "vocabulary": done.vocabulary, "jobs": jobs, "warnings": done.warnings})
    if wait and any(job.failed or job.state != "done" for job in jobs):
        raise typer.Exit(1)


def _require_one_way(tag: str | None, *, from_corrections: bool, show_taught: bool, suggest: int | None) -> None:
    ways = [tag is not None, from_corrections, show_taught]
    if sum(ways) != 1:
        raise UsageError("give a TAG with --yes IMAGE, or --from-corrections, or --list")
    if suggest is not None and tag is None:
        raise UsageError("--suggest needs a TAG")


def _refuse_unused(way: str, given: set[str]) -> None:
    """Raise ``UsageError`` if an option would be ignored."""
    unused = sorted(given - _TAKEN[way])
    if unused:
        raise UsageError(f"{' and '.join(unused)} cannot be used with {way}; leave it out")
    for option in ("--wait", "--skip-missing"):
        if option in given and "--apply" not in given:
            raise UsageError(f"{option} is about the jobs that --apply starts; add --apply, or leave it out")


def _ids(ramq: Services, given: Sequence[str], archive: str | None) -> list[int]:
    """Return the images that numbers, keys, URIs and files of these name."""
    named: list[str] = []
    for each in given:
        if not each.startswith("@"):
            named.append(each)
            continue
        try:
            named += [line.strip() for line in Path(each[1:]).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{each[1:]} cannot be read as text: {error}") from error
    return list(dict.fromkeys(ramq.images.find_all(named, archive)))


def _tell(report: TeachReport) -> None:
    err().print(
        f"{report.tag} ({'new' if report.is_new else 'mended'}), by {_METHODS[report.method]}: "
        f"{report.yes} yes, {report.no} no, {report.unnamed:,} others taken at random"
        + (f" ({plural(report.left_out, 'named picture')} left out)" if report.left_out else ""),
        markup=False,
    )
    rows: list[tuple[str, Measure | None, str]] = [
        ("before", report.before, ""),
        ("after", report.after, _METHODS[report.method]),
    ]
    others = [("also tried", way.measure, _METHODS[way.method]) for way in report.ways if way.method != report.method]
    print_table(
        ("", "precision", "recall", "average precision", "images", "by"),
        [
            (
                name,
                _share(measure.precision),
                _share(measure.recall),
                f"{measure.average_precision:.2f}",
                f"{measure.images:,}",
                by or None,
            )
            if measure
            else (name, "no such tag" if report.is_new else "not comparable", None, None, None, None)
            for name, measure, by in [*rows, *others]
        ],
    )
    if report.gains_nothing:
        err().print("This gains nothing: the tag is as good as before.", markup=False, soft_wrap=True)
    err().print(f"{report.advice}.", markup=False, soft_wrap=True)


def _share(share: Share) -> str:
    if share.value is None:
        return "none found"
    return f"{share.value:.2f} ({share.low:.2f} to {share.high:.2f})"


def _tell_applied(done: Taught) -> None:
    if done.vocabulary is None:
        err().print("Nothing was changed; --apply gives the tags to all recorded images.", style="dim")
        return
    if not done.jobs:
        err().print(f"Nothing new: search uses {done.vocabulary} already.", markup=False)
        return
    for job in done.jobs:
        out().print(job.id)
    err().print(
        f"The tags are in the vocabulary {done.vocabulary}. Without reading a picture, "
        f"{plural(len(done.jobs), 'job applies', 'jobs apply')} it.",
        markup=False,
        soft_wrap=True,
    )


def _tell_suggestions(found: Suggestions, keys: Mapping[int, str], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_table(
        ("image", "score", "key"),
        ((str(one.image_id), f"{one.score:.2f}", visible(keys[one.image_id])) for one in found.images),
        keep=("image", "score"),
    )
    err().print(f"{found.advice}.", markup=False, soft_wrap=True)
    if found.images:
        err().print(
            f"Look at them (`ramq show {found.images[0].image_id}`), and say which show it: "
            f"`ramq teach {shlex.quote(found.tag)} --yes IMAGE --no IMAGE`, beside those that you named before.",
            markup=False,
            soft_wrap=True,
        )


def _tell_taught(tags: Sequence[TaughtTag], *, as_json: bool) -> None:
    if as_json:
        print_json({"items": tags})
        return
    print_table(
        ("tag", "by", "yes", "no", "vocabulary", "generations", "in use", "taught by"),
        (
            (
                one.tag,
                _METHODS[one.method],
                str(one.yes),
                str(one.no),
                one.vocabulary,
                ", ".join(map(str, one.generations)) or None,
                "yes" if one.is_serving else None,
                one.said_by,
            )
            for one in tags
        ),
    )
