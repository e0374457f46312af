"""The members of tar files as an archive: what is listed, in which order, and what is read."""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import ForbiddenError, PermanentError, UsageError
from storage.objects import tar_listing
from storage.objects.base import (
    MISSING_VERSION,
    UNREADABLE_VERSION,
    BadKeyError,
    ObjectChangedError,
    ObjectForbiddenError,
    ObjectMissingError,
    ObjectTooLargeError,
    S3Options,
    StoreUnavailableError,
    TarError,
)
from storage.objects.folder import FolderStore
from storage.objects.ignoring import Ignoring, Selection
from storage.objects.source import ArchiveAccess, parse_source, require_allowed
from storage.objects.tar_names import split_member
from storage.objects.tars import TarStore, place_of
from tests.tar_files import END, filled, header, listed, packed, store_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from storage.objects.base import ObjectInfo

PARTS = st.sampled_from(["a", "a.tar", "a.tar-1.tar", "a.tar-x", "b.TAR", ".tar", "a.tar.gz", "z", "a.tar!"])


def keys(store: TarStore, prefix: str = "", after: str | None = None) -> list[str]:
    return [info.key for info in listed(store, prefix, after, Selection())]


def body_of(store: TarStore, info: ObjectInfo) -> bytes:
    return bytes(store.fetch(info.key, info.version, 10**6).body)


# Addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "uri", "prefix"),
    [
        ("tar+s3://bucket/laion/", "tar+s3://bucket/laion", "laion"),
        ("tar+s3://bucket", "tar+s3://bucket", ""),
        ("tar+/data/laion", "tar+file:///data/laion", ""),
        ("tar+file:///data/a%20b", "tar+file:///data/a b", ""),
        ("tar+/data/100%", "tar+file:///data/100%25", ""),
        ("tar+/data/x/00000.tar", "tar+file:///data/x/00000.tar", "00000.tar"),
        ("tar+/data/x/00000.tar/in/it", "tar+file:///data/x/00000.tar/in/it", "00000.tar/in/it"),
    ],
)
def test_an_address_names_the_tar_files_of_an_archive(text: str, uri: str, prefix: str) -> None:
    source = parse_source(text)
    assert (source.uri, source.prefix, source.in_tars, source.kind) == (uri, prefix, True, "tar")
    assert parse_source(uri) == source


def test_an_archive_of_members_is_another_one_than_that_of_the_files() -> None:
    plain, members = parse_source("s3://bucket/laion"), parse_source("tar+s3://bucket/laion/00000.tar")
    assert not plain.contains(members)
    assert parse_source("tar+s3://bucket").contains(members)
    inside, folder = parse_source("tar+/data/x/00000.tar/in"), parse_source("tar+/data")
    assert folder.contains(inside)
    assert inside.key_prefix_in(folder) == "x/00000.tar/in"
    assert parse_source("tar+/data/x/00000.tar").contains(inside)
    assert not inside.contains(parse_source("tar+/data/x/00000.tar"))
    for text in ("tar+gs://bucket/x", "tar+tar+s3://bucket", "tar+http://x"):
        with pytest.raises(UsageError):
            parse_source(text)


def test_who_may_read_a_bucket_may_read_its_tar_files() -> None:
    members = parse_source("tar+s3://bucket/laion")
    for root in ("s3://bucket", "tar+s3://bucket", "s3://bucket/laion"):
        require_allowed(members, (root,), reachable=True)
    for root in ("s3://other", "s3://bucket/laion/00000.tar"):
        with pytest.raises(ForbiddenError):
            require_allowed(members, (root,), reachable=True)
    with pytest.raises(ForbiddenError):
        require_allowed(parse_source("s3://bucket/laion"), ("tar+s3://bucket",), reachable=True)
    with pytest.raises(ForbiddenError):
        ArchiveAccess((), True, S3Options()).open(members)


def test_the_first_part_that_ends_in_tar_is_the_tar_file() -> None:
    assert split_member("a/00.tar/b.tar/c.jpg") == ("a/00.tar", "b.tar/c.jpg")
    assert split_member("a/00.TAR/x") == ("a/00.TAR", "x")
    assert split_member("a/00.tar") is None
    assert split_member("a/00.tar.gz/x") is None


# Listing -----------------------------------------------------------------------------------------------------------


