"""``ramq delete --again``: what was deleted after the backup from which the database was restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.cli.output import agree, err
from storage.errors import UsageError
from storage.texts import plural, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ramq.wiring import Services
    from storage.index.erasure_log import LoggedDeletion
    from storage.results.erasure_views import DeletionReport


def erase_again(ramq: Services, wrong: Sequence[int], *, renamed: bool, yes: bool) -> DeletionReport | None:
    """Show the deletions of the log that the database does not have, ask, and carry them out again.

    Args:
        ramq: the services.
        wrong: numbers of deletions that were wrong. They are taken out of the log.
        renamed: also erase images that have another name than the one that was deleted.
        yes: do not ask.

    Returns:
        None if none of their images exists.

    Raises:
        UsageError: the log has no deletion of such a number.
    """
    unknown, damaged = ramq.erasures.unknown()
    for name in damaged:
        err().print(visible(f"The log of deletions has a damaged file, which is left out: {name}"), markup=False)
    numbers = {each.number for each in unknown}
    if missing := sorted(set(wrong) - numbers):
        known = ", ".join(map(str, sorted(numbers))) or "none"
        raise UsageError(f"no deletion {missing[0]} happened after the backup; the log has {known}")
    struck = [each for each in unknown if each.number in wrong]
    right = [each for each in unknown if each.number not in wrong]
    for each in unknown:
        _tell(each, is_wrong=each in struck)
    count = sum(len(each.same) + (len(each.renamed) if renamed else 0) for each in right)
    if (count or struck) and not yes:
        agree(_question(count, [each.number for each in struck]))
    done = ramq.erasures.delete_again(right, renamed=renamed, by=ramq.author)
    ramq.erasures.strike(struck)
    return done


def _question(count: int, struck: Sequence[int]) -> str:
    erase = f"Erase the results of {plural(count, 'image')} again" if count else ""
    forget = f"forget {plural(len(struck), 'wrong deletion')}" if struck else ""
    sentence = " and ".join(filter(None, (erase, forget)))
    return f"{sentence[0].upper()}{sentence[1:]}?"


def _tell(deletion: LoggedDeletion, *, is_wrong: bool) -> None:
    """Say in one line what a deletion of the log would erase."""
    head = f"Deletion {deletion.number} by {deletion.said_by}, {deletion.begun_at:%Y-%m-%d %H:%M:%S} UTC"
    if is_wrong:
        line = f"{head}: wrong, its {plural(deletion.images, 'image')} stay."
    else:
        line = f"{head}: {len(deletion.same):,} of {plural(deletion.images, 'image')} exist again."
        if deletion.renamed:
            line += (
                f" {len(deletion.renamed):,} of its numbers belong to images with another name: renamed before the "
                "deletion, or listed since the restore. Look at them, then add --renamed to erase them too."
            )
    err().print(visible(line), markup=False, soft_wrap=True)
