"""Ranges of a listing: together they have every key once, in stores of any order, and cuts are where keys are."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

import pytest

from storage.objects import folder
from storage.objects.base import ObjectInfo, StoreUnavailableError
from storage.objects.cutting import LAST, DisorderedError, cut_between
from storage.objects.folder import FolderStore
from storage.objects.parallel_listing import KeyPage, list_in_parallel
from storage.objects.s3_listing import BucketLister
from tests.integration.test_listing_ahead import SHAPES, Keys

if TYPE_CHECKING:
    from pathlib import Path


class Tree(Keys):
    """A bucket whose server orders a folder's entries by their names: ``a/b`` comes before ``a-b``."""

    def __init__(self, keys: list[str], page_size: int) -> None:
        super().__init__(keys, page_size)
        self.keys.sort(key=lambda key: key.split("/"))

    def page(self, after: str) -> KeyPage:
        self.requests += 1
        found = [key for key in self.keys if key.split("/") > after.split("/")][: self._page_size + 1]
        infos = [ObjectInfo(key, "v", 1, None) for key in found[: self._page_size]]
        return KeyPage(found[: self._page_size], infos, len(found) <= self._page_size)

    def folders(self, above: str, after: str) -> list[str]:
        below = [key for key in self.keys if key.split("/") > after.split("/") and key.startswith(above)]
        rolled = (above + key[len(above) :].partition("/")[0] + "/" for key in below if "/" in key[len(above) :])
        return list(dict.fromkeys(rolled))[: self._page_size]


def listed(keys: Keys, after: str, until: str | None, page_size: int) -> list[str]:
    return [info.key for page in list_in_parallel(keys, "", after, page_size, until) for info in page]


def in_ranges(keys: Keys, cuts: list[str], page_size: int) -> list[str]:
    ends: list[str | None] = [*cuts, None]
    return [
        key for after, until in zip(["", *cuts], ends, strict=True) for key in listed(keys, after, until, page_size)
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("page_size", [1, 7, 50])
@pytest.mark.parametrize("kind", [Keys, Tree])
def test_ranges_have_every_key_once_wherever_they_are_cut(shape: str, page_size: int, kind: type[Keys]) -> None:
    chance = random.Random(page_size)
    names = SHAPES[shape] + [f"2024{end}{n:03}" for end in ("-x/", ".", "/") for n in range(20)]
    keys = kind(names, page_size)
    for count in (1, 2, 6):
        picked = [chance.choice(keys.keys) for _ in range(count)]
        # Existing keys, folders, beginnings, and what is in between.
        cuts = sorted({key[: chance.randrange(1, len(key) + 1)] + chance.choice(["", "", "/", "~"]) for key in picked})
        if kind is Tree:  # its ranges follow its own order
            cuts.sort(key=lambda cut: cut.split("/"))
        assert sorted(in_ranges(keys, cuts, page_size)) == sorted(keys.keys), cuts


class Unquiet(Keys):
    """A bucket in which keys come and go near one place while it is listed."""

    def __init__(self, keys: list[str], page_size: int, near: str, chance: random.Random) -> None:
        super().__init__(keys, page_size)
        self.steady = set(self.keys)
        self._near = near
        self._chance = chance

    def page(self, after: str) -> KeyPage:
        with self._lock:
            near = [f"{self._near}{sign}{n}" for sign in ("", "!", "0") for n in range(3)] + [self._near]
            for key in self._chance.sample(near, 2):
                (self.keys.remove if key in self.keys else self.keys.append)(key)
                self.steady.discard(key)
            self.keys.sort()
        return super().page(after)


@pytest.mark.parametrize("seed", range(20))
def test_keys_that_come_and_go_where_a_range_was_cut_are_no_reason_to_lose_or_double_others(seed: int) -> None:
    chance = random.Random(seed)
    names = [f"{number:03}" for number in range(120)]
    cut = chance.choice(names)
    keys = Unquiet(names, 7, cut, chance)
    found = in_ranges(keys, [cut], 7)
    assert [key for key in found if key in keys.steady] == sorted(keys.steady)


def test_an_end_that_moves_faster_than_it_is_found_is_tried_again_later() -> None:
    class Growing(Keys):
        def page(self, after: str) -> KeyPage:
            if after != "50":
                self.keys.append(f"5{10**9 - 1 - self.requests:09}")
                self.keys.sort()
            return super().page(after)

    with pytest.raises(StoreUnavailableError, match="faster"):
        listed(Growing([str(n) for n in range(10)], 20), "0", "50", 20)


# Cuts ----------------------------------------------------------------------------------------------------------------


def first_after(keys: list[str]):  # noqa: ANN201
    return lambda text: next((key for key in keys if key > text), None)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "nothing"])
