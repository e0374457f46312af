"""Something that is repeated while something else is done."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def repeated(name: str, seconds: float, action: Callable[[], bool]) -> Iterator[None]:
    """Call ``action`` every few seconds in a thread called ``name``, until a block ends or it returns False."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds) and action():
            pass

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
