"""Ctrl-C during a deletion: what is erased so far, and how to go on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ramq.cli.output import err
from storage.texts import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.services.erasing import StoppedDeletionError


@contextmanager
def stopped_with_a_word(again: str | None = None) -> Iterator[None]:
    """On Ctrl-C, print what the deletion has erased and how to go on.

    Args:
        again: the command to go on with; None: the one that goes on with any deletion.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        from ramq.services.erasing import StoppedDeletionError  # noqa: PLC0415  (the deletion has loaded it)

        said = "Stopped. `ramq erasures` says what is erased."  # after a second Ctrl-C, while we looked for the words
        if isinstance(stop, StoppedDeletionError):
            said = _told(stop, again)
        err().print(said, style="dim", markup=False, soft_wrap=True)
        raise


def _told(stop: StoppedDeletionError, again: str | None) -> str:
    if stop.deletion_id is None:
        return "Stopped. Nothing was erased, and nothing stays planned."
    head = f"Stopped. Deletion {stop.deletion_id} has erased"
    done = f"the results of {stop.erased:,} of {plural(stop.images, 'image')}" if stop.erased else "nothing yet"
    erase = again or f"ramq erasures {stop.deletion_id} --resume"
    keep = f"ramq erasures {stop.deletion_id} --withdraw"
    return f"{head} {done}. Erase the rest with `{erase}`, or keep it with `{keep}`."
