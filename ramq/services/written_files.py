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
def opened(out: Path) -> Iterator[IO[bytes]]:
    """Open a file to write to. It is there only if the block ends well. Raises ``UsageError`` if it cannot be."""
    waiting = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with waiting.open("wb") as file:
            yield file
        waiting.replace(out)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}); give another --out") from error
    finally:
        waiting.unlink(missing_ok=True)
