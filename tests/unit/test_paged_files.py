"""Files of which several pages are wanted: fetched once, kept within bounds, given back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import pytest

from storage.objects.base import Fetched, ObjectMissingError
from storage.objects.pages import PagePlace
from workers.pipeline.budget import BytesBudget
from workers.pipeline.paged_files import PagedFiles
from workers.pipeline.retry import EmptyFileError

if TYPE_CHECKING:
    from storage.objects.base import ObjectStore

STORE = cast("ObjectStore", object())


class Source:
    """Counts what is fetched; a file of 1,000 bytes for each key."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.is_gone = False

    def __call__(self, key: str, version: str) -> Fetched:
        self.fetched.append(key)
        if self.is_gone:
            raise ObjectMissingError("gone")
        return Fetched(key.encode() * 1_000 if key else b"", f"{version}+")


def place(key: str, number: int = 2) -> PagePlace:
    return PagePlace(key, "1", number)


def test_pages_that_follow_each_other_need_one_fetch() -> None:
    source, files = Source(), PagedFiles(BytesBudget(10_000))
    digests = set()
    for number in range(2, 50):
        file = files.take(STORE, place("a", number), 1_000, source)
        assert (bytes(file.body), file.version) == (b"a" * 1_000, "1+")
        digests.add(file.sha256_of(number))
        files.release(file)
    assert (source.fetched, len(digests)) == (["a"], 48)
    files.close()


def test_many_threads_fetch_a_file_once() -> None:
    source, files = Source(), PagedFiles(BytesBudget(10_000))

    def use(number: int) -> bytes:
        file = files.take(STORE, place("ab"[number % 2], number), 1_000, source)
        read = bytes(file.body)
        held.wait(10)
        files.release(file)
        return read

    held = threading.Barrier(16)
    with ThreadPoolExecutor(16) as pool:
        read = set(pool.map(use, range(2, 18)))
    assert (read, sorted(source.fetched)) == ({b"a" * 1_000, b"b" * 1_000}, ["a", "b"])
    files.close()


def test_no_more_is_open_than_there_is_room_for() -> None:
    source, files = Source(), PagedFiles(BytesBudget(10_000), most_bytes=1_500)
    first = files.take(STORE, place("a"), 1_000, source)
    waiting = ThreadPoolExecutor(1)
    second = waiting.submit(files.take, STORE, place("b"), 1_000, source)
    assert not second.done()
    files.release(first)
    files.release(second.result(10))
    assert source.fetched == ["a", "b"]
    large = files.take(STORE, place("c"), 9_000, source)  # alone, it may be larger
    files.release(large)
    files.close()
    waiting.shutdown()


def test_a_file_that_cannot_be_fetched_is_asked_for_again_and_gives_its_room_back() -> None:
    source, budget = Source(), BytesBudget(1_000)
    files = PagedFiles(budget, most_bytes=1_000)
    source.is_gone = True
    for _ in range(3):
        with pytest.raises(ObjectMissingError):
            files.take(STORE, place("a"), 1_000, source)
    source.is_gone = False
    with pytest.raises(EmptyFileError):
        files.take(STORE, place(""), 1_000, source)
    file = files.take(STORE, place("a"), 1_000, source)
    files.release(file)
    assert budget.acquire(1_000) == 1_000
    files.close()
