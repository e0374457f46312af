"""Keys and versions of pages say which page of which file an image is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.objects.base import MISSING_VERSION, ObjectInfo
from storage.objects.folder import FolderStore
from storage.objects.pages import (
    MOST_PAGES,
    PageStore,
    file_of,
    further_pages,
    number_of,
    page_key,
    page_version,
    place_of,
)

if TYPE_CHECKING:
    from pathlib import Path

TEXT = st.text(min_size=1, max_size=30)


@given(TEXT, TEXT, st.integers(2, MOST_PAGES))
def test_what_is_said_of_a_page_is_read_again(key: str, version: str, number: int) -> None:
    place = place_of(page_key(key, number), page_version(version, number))
    assert place == (key, version, number)
    assert number_of(page_version(version, number)) == number
    assert file_of(page_key(key, number), page_version(version, number)) == key


@pytest.mark.parametrize(
    "version", ["", '"0123456789abcdef"', "1234-1700000000000000000", "512+77@1234-17", "!missing"]
)
def test_versions_of_stores_are_those_of_files(version: str) -> None:
    assert place_of("scan.tif/page-00002", version) is None
    assert number_of(version) == 1
    assert (page_key("scan.tif", 1), page_version(version, 1)) == ("scan.tif", version)


def test_the_order_of_keys_is_that_of_pages() -> None:
    keys = [page_key("scan.tif", number) for number in (1, 2, 9, 10, 11, 99, 100, 1_000, MOST_PAGES)]
    assert keys == sorted(keys)


def test_there_are_no_more_pages_than_allowed_and_none_with_a_key_that_is_too_long() -> None:
    file = ObjectInfo("scan.tif", "1", 10, None)
    assert [page.key for page in further_pages(file, 5, 3)] == ["scan.tif/page-00002", "scan.tif/page-00003"]
    assert further_pages(file, 1, 1_000) == []
    assert len(further_pages(file, 10**6, 10**6)) == MOST_PAGES - 1
    assert further_pages(ObjectInfo("x" * 1_995, "1", 10, None), 5, 3) == []


def test_a_store_reads_the_file_of_a_page(tmp_path: Path) -> None:
    (tmp_path / "scan.tif").write_bytes(b"0123456789")
    store = PageStore(FolderStore(tmp_path))
    version = store.stat("scan.tif").version
    page = ("scan.tif/page-00003", page_version(version, 3))
    assert store.fetch(*page, 100).version == page[1]
    assert bytes(store.fetch(*page, 100).body) == b"0123456789"
    assert b"".join(store.open(*page, 2, 3)) == b"234"
    assert (store.stat(*page).key, store.stat(*page).version) == page
    (tmp_path / "scan.tif").write_bytes(b"another")
    changed = store.fetch(*page, 100)
    assert (bytes(changed.body), number_of(changed.version), changed.version != page[1]) == (b"another", 3, True)
    (tmp_path / "scan.tif").unlink()
    assert store.stat(*page).version == MISSING_VERSION
