"""Large buckets are listed in several ranges at once, and what comes out is what one request after the other gives."""

from __future__ import annotations

import itertools
import random
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from storage.errors import TransientError
from storage.objects import parallel_listing, s3
from storage.objects.base import ObjectInfo
from storage.objects.parallel_listing import KeyPage, list_in_parallel
from storage.objects.s3 import S3Store

if TYPE_CHECKING:
    from tests.services.s3 import S3Server

SHAPES = {
    "flat": [f"{number:05}.jpg" for number in range(700)],
    "by day": [f"{year}/{month:02}/{number:03}.jpg" for year in (2024, 2025) for month in range(1, 13)
               for number in range(30)],
    "one deep folder": [f"photos/all/of/them/{number:05}.jpg" for number in range(500)],
    "a large one among small": [*(f"{name}/{number}.jpg" for name in "abcdefgh" for number in range(5)),
                                *(f"d/{number:05}/x.jpg" for number in range(600))],
    "folders and files with like names": [
        f"{name}{end}{number:03}" for name in ("a", "a-b", "a.b", "ab", "Ä", "日本") for end in ("/", "-", "")
        for number in range(25)
    ],
    "many tiny folders": [f"{number:04}/{name}" for number in range(300) for name in ("a", "b")],
    "nothing": [],
}  # fmt: skip


class Keys:
    """A bucket in memory, whose requests take as long as they are told to."""

    def __init__(self, keys: list[str], page_size: int, seconds: float = 0.0) -> None:
        self.keys = sorted(keys)
        self.requests = 0
        self.most_at_once = 0
        self._at_once = 0
        self._page_size = page_size
        self._seconds = seconds
        self._lock = threading.Lock()

    def page(self, after: str) -> KeyPage:
        self._wait()
        found = list(itertools.islice((key for key in self.keys if key > after), self._page_size + 1))
        infos = [ObjectInfo(key, "v", 1, None) for key in found[: self._page_size]]
        return KeyPage(found[: self._page_size], infos, len(found) <= self._page_size)

    def folders(self, above: str, after: str) -> list[str]:
        self._wait()
        below = (key for key in self.keys if key > after and key.startswith(above))
        rolled = (above + key[len(above) :].partition("/")[0] + "/" for key in below if "/" in key[len(above) :])
        return list(itertools.islice(dict.fromkeys(rolled), self._page_size))

    def _wait(self) -> None:
        with self._lock:
            self.requests += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self._seconds * random.uniform(0.2, 1.0))
        with self._lock:
            self._at_once -= 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("page_size", [1, 7, 50])