def test_a_cut_has_keys_on_its_right_and_keeps_to_its_range(shape: str) -> None:
    keys = sorted(SHAPES[shape])
    for start, end in itertools.product((0, len(keys) // 3, len(keys) - 2), (len(keys) // 2, len(keys) - 1, None)):
        after, until = keys[start], None if end is None else keys[end]
        if until is not None and after >= until:
            continue
        cut = cut_between(first_after(keys), "", after, until)
        if cut is not None:
            assert after < cut
            assert any(key > cut and (until is None or key <= until) for key in keys), (after, until, cut)


def test_numbers_and_folders_are_cut_near_the_middle() -> None:
    for keys in ([f"photographs/{n:06}.jpg" for n in range(60_000)], [f"{n % 256:02x}/{n:06}" for n in range(30_000)]):
        keys.sort()
        cut = cut_between(first_after(keys), "", keys[2_000], None)
        assert cut is not None
        right = sum(key > cut for key in keys)
        assert 0.2 < right / len(keys) < 0.8, cut


def test_a_cut_is_no_folder_of_which_a_server_would_list_nothing_after_its_name() -> None:
    keys = [f"big/deep/{folder}/{n:03}.jpg" for folder in range(10) for n in range(20)]
    for after in keys[:-1]:
        cut = cut_between(first_after(keys), "", after, None)
        assert cut is None or not any(key.startswith(f"{cut}/") for key in keys), (after, cut)


def test_what_is_not_in_order_is_not_cut() -> None:
    with pytest.raises(DisorderedError):
        cut_between(lambda _: "a", "", "b/0001", None)


def test_the_last_keys_and_names_of_other_alphabets_are_cut_where_that_works() -> None:
    assert cut_between(first_after(["a/1", "a/2"]), "", "a/2", None) is None
    keys = sorted(["写真/1", "写真/2", "写真/3", "絵/1", "絵/2"])
    assert cut_between(first_after(keys), "", "写真/1", None) == f"写{LAST}"


def test_a_file_and_its_further_pages_stay_in_one_range() -> None:
    keys = ["a.pdf", "a.pdf-x", "a.pdf.xmp", "a.pdg"]
    cut = cut_between(first_after(keys), "", "a.pdf", None)
    assert cut is None or not "a.pdf" < cut <= "a.pdf/page-:"


@pytest.mark.parametrize("order", ["folders", "none"])
def test_a_bucket_that_lists_keys_in_another_order_is_not_cut(order: str) -> None:
    tree = Tree([f"{name}{n}" for name in ("a/", "a-b/", "a.b", "b/") for n in range(9)], 1_000)
    if order == "none":
        random.Random(1).shuffle(tree.keys)
    asked: list[str] = []

    def ask(**options: Any) -> dict[str, Any]:
        asked.append(options.get("StartAfter", ""))
        keys, most = tree.page(asked[-1]).keys, options["MaxKeys"]
        items = [{"Key": key, "Size": 1, "ETag": '"e"'} for key in keys[:most]]
        return {"Contents": items, "IsTruncated": len(keys) > most}

    lister = BucketLister(ask)
    pages = lister.pages("", "", 12)
    assert next(pages)
    next(pages)  # empty where there is no order at all
    pages.close()  # type: ignore[attr-defined]  # a generator
    asked.clear()
    assert lister.cut("", "a/1", None) is None
    assert not any(asked)


def test_a_bucket_that_takes_no_key_to_begin_after_is_not_cut() -> None:
    def ask(**_: object) -> dict[str, Any]:
        return {"Contents": [{"Key": f"{n}.png", "Size": 1, "ETag": '"e"'} for n in range(3)], "IsTruncated": False}

    assert BucketLister(ask).cut("", "1.png", None) is None


# Folders -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    names = [f"{n % 5}/{n % 3}/{n:03}.jpg" for n in range(90)] + [
        "0-a.jpg",
        "0.jpg",
        "3-x/y.jpg",
        "日本/猫.jpg",
        "z.jpg",
    ]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return sorted(names)


def test_ranges_of_a_folder_have_every_file_once(
    tmp_path: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "PAGE_SIZE", 7)
    store = FolderStore(tmp_path)
    for cuts in (["1/"], ["0/1/0", "3-x/", "3/2/", "日"], names[::9]):
        ends: list[str | None] = [*cuts, None]
        found = [
            [info.key for page in store.pages("", after, None, until) for info in page]
            for after, until in zip([None, *cuts], ends, strict=True)
        ]
        assert list(itertools.chain.from_iterable(found)) == names


def test_a_folder_is_cut_where_it_has_more(tmp_path: Path, names: list[str]) -> None:
    store = FolderStore(tmp_path)
    for after, until in itertools.product(names[::7], [None, "2/", "4/1/050.jpg"]):
        cut = store.cut("", after, until)
        left = [name for name in names if name > after and (until is None or name <= until)]
        if cut is not None:
            assert after < cut
            assert until is None or cut < until
            assert any(name >= cut for name in left) or until is not None
    assert store.cut("", "0/0/000.jpg", None) == "3/"
    assert store.cut("4", "4/0/004.jpg", None) == "4/2/"
    assert store.cut("no such folder", "no such folder/1", None) is None
