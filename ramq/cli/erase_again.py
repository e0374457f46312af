"""``ramq delete --again``: what was deleted after the backup from which the database was restored."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from ramq.cli.erase_stop import stopped_with_a_word
from ramq.cli.output import agree, err, print_json
from storage.errors import UsageError
from storage.texts import plural, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ramq.wiring import Services
    from storage.index.erasure_log import LoggedDeletion
    from storage.results.erasure_views import DeletionReport


def erase_again(
    ramq: Services, wrong: Sequence[str], *, renamed: bool, yes: bool, as_json: bool
) -> tuple[DeletionReport | None, list[str]]:
    """Show the deletions of the log that the database does not have, ask, and carry them out again.

    Args:
        ramq: the services.
        wrong: numbers of deletions that were wrong, or the names of their files. They are taken out of the log.
        renamed: also erase images that have another name than the one that was deleted.
        yes: do not ask.
        as_json: if nothing is erased, print JSON that says so.

    Returns:
        What was erased; None: none of their images exists. And the files of the log that are damaged.

    Raises:
        UsageError: the log has no deletion of such a number, or several.
    """
    unknown, damaged = ramq.erasures.unknown()
    for name in damaged:
        err().print(visible(f"The log of deletions has a damaged file, which is left out: {name}"), markup=False)
    struck = [_named(unknown, each) for each in wrong]
    kept = {image_id for each in struck for image_id in each.same}
    right = [
        replace(each, same=[image_id for image_id in each.same if image_id not in kept])
        for each in unknown
        if each not in struck
    ]
    for each in unknown:
        _tell(each, is_wrong=each in struck)
    count = len({image_id for each in right for image_id in (*each.same, *(each.renamed if renamed else ()))})
    if (count or struck) and not yes:
        agree(_question(count, struck))
    with stopped_with_a_word():
        done = ramq.erasures.delete_again(right, renamed=renamed, by=ramq.author)
    ramq.erasures.strike(struck)
    if done is None:
        others = len({image_id for each in right for image_id in each.renamed})
        left = f"no image with the name of a deleted one exists, but {plural(others, 'image')} with another name"
        err().print(f"Nothing was erased: {left if others else 'no image that was deleted since the backup exists'}.")
        if as_json:
            print_json(_nothing())
    return done, damaged


def _named(unknown: Sequence[LoggedDeletion], wanted: str) -> LoggedDeletion:
    found = [each for each in unknown if wanted in {str(each.number), each.file}]
    if not found:
        known = ", ".join(str(each.number) for each in unknown) or "none"
        raise UsageError(f"no deletion {wanted} happened after the backup; the log has {known}")
    if len(found) > 1:  # after a restore, numbers are given again
        files = " or ".join(each.file for each in found)
        raise UsageError(f"{plural(len(found), 'deletion')} have the number {wanted}: name one by its file, {files}")
    return found[0]


def _nothing() -> dict[str, int | None]:
    """Return what a deletion says that erased nothing. It has no number."""
    from storage.results.erasure_views import DeletionReport  # noqa: PLC0415

    return {each.name: None if each.name == "deletion_id" else 0 for each in fields(DeletionReport)}


def _question(count: int, struck: Sequence[LoggedDeletion]) -> str:
    erase = f"Erase the results of {plural(count, 'image')} again" if count else ""
    forget = f"forget {plural(len(struck), 'wrong deletion')}" if struck else ""
    sentence = " and ".join(filter(None, (erase, forget)))
    return f"{sentence[0].upper()}{sentence[1:]}?"


def _tell(deletion: LoggedDeletion, *, is_wrong: bool) -> None:
    """Say in one line what a deletion of the log would erase."""
    head = f"Deletion {deletion.number} by {deletion.said_by}, {deletion.begun_at:%Y-%m-%d %H:%M:%S} UTC"
    there = f"{len(deletion.same):,} of {plural(deletion.images, 'image')} exist"
    if is_wrong:
        line = f"{head}: wrong. {there} and stay."
    else:
        line = f"{head}: {there} again."
        if deletion.renamed:
            line += (
                f" {len(deletion.renamed):,} of its numbers belong to images with another name: renamed before the "
                "deletion, or listed since the restore. Look at them, then add --renamed to erase them too."
            )
    err().print(visible(line), markup=False, soft_wrap=True)
