"""A decoder that some pictures are fatal to: run in place of ``workers.pipeline.decoder_child``.

A picture is fatal when its bytes hold one of the marks below, which ``marked`` puts behind the end of a file, where
decoders do not look. ``use_marked_decoder`` makes a process start its children from here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workers.pipeline import decoder_child

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ram_core.pictures import Decoded
    from ram_core.recognition import Preprocessing

SEGFAULT, GREED, HANG, SPIN, KILLED, NONSENSE, CHANCE = (
    b"--mark-segfault", b"--mark-greed", b"--mark-hang", b"--mark-spin", b"--mark-killed", b"--mark-nonsense",
    b"--mark-chance:",
)  # fmt: skip
"""Dies of a bad address; wants 10 GB; sleeps for ever; computes for ever without letting go of Python's lock; is
killed from outside; answers what was not asked; dies once, if the file that is named up to the next colon exists."""

GREED_BYTES = 10_000_000_000

_decode = decoder_child.decode_for_all


def marked(body: bytes, mark: bytes, path: str = "") -> bytes:
    """Return a picture that is fatal to this decoder and harmless to others."""
    return body + mark + (f"{path}:".encode() if path else b"")


def use_marked_decoder() -> None:
    """Let this process decode with children that pictures can kill."""
    from workers.pipeline import decoders  # noqa: PLC0415  (the children themselves do without it and its imports)

    decoders.CHILD = __name__


def decode(
    body: memoryview,
    preparations: Sequence[Preprocessing],
    max_pixels: int,
    *,
    reads_truncated: bool = False,
    page: int = 1,
) -> list[Decoded]:
    """Do what the mark says, or decode."""
    content = bytes(body)
    if SEGFAULT in content:
        ctypes.string_at(0)
    if GREED in content:
        np.ones(GREED_BYTES, np.uint8)
    if HANG in content:
        time.sleep(3600)
    if SPIN in content:
        ctypes.PyDLL(None).sleep(3600)
    if KILLED in content:
        os.kill(os.getpid(), signal.SIGKILL)
    if NONSENSE in content:
        os.write(int(sys.argv[1]), decoder_child.ANSWER.pack(True, 1 << 20, 1 << 20, 1, 1, -1, 1, 3))
    if CHANCE in content:
        try:
            Path(os.fsdecode(content.partition(CHANCE)[2].partition(b":")[0])).unlink()
        except FileNotFoundError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGSEGV)
    return _decode(body, preparations, max_pixels, reads_truncated=reads_truncated, page=page)


if __name__ == "__main__":
    decoder_child.decode_for_all = decode
    decoder_child.main(sys.argv[1:])
