"""Files that appear under their names when they are complete."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def opened(out: Path, *, may_replace: bool = True) -> Iterator[IO[bytes]]:
    """Open a file to write to. It is there only if the block ends well. Raises ``UsageError`` if it cannot be.

    Without ``may_replace``, what appears under its name meanwhile stays, and the block ends with ``UsageError``.
    """
    waiting = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with waiting.open("wb") as file:
            yield file
        if may_replace:
            waiting.replace(out)
        else:
            _appear(waiting, out)
    except FileExistsError as error:
        raise UsageError(
            f"{out} appeared while it was to be written; give another --out, or --force to replace it"
        ) from error
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); give another --out") from error
    finally:
        waiting.unlink(missing_ok=True)


def _appear(waiting: Path, out: Path) -> None:
    """Give a file its name. Raises ``FileExistsError`` if the name is in use."""
    try:
        os.link(waiting, out)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        out.touch(exist_ok=False)
        waiting.replace(out)
