"""Answers that are written while they are sent."""

from __future__ import annotations

import threading
from typing import IO, TYPE_CHECKING

import pytest

from ramq.web.streams import CHUNK_BYTES, Streams
from ramq.web.turns import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_is_written_arrives_in_order_and_whole() -> None:
    def write(file: IO[bytes]) -> None:
        for number in range(100_000):
            file.write(b"%d\n" % number)

    assert b"".join(Streams().begin(write)) == b"".join(b"%d\n" % number for number in range(100_000))


def test_an_early_error_is_raised_before_anything_is_sent() -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"a little")
        raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        Streams().begin(write)


def test_a_late_error_ends_the_answer_in_the_middle() -> None:
    def write(file: IO[bytes]) -> None:
        file.write(b"." * (3 * CHUNK_BYTES))
        raise ValueError("later")

    chunks = Streams().begin(write)
    next(chunks)
    with pytest.raises(ValueError, match="later"):
        list(chunks)


def writing_until(is_over: threading.Event) -> Callable[[IO[bytes]], None]:
    """Return what writes without end. The event is set when it cannot go on."""

    def endless(file: IO[bytes]) -> None:
        try:
            while True:
                file.write(b"." * CHUNK_BYTES)
        finally:
            is_over.set()

    return endless


def test_a_client_that_goes_ends_the_writing_and_makes_place_for_another() -> None:
    streams, is_over = Streams(most=1), threading.Event()
    endless = writing_until(is_over)

    chunks = streams.begin(endless)
    next(chunks)
    with pytest.raises(BusyError) as told:
        streams.begin(endless)
    assert told.value.status_code == 429
    assert "1 exports are being sent" in told.value.detail

    chunks.close()  # type: ignore[attr-defined]  # a generator
    assert is_over.wait(20)
    assert b"".join(_begun(streams)) == b"next"


def test_a_client_that_reads_nothing_is_given_up() -> None:
    streams, is_over = Streams(most=1, seconds=0.05), threading.Event()
    endless = writing_until(is_over)

    chunks = streams.begin(endless)
    assert is_over.wait(20)
    with pytest.raises(BrokenPipeError, match="nobody read it"):
        list(chunks)
    assert b"".join(_begun(streams)) == b"next"


def _begun(streams: Streams) -> list[bytes]:
    """Begin as soon as there is a place."""
    for _ in range(200):
        try:
            return list(streams.begin(_next))
        except BusyError:
            threading.Event().wait(0.05)
    raise AssertionError("no place became free")


def _next(file: IO[bytes]) -> None:
    file.write(b"next")
