"""Commands that erase results: delete, erasures, forget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services
from ramq.cli.erase_again import erase_again
from ramq.cli.erase_stop import stopped_with_a_word
from ramq.cli.output import agree, as_data, err, out, print_json, print_table
from ramq.cli.search import ArchiveOf, Json, not_empty
from storage.errors import FatalError, RamqError, UsageError
from storage.texts import plural, visible

if TYPE_CHECKING:
    from ramq.services.erasures import Doomed
    from ramq.wiring import Services
    from storage.results.erasure_views import DeletionReport, ErasureReport, Trace


ReportTo = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a verification report to FILE.")]
KeepKeys = Annotated[
    bool, typer.Option("--keys", help="Keep the keys for reports; without this option they are erased too.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (delete, erasures, forget):
        app.command()(command)


def delete(
    images: Annotated[list[str] | None, typer.Argument(metavar="IMAGE", help="Numbers, keys or URIs.")] = None,
    prefix: Annotated[
        str | None, typer.Option(metavar="P", help="Every image whose key starts with P.", callback=not_empty)
    ] = None,
    archive: ArchiveOf = None,
    everything: Annotated[bool, typer.Option("--all", help="Every image of the archive.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="After a restore: what was deleted since the backup was taken.")
    ] = False,
    wrong: Annotated[
        list[str] | None,
        typer.Option("--except", metavar="N", help="With --again: deletion N was wrong; its images stay."),
    ] = None,
    renamed: Annotated[
        bool, typer.Option("--renamed", help="With --again: also images that have another name now.")
    ] = False,
    report: ReportTo = None,
    keys: KeepKeys = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Erase results, vectors and index entries of images. The originals are never touched.

    The image of a file with pages is its first page: with it go all of them. If interrupted, `ramq erasures 7
    --resume` goes on. Deletions are logged beside the index. `ramq delete --again` reads this log after a restore.

    Example: ramq delete --prefix 2019/private/ --archive s3://holiday --report erased.json --yes
    """
    _require_sense(images, prefix, archive, everything=everything, again=again, only_again=bool(wrong or renamed))
    if again and keys:
        raise UsageError("the log of deletions has no keys: leave out --keys")
    if report is not None:
        require_writable(report)
    damaged: list[str] = []
    done: DeletionReport | None
    with services() as ramq:
        if again:
            done, damaged = erase_again(ramq, wrong or [], renamed=renamed, yes=yes, as_json=as_json)
        elif images:
            if not yes:
                doomed = ramq.erasures.count(images, archive)
                images = [str(image_id) for image_id in doomed.ids]
                agree(f"Erase the results of {_said(doomed)}?")
            with stopped_with_a_word():
                done = ramq.erasures.delete(images, archive, by=ramq.author, keeps_keys=keys)
        else:
            if not yes:
                count = ramq.erasures.count_below(prefix or "", archive)
                agree(f"Erase the results of {plural(count, 'image')}?")
            with stopped_with_a_word():
                done = ramq.erasures.delete_below(prefix or "", archive, by=ramq.author, keeps_keys=keys)
        if done is not None:
            tell_done(done, as_json=as_json)
            if report is not None:
                prove(ramq, done, report)
    if damaged:
        raise FatalError(
            "what the damaged files of the log name was not erased: copy them from a backup to `erasures` in "
            "RAMQ_INDEX_URL and run this again, or remove them"
        )


def _require_sense(
    images: list[str] | None,
    prefix: str | None,
    archive: str | None,
    *,
    everything: bool,
    again: bool,
    only_again: bool,
) -> None:
    """Raise ``UsageError`` unless exactly one way of naming images was used, with its own options."""
    if sum((bool(images), prefix is not None, everything, again)) != 1:
        raise UsageError("name the images to delete, or give --prefix, or --archive and --all, or --again")
    if everything and archive is None:
        raise UsageError("--all needs an archive; name it with --archive")
    if only_again and not again:
        raise UsageError("--except and --renamed need --again")
    if again and archive is not None:
        raise UsageError("--again erases what the log of deletions names, in every archive: leave out --archive")


def _said(doomed: Doomed) -> str:
    """Return in words what a deletion would erase."""
    parts = [plural(doomed.images, "image")] if doomed.images else []
    if doomed.files:
        parts.append(f"{plural(doomed.files, 'file')} with {plural(doomed.pages, 'page')}")
    return " and ".join(parts)