def test_every_key_comes_once_and_in_order(shape: str, page_size: int) -> None:
    keys = Keys(SHAPES[shape], page_size, 0.0005)
    pages = list(list_in_parallel(keys, "", "", page_size))
    assert [info.key for page in pages for info in page] == keys.keys
    assert all(len(page) == page_size for page in pages[:-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_listing_goes_on_after_any_key(shape: str) -> None:
    keys = Keys(SHAPES[shape], 20)
    for after in ["", "a", "zz", *keys.keys[::97]]:
        found = [info.key for page in list_in_parallel(keys, "", after, 20) for info in page]
        assert found == [key for key in keys.keys if key > after]


@pytest.mark.parametrize("page_size", [1, 7, 50])
def test_a_server_that_names_folders_below_those_it_is_asked_for_gives_every_key_once(page_size: int) -> None:
    class Talkative(Keys):
        def folders(self, above: str, after: str) -> list[str]:
            beside = "".join(after.rpartition("/")[0].rpartition("/")[:2])
            return sorted({*super().folders(above, after), *super().folders(beside, after)})

    keys = Talkative(SHAPES["by day"], page_size, 0.0005)
    assert [info.key for page in list_in_parallel(keys, "", "", page_size) for info in page] == keys.keys


def test_folders_are_listed_several_at_a_time() -> None:
    keys = Keys(SHAPES["by day"], 10, 0.005)
    list(list_in_parallel(keys, "", "", 10))
    assert keys.most_at_once >= parallel_listing.WIDTH // 2
    assert keys.requests < 3 * len(keys.keys) / 10


def test_a_small_bucket_costs_one_request() -> None:
    keys = Keys(SHAPES["nothing"] + ["a/b", "c/d"], 10)
    list(list_in_parallel(keys, "", "", 10))
    assert keys.requests == 1


def test_nothing_is_read_far_ahead_of_a_slow_reader() -> None:
    keys = Keys([f"{folder:03}/{number}" for folder in range(400) for number in range(10)], 2)
    pages = list_in_parallel(keys, "", "", 2)
    next(pages)
    next(pages)
    time.sleep(1.0)
    settled = keys.requests
    time.sleep(0.3)
    assert keys.requests == settled < 2 * parallel_listing.MOST_PAGES < 400 * 10 / 2
    pages.close()


def test_threads_end_with_the_listing_and_with_a_reader_that_turns_away() -> None:
    def lister_threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("list-")]

    pages = list_in_parallel(Keys(SHAPES["by day"], 5), "", "", 5)
    next(pages)
    next(pages)
    assert lister_threads()
    pages.close()
    list(list_in_parallel(Keys(SHAPES["by day"], 5), "", "", 5))
    deadline = time.monotonic() + 10
    while lister_threads():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_error_comes_in_its_place_after_every_page_before_it() -> None:
    class Broken(Keys):
        def page(self, after: str) -> KeyPage:
            if after >= "2025/03":
                raise TransientError("the store is away")
            return super().page(after)

    keys = Broken(SHAPES["by day"], 10, 0.001)
    pages = list_in_parallel(keys, "", "", 10)
    found: list[str] = []

    def read() -> None:
        for page in pages:
            found.extend(info.key for info in page)

    with pytest.raises(TransientError, match="away"):
        read()
    assert found == keys.keys[: len(found)]
    assert found[-1] >= "2025/02/02"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("page_size", [1, 7, 50])
def test_a_server_that_orders_by_folders_is_listed_completely_too(shape: str, page_size: int) -> None:
    def place(key: str) -> list[str]:
        return key.split("/")

    class Tree(Keys):
        def page(self, after: str) -> KeyPage:
            self._wait()
            found = [key for key in self.keys if place(key) > place(after)][: page_size + 1]
            infos = [ObjectInfo(key, "v", 1, None) for key in found[:page_size]]
            return KeyPage(found[:page_size], infos, len(found) <= page_size)

        def folders(self, above: str, after: str) -> list[str]:
            below = [key for key in self.keys if place(key) > place(after) and key.startswith(above)]
            rolled = (above + key[len(above) :].partition("/")[0] + "/" for key in below if "/" in key[len(above) :])
            return list(dict.fromkeys(rolled))[:page_size]

    keys = Tree(SHAPES[shape] + [f"2024{end}{n:03}" for end in ("-x/", ".") for n in range(90)], page_size, 0.0005)
    keys.keys.sort(key=place)
    assert [info.key for page in list_in_parallel(keys, "", "", page_size) for info in page] == keys.keys


@pytest.mark.services
def test_a_bucket_of_many_folders_is_listed_as_it_is(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(SHAPES["folders and files with like names"][:200:2] + [f"y/{n % 13:02}/{n:03}" for n in range(250)])
    s3_server.put(bucket, dict.fromkeys(names, b"x"))
    monkeypatch.setattr(s3, "PAGE_SIZE", 8)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    store = S3Store(bucket, s3_server.endpoint_url)
    # This server orders folders before files of a like name.
    assert sorted(info.key for page in store.pages("", None) for info in page) == names
    below = [name for name in names if name.startswith("y/")]
    assert [info.key for page in store.pages("y", "y/03/x") for info in page] == [n for n in below if n > "y/03/x"]


def test_memory_does_not_grow_with_the_number_of_keys() -> None:
    class Endless(Keys):
        """Numbered keys, made up as they are asked for."""

        def page(self, after: str) -> KeyPage:
            begin = int(after.replace("/", "") or -1) + 1
            keys = [f"{number // 1000:05}/{number % 1000:03}" for number in range(begin, min(begin + 1000, self.count))]
            infos = [ObjectInfo(key, "0123456789abcdef" * 2, 1, None) for key in keys]
            return KeyPage(keys, infos, begin + 1000 >= self.count)

        def folders(self, above: str, after: str) -> list[str]:
            del after
            return [] if above else [f"{number:05}/" for number in range(0, self.count // 1000, 7)]

    def peak(count: int) -> int:
        keys = Endless([], 1000)
        keys.count = count
        tracemalloc.start()
        assert sum(map(len, list_in_parallel(keys, "", "", 1000))) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(200_000) < 2 * peak(60_000)