def test_members_are_listed_in_the_order_of_their_keys_and_read(tmp_path: Path) -> None:
    for number in (2, 0, 1):
        (tmp_path / f"{number:05}.tar").write_bytes(packed({f"{each:06}.jpg": b"%d" % each for each in (3, 1, 2)}))
    store = store_of(tmp_path)
    found = listed(store)
    assert [info.key for info in found] == [f"{tar:05}.tar/{each:06}.jpg" for tar in range(3) for each in (1, 2, 3)]
    assert [body_of(store, info) for info in found] == [b"1", b"2", b"3"] * 3
    assert {info.modified_at.timestamp() for info in found if info.modified_at} == {1_700_000_000}
    assert keys(store, "00001.tar") == [f"00001.tar/{each:06}.jpg" for each in (1, 2, 3)]
    assert keys(store, after="00001.tar/000002.jpg") == keys(store)[5:]


def test_a_folder_in_a_tar_file_can_be_listed_alone(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(packed({"a/1.jpg": b"1", "ab.jpg": b"2", "a/b/2.jpg": b"3"})[:2560])
    assert keys(store_of(tmp_path), "x.tar/a") == ["x.tar/", "x.tar/a/1.jpg"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8), data=st.data())
def test_any_names_are_listed_in_byte_order_and_from_any_key_on(
    paths: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("tars")
    try:
        for path in paths:
            try:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(packed({"z": b"z", "-": b"-"}))
            except OSError:  # a file is where a folder would be
                continue
        store = store_of(root)
        every = keys(store)
        assert every == sorted(set(every), key=str.encode)
        after = data.draw(st.sampled_from(every))
        assert keys(store, after=after) == [key for key in every if key > after]
    finally:
        shutil.rmtree(root)


def test_other_files_are_left_out_with_a_reason_and_compressed_ones_fail(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(packed({"1.jpg": b"1", "1.json": b"{}", "1.txt": b"a cat", "._1.jpg": b"x"}))
    (tmp_path / "0.parquet").write_bytes(b"PAR1")
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "b.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "c.tgz").write_bytes(b"\x1f\x8b")
    (tmp_path / "d.tar").mkdir()
    (tmp_path / "d.tar" / "e.tar").write_bytes(packed({"1.jpg": b"1"}))
    store = store_of(tmp_path)
    found = {info.key: info.ignored or info.version.partition("@")[0] for info in listed(store, "", None, Selection())}
    assert found == {
        "0.parquet": "sidecar",
        "0.tar/._1.jpg": "default",
        "0.tar/1.jpg": "512+1",
        "0.tar/1.json": "sidecar",
        "0.tar/1.txt": "sidecar",
        "a.jpg": "no_tar",
        "b.tar.gz": "!tar-gzip-0",
        "c.tgz": "!tar-gzip-0",
        "d.tar/": "no_tar",
    }
    with pytest.raises(TarError, match=r"compressed with gzip, .*unpack it to a plain \.tar"):
        store.fetch("b.tar.gz", "!tar-gzip-0@x", 10)
    (tmp_path / "0.tar").unlink()
    (tmp_path / "0.tar").write_bytes(packed({"1.jpg": b"1"}))
    left_out = listed(store, "", None, Selection(exclude=("0.tar",)))[1]
    assert (left_out.key, left_out.ignored, left_out.stands_for_all) == ("0.tar/", "pattern", True)
    only = listed(store, "", None, Selection(include=("*.jpg",)))
    assert [info.key for info in only if not info.ignored and info.version[0] != "!"] == ["0.tar/1.jpg"]


def test_patterns_of_a_file_in_the_folder_count_for_members(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.tar").write_bytes(packed({"private/1.jpg": b"1", "2.jpg": b"2"}))
    (tmp_path / ".ramqignore").write_text("private/\n")
    found = {info.key: info.ignored for info in listed(store_of(tmp_path), "", None, Selection())}
    assert found == {".ramqignore": "ramqignore", "in/0.tar/2.jpg": None, "in/0.tar/private/1.jpg": "ramqignore"}


def test_a_damaged_tar_is_one_key_that_fails_and_its_other_members_are_read(tmp_path: Path) -> None:
    whole = packed({"1.jpg": b"1" * 600, "2.jpg": b"2" * 600})
    (tmp_path / "0.tar").write_bytes(whole[: 512 + 1024 + 512 + 100])
    (tmp_path / "1.tar").write_bytes(header(b"../x.jpg", 1) + filled(b"x") + header(b"y" * 99, 1) + filled(b"y") + END)
    (tmp_path / "2.tar").write_bytes(b"no tar")
    store = store_of(tmp_path)
    found = {info.key: info for info in listed(store)}
    assert list(found) == ["0.tar/", "0.tar/1.jpg", "1.tar/../x.jpg", f"1.tar/{'y' * 99}", "2.tar/"]
    assert body_of(store, found["0.tar/1.jpg"]) == b"1" * 600
    for key, error, said in (
        ("0.tar/", TarError, "cut short at byte 1,536: its members from there on"),
        ("1.tar/../x.jpg", BadKeyError, "leads out of the tar file"),
        ("2.tar/", TarError, "it is no tar file"),
    ):
        with pytest.raises(error, match=said):
            store.fetch(key, found[key].version, 10**6)
        with pytest.raises(PermanentError):
            store.open(key, found[key].version, 0, 10)


def test_while_a_tar_takes_long_empty_pages_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.tar").write_bytes(packed({"1.jpg": b"1"}))
    monkeypatch.setattr(tar_listing, "PULSE_SECONDS", 0.01)
    goes_on = threading.Event()

    class SlowStore(FolderStore):
        def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
            assert goes_on.wait(60)
            return super().open(key, version, start, length)

    pages = TarStore(SlowStore(tmp_path), 1000).pages("", None, Ignoring(Selection(), "tar"))
    assert next(pages) == []
    goes_on.set()
    assert [info.key for page in pages for info in page] == ["0.tar/1.jpg"]


def test_a_large_tar_is_read_when_its_turn_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_listing, "_ROOM_AHEAD", 2)
    for tar in range(3):
        (tmp_path / f"{tar}.tar").write_bytes(packed({f"{each}.jpg": b"x" for each in range(tar * 3)}))
    assert len(keys(store_of(tmp_path))) == 9


def test_a_store_that_fails_for_long_ends_the_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.tar").write_bytes(packed({"1.jpg": b"1"}))
    (tmp_path / "1.tar").write_bytes(packed({"1.jpg": b"1"}))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)

    class DownStore(FolderStore):
        def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
            if key == "1.tar":
                raise StoreUnavailableError("no answer")
            return super().open(key, version, start, length)

    pages = TarStore(DownStore(tmp_path), 1000).pages("", None)
    with pytest.raises(StoreUnavailableError):
        list(pages)


def test_the_members_of_a_tar_that_may_not_be_read_are_not_taken_to_be_gone(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(packed({"1.jpg": b"1"}))

    class Closed(FolderStore):
        is_closed = True

        def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
            if self.is_closed:
                raise ObjectForbiddenError("no permission")
            return super().open(key, version, start, length)

    base = Closed(tmp_path)
    store = TarStore(base, 1000)
    (info,) = listed(store)
    assert (info.key, info.version) == ("0.tar/", UNREADABLE_VERSION)
    with pytest.raises(ObjectForbiddenError, match="no permission"):
        store.fetch(info.key, info.version, 10)
    base.is_closed = False
    with pytest.raises(TarError, match="can now: enqueue its archive again"):
        store.fetch(info.key, info.version, 10)


# Reading -----------------------------------------------------------------------------------------------------------


def test_a_member_is_found_without_its_version(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(packed({"1.jpg": b"one", "2.jpg": b"two"}))
    store = store_of(tmp_path)
    (first, _) = listed(store)
    assert store.stat("0.tar/1.jpg") == first
    fetched = store.fetch("0.tar/1.jpg", "", 100)
    assert (fetched.body, fetched.version) == (b"one", first.version)
    assert b"".join(store.open("0.tar/2.jpg", "", 1, 100)) == b"wo"
    for key in ("0.tar/3.jpg", "1.tar/1.jpg", "1.jpg"):
        assert store.stat(key).version == MISSING_VERSION
    for key, error in (("0.tar/3.jpg", ObjectMissingError), ("1.tar/1.jpg", ObjectMissingError), ("x", BadKeyError)):
        with pytest.raises(error):
            store.fetch(key, "", 100)
    with pytest.raises(ObjectTooLargeError):
        store.fetch("0.tar/1.jpg", first.version, 2)


def test_other_bytes_are_never_read_from_a_tar_that_was_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(packed({"1.jpg": b"one", "2.jpg": b"two"}))
    store = store_of(tmp_path)
    first, second = listed(store)
    assert body_of(store, first) == b"one"
    path.write_bytes(packed({"0.jpg": b"zero" * 200, "1.jpg": b"ONE"}))
    os.utime(path, (1_000, 1_000))
    with pytest.raises(ObjectChangedError, match="enqueue its archive again"):
        store.fetch(first.key, first.version, 100)
    changed = store.stat(first.key, first.version)
    with pytest.raises(ObjectChangedError, match="enqueue its archive again"):
        store.open(first.key, changed.version, 0, 1)
    now = store.fetch(first.key, "", 100)
    assert now.body == b"ONE"
    assert now.version != first.version
    with pytest.raises(ObjectMissingError):
        store.fetch(second.key, "", 100)


def test_a_tar_that_changes_while_a_run_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(packed({f"{each}.jpg": b"x" * 600 for each in range(4)}))

    class Overwritten(FolderStore):
        is_armed = False

        def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
            chunks = super().open(key, version, start, length)
            if self.is_armed:
                path.write_bytes(bytes(10_000))
            return chunks

    base = Overwritten(tmp_path)
    store = TarStore(base, 1000)
    found = listed(store)
    assert body_of(store, found[0]) == b"x" * 600
    base.is_armed = True
    with pytest.raises(ObjectChangedError):
        store.fetch(found[1].key, found[1].version, 10**6)


def test_neighbours_are_read_in_one_request(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(packed({f"{each:04}.jpg": b"%4d" % each * 500 for each in range(1_000)}))

    class Counting(FolderStore):
        asked = 0

        def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
            Counting.asked += 1
            return super().open(key, version, start, length)

    store = TarStore(Counting(tmp_path), 1000)
    found = listed(store)
    Counting.asked = 0
    assert [body_of(store, info) for info in found] == [b"%4d" % each * 500 for each in range(1_000)]
    assert Counting.asked == 2  # the first one alone, then 4 MB
    alone = TarStore(Counting(tmp_path), 1000)
    assert body_of(alone, found[500]) == b" 500" * 500
    assert Counting.asked == 3
    place = place_of(found[500].version)
    assert place is not None
    assert place.version == found[500].version


@pytest.mark.parametrize(("size", "most"), [(1_000_000, 80), (1_000, 4)])
def test_what_lies_between_headers_is_read_only_if_that_is_faster(tmp_path: Path, size: int, most: int) -> None:
    count = 60
    (tmp_path / "0.tar").write_bytes(packed({f"{each:04}.jpg": bytes(size) for each in range(count)}))

    class Counting(FolderStore):
        asked = 0
        read = 0

        def open(self, key: str, version: str, start: int, length: int) -> Iterator[bytes]:
            Counting.asked += 1
            Counting.read += length
            return super().open(key, version, start, length)

    assert len(listed(TarStore(Counting(tmp_path), 500_000))) == count
    assert Counting.asked <= most
    assert Counting.read < 2_000_000


def test_texts_beside_a_picture_are_found_before_and_behind_it(tmp_path: Path) -> None:
    members = {
        "1.jpg": b"x" * 700, "1.json": b"{}", "1.txt": b"one",
        "2.json": b'{"caption": "two"}', "2.png": b"x" * 100_000, "2.txt": b"two",
        "3.txt": b"three" * 20_000, "3.webp": b"x",
    }  # fmt: skip
    (tmp_path / "0.tar").write_bytes(packed(members, "ustar"))
    (tmp_path / "1.tar").write_bytes(header(b"z.txt", 1) + filled(b"z") + header(b"z.jpg", 1) + filled(b"x"))
    store = store_of(tmp_path)
    found = {info.key: store.texts_beside(info.key, info.version) for info in listed(store)}
    assert found["0.tar/1.jpg"] == [("1.txt", b"one"), ("1.json", b"{}")]
    assert found["0.tar/2.png"] == [("2.txt", b"two"), ("2.json", b'{"caption": "two"}')]
    assert found["0.tar/3.webp"] == []  # further away than 32 kB
    assert found["1.tar/z.jpg"] == [("z.txt", b"z")]  # nothing is behind it
    assert store.texts_beside("0.tar/1.jpg", "") == []