def erasures(
    number: Annotated[
        int | None, typer.Argument(metavar="[N]", help="Only deletion N; without it, all.", show_default=False)
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Look for traces in every table and every file.")] = False,
    keys: Annotated[bool, typer.Option("--keys", help="With --verify --json: list the ids, and keys if kept.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with deletion N, which was interrupted.")] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="End deletion N, which was interrupted: its other images stay.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the deletions. With --verify, look for traces of the erased images.

    Exit 1 if traces are left, or if a place cannot be asked, such as a shadow of the index that does not answer.

    Example: ramq erasures --verify
    """
    if resume or withdraw:
        _change(number, resume=resume, withdraw=withdraw, verify=verify, as_json=as_json)
        return
    with services() as ramq:
        listed, away = ramq.erasures.list(number), dict[str, str]()
        reports = [ramq.erasures.verify(each.id, tells_images=keys, away=away) for each in listed if verify]
    if as_json:
        print_json({"items": reports if verify else listed})
    else:
        print_table(
            ("deletion", "asked by", "started", "finished", "kind", "archive", "images", "hash of ids"),
            (
                (str(d.id), d.said_by, d.begun_at, d.finished_at, d.kind, d.archive, d.images, d.sha256[:12])
                for d in listed
            ),
        )
        for report in reports:
            _tell(report)
    if not all(report.is_clean for report in reports):
        raise typer.Exit(1)


def _change(number: int | None, *, resume: bool, withdraw: bool, verify: bool, as_json: bool) -> None:
    """Go on with a deletion, or withdraw it."""
    if number is None or resume + withdraw + verify != 1:
        raise UsageError("name one deletion, as in `ramq erasures 7 --resume` or `ramq erasures 7 --withdraw`")
    with services() as ramq:
        if resume:
            with stopped_with_a_word():
                tell_done(ramq.erasures.resume(number), as_json=as_json)
            return
        was = ramq.erasures.withdraw(number)
    erased = len(was.erased_ids)
    if as_json:
        print_json({"deletion_id": number, "erased": erased, "stay": was.stay})
        return
    done = (
        f"{erased:,} of {plural(was.deletion.images, 'image')} were erased before" if erased else "nothing was erased"
    )
    err().print(f"Deletion {number} is withdrawn: {done}. {plural(was.stay, 'image')} stayed.")


def forget(
    generation: Annotated[
        int, typer.Option(metavar="G", min=1, max=2**15 - 1, help="The generation whose results to erase.")
    ],
    archive: ArchiveOf = None,
    prefix: Annotated[
        str | None, typer.Option(metavar="P", help="Only images whose keys start with P.", callback=not_empty)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, even if this generation is in use.")] = False,
    as_json: Json = False,
) -> None:
    """Erase the results of a generation: records, vectors, features. Keys and manual corrections stay.

    Example: ramq forget --generation 2 --archive s3://holiday --yes
    """
    with services() as ramq:
        if not yes:
            agree(f"Erase the results of generation {generation}?")
        done = ramq.generations.forget(generation, prefix=prefix, archive=archive, sure=yes)
    if as_json:
        print_json(done)
        return
    err().print(
        f"Erased from generation {generation}: {plural(done.records, 'record')}, {plural(done.vectors, 'vector')}, "
        f"and the features of {plural(done.features, 'image')}."
    )


def require_writable(file: Path) -> None:
    """Check before anything is erased that the report can be written. The file's content is not changed here."""
    try:
        is_new = not file.exists()
        if is_new or file.is_file() or file.is_dir():  # not a pipe: its reader would take this closing for the end
            file.open("ab").close()
        if is_new:
            file.resolve().unlink()
    except OSError as error:
        raise UsageError(
            f"the report cannot be written to {file} ({error.strerror}), so nothing was erased; name another file"
        ) from error


def tell_done(done: DeletionReport, *, as_json: bool) -> None:
    """Print what a deletion erased."""
    if as_json:
        print_json(done)
        return
    erased = (
        plural(done.records, "record"),
        plural(done.vectors, "vector"),
        done.looks and plural(done.looks, "vector of further spaces", "vectors of further spaces"),
        done.features and f"the features of {plural(done.features, 'image')}",
        plural(done.failures, "failure"),
        done.corrections and plural(done.corrections, "correction"),
        plural(done.readings, "text"),
        done.metadata and f"what the files of {plural(done.metadata, 'image')} say",
        done.keywords and f"the keywords of {plural(done.keywords, 'image')}",
        done.localizations and f"the regions of {plural(done.localizations, 'image')}",
        done.crops and plural(done.crops, "vector of a region", "vectors of regions"),
        done.dataset_items and plural(done.dataset_items, "picture of data sets", "pictures of data sets"),
        done.dataset_labels and plural(done.dataset_labels, "label of data sets", "labels of data sets"),
        done.dataset_reviews and plural(done.dataset_reviews, "review"),
        plural(done.thumbnails, "thumbnail"),
    )
    told = ", ".join(each for each in erased if each)
    err().print(
        f"Deletion {done.deletion_id} erased the results of {plural(done.images, 'image')}: {told}. "
        "Originals untouched.",
        soft_wrap=True,
    )


def prove(ramq: Services, done: DeletionReport, file: Path) -> None:
    """Write the verification report of a finished deletion. Print which places could not be asked.

    Raises:
        RamqError: the file cannot be written. The deletion is done anyway.
    """
    try:
        proof = ramq.erasures.verify(done.deletion_id, tells_images=True)
        file.write_text(json.dumps(as_data(proof), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RamqError(
            f"deletion {done.deletion_id} is done, but its report could not be written to {file}: {error.strerror}; "
            f"`ramq erasures {done.deletion_id} --verify --keys --json` prints the same report"
        ) from error
    for trace in proof.traces:
        if trace.left is None:
            err().print(_line(proof, trace), markup=False, soft_wrap=True)


def _tell(report: ErasureReport) -> None:
    number = report.deletion.id
    if report.is_clean:
        out().print(f"deletion {number}: nothing left", markup=False)
    if report.deletion.finished_at is None:
        line = f"deletion {number}: not finished; `ramq erasures {number} --resume` erases the rest"
        out().print(f"{line}, and with `--withdraw` it stays", markup=False, soft_wrap=True)
    for trace in report.traces:
        if trace.left != 0:
            out().print(_line(report, trace), markup=False, soft_wrap=True)


def _line(report: ErasureReport, trace: Trace) -> str:
    if trace.left is None:
        return visible(f"deletion {report.deletion.id}: not proved for {trace.place}: {trace.remedy}")
    return visible(f"deletion {report.deletion.id}: {trace.left:,} left in {trace.place}; {trace.remedy}")
