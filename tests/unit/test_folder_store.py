"""Folders as archives: what is listed, in which order, and what is refused."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import ForbiddenError, NotFoundError, PermanentError
from storage.objects.base import (
    MAX_KEY_BYTES,
    BadKeyError,
    ObjectChangedError,
    ObjectForbiddenError,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreUnavailableError,
)
from storage.objects.folder import FolderStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from storage.objects.base import ObjectInfo

NAMES = st.text(alphabet=st.sampled_from("ab.!-~ é\U0001f600/"), min_size=1, max_size=8)


def listed(root: Path, prefix: str = "", after: str | None = None) -> list[ObjectInfo]:
    return [info for page in FolderStore(root).pages(prefix, after) for info in page]


def keys(root: Path, prefix: str = "", after: str | None = None) -> list[str]:
    return [info.key for info in listed(root, prefix, after)]


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


@contextmanager
def another_user() -> Iterator[None]:
    """Permissions do not bind the super-user: become nobody for a while."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may reach, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


# Listing -----------------------------------------------------------------------------------------------------------


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(NAMES, min_size=1, max_size=12))
def test_keys_come_in_byte_order_and_a_listing_goes_on_after_any_of_them(names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in names:
            parts = [part for part in name.split("/") if part not in {"", ".", ".."}]
            path = root.joinpath(*parts)
            if parts and not any(parent.is_file() for parent in path.parents) and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        there = sorted(
            (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()), key=str.encode
        )
        assert keys(root) == there
        for position, key in enumerate(there):
            assert keys(root, after=key) == there[position + 1 :]


def test_a_folder_sorts_as_its_keys_do_among_names_that_begin_alike(tmp_path: Path) -> None:
    write(tmp_path, "a!", "a.b", "a/b", "a-b/c", "a0")
    assert keys(tmp_path) == ["a!", "a-b/c", "a.b", "a/b", "a0"]
    assert keys(tmp_path, after="a.b") == ["a/b", "a0"]
    assert keys(tmp_path, after="a/") == ["a/b", "a0"]
    assert keys(tmp_path, after="a/a/deleted/since") == ["a/b", "a0"]


def test_a_prefix_is_a_folder_or_a_file_and_not_the_beginning_of_a_name(tmp_path: Path) -> None:
    write(tmp_path, "a/b", "a/c/d", "ab", "abc/d")
    assert keys(tmp_path, "a") == ["a/b", "a/c/d"]
    assert keys(tmp_path, "/a/c/") == ["a/c/d"]
    assert keys(tmp_path, "ab") == ["ab"]
    assert keys(tmp_path, "ab", after="ab") == []
    assert keys(tmp_path, "a", after="a/b") == ["a/c/d"]


@pytest.mark.parametrize("prefix", ["b", "a/b/c", "..", "a/../..", "a/./b", "a//b", "a/b/"])
def test_a_prefix_that_is_not_there_is_an_error_and_not_an_empty_archive(tmp_path: Path, prefix: str) -> None:
    write(tmp_path / "root", "a/b")
    if prefix == "a/b/":
        assert keys(tmp_path / "root", prefix) == ["a/b"]
        return
    with pytest.raises(NotFoundError, match="there is no folder"):
        keys(tmp_path / "root", prefix)


def test_an_archive_that_is_not_there_or_no_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotFoundError, match="there is no folder"):
        FolderStore(tmp_path / "nowhere").check()
    with pytest.raises(NotFoundError, match="is not a folder"):
        FolderStore(tmp_path / "file").check()
    with pytest.raises(NotFoundError):
        keys(tmp_path / "nowhere")


def test_links_and_what_is_no_file_are_not_listed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    write(root, "a.jpg", "sub/b.jpg")
    write(outside, "secret.jpg")
    (root / "to-file").symlink_to(outside / "secret.jpg")
    (root / "to-folder").symlink_to(outside)
    (root / "sub" / "loop").symlink_to(root)
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(root / "socket"))
        assert keys(root) == ["a.jpg", "sub/b.jpg"]
        with pytest.raises(ForbiddenError, match="symbolic link"):
            keys(root, "to-folder")
        with pytest.raises(ForbiddenError, match="symbolic link"):
            keys(root, "sub/loop/sub")


def test_more_files_than_a_page_holds_come_in_several(tmp_path: Path) -> None:
    write(tmp_path, *(f"{number:05}" for number in range(2_500)))
    pages = list(FolderStore(tmp_path).pages("", None))
    assert [len(page) for page in pages] == [1_000, 1_000, 500]
    rest = list(FolderStore(tmp_path).pages("", pages[0][-1].key))
    assert [info for page in rest for info in page] == [*pages[1], *pages[2]]


def test_a_version_changes_with_the_content_and_tells_size_and_time(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (before,) = listed(tmp_path)
    os.utime(tmp_path / "a", ns=(1, 1_600_000_000_123_456_789))
    (touched,) = listed(tmp_path)
    assert before.version != touched.version
    assert touched.size_bytes == 1
    assert touched.modified_at is not None
    assert touched.modified_at.year == 2020


def test_a_folder_that_may_not_be_read_shows_up_as_a_failure_once(public_folder: Path) -> None:
    write(public_folder, "a.jpg", "closed/b.jpg", "z.jpg")
    (public_folder / "closed").chmod(0o000)
    with another_user():
        store = FolderStore(public_folder)
        found = listed(public_folder)
        assert [info.key for info in found] == ["a.jpg", "closed/", "z.jpg"]
        assert keys(public_folder, after="closed/") == ["z.jpg"]
        with pytest.raises(ObjectForbiddenError, match="may not read this folder"):
            store.fetch("closed/", found[1].version, 100)
        assert keys(public_folder, "closed") == ["closed/"]


def test_a_file_that_may_not_be_read_is_listed_and_fails_alone(public_folder: Path) -> None:
    write(public_folder, "a.jpg")
    (public_folder / "a.jpg").chmod(0o000)
    with another_user():
        (info,) = listed(public_folder)
        with pytest.raises(ObjectForbiddenError, match="may not read"):
            FolderStore(public_folder).fetch(info.key, info.version, 100)


def test_an_archive_that_may_not_be_read_says_so(public_folder: Path) -> None:
    public_folder.chmod(0o700)
    with another_user(), pytest.raises(ForbiddenError, match="may not read"):
        FolderStore(public_folder).check()


# Odd names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "new\nline.jpg",
        "emoji \U0001f600.jpg",
        "..jpg",
        "...",
        " ",
        "\\x41.jpg",
        "e\u0301",
        "\xe9",
        "%2e%2e",
        "a\tb",
        "-rf",
    ],
)
def test_an_odd_name_goes_from_the_listing_to_the_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / name).write_bytes(b"content")
    (info,) = listed(tmp_path)
    assert info.key == f"sub/{name}"
    assert bytes(FolderStore(tmp_path).fetch(info.key, info.version, 100).body) == b"content"


def test_a_name_that_is_not_utf8_is_listed_in_storable_form_and_fails_with_advice(tmp_path: Path) -> None:
    for name in (b"bad\xff.jpg", b"sub\xfe/a.jpg"):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = listed(tmp_path)
    assert [info.key for info in found] == [r"bad\xff.jpg", r"sub\xfe/a.jpg"]
    assert keys(tmp_path, after=found[0].key) == [found[1].key]
    for info in found:
        with pytest.raises(BadKeyError, match="rename the file"):
            FolderStore(tmp_path).fetch(info.key, info.version, 100)


def make_deep(root: Path, levels: int, name: str = "x" * 200) -> None:
    """Make a path that is too long to be named at once."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


@pytest.mark.parametrize("levels", [9, 10, 15, 30])
def test_a_path_too_long_to_store_ends_as_one_bad_key_and_the_walk_goes_on(tmp_path: Path, levels: int) -> None:
    make_deep(tmp_path, levels)
    write(tmp_path, "z.jpg")
    deep, last = listed(tmp_path)
    assert last.key == "z.jpg"
    assert len(deep.key.encode()) <= MAX_KEY_BYTES
    if levels > 9:
        with pytest.raises(BadKeyError, match="too long"):
            FolderStore(tmp_path).fetch(deep.key, deep.version, 100)
        assert keys(tmp_path, after=deep.key) == ["z.jpg"]
    shutil.rmtree(tmp_path / ("x" * 200))


def test_folders_nested_deeper_than_calls_may_be_are_walked(tmp_path: Path) -> None:
    make_deep(tmp_path, 995, "d")
    (info,) = listed(tmp_path)
    assert info.key == "d/" * 995 + "a.jpg"
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)  # Python's own would call itself too deep


# Fetching ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["../outside", "/etc/passwd", "a//b", "a/../a/b", "./a/b", "a/b/", "", "/", "..", "a/./b", "a/\x00b"]
)
def test_a_key_that_is_no_path_below_the_root_is_missing(tmp_path: Path, key: str) -> None:
    write(tmp_path / "root", "a/b")
    write(tmp_path, "outside")
    with pytest.raises(ObjectMissingError):
        FolderStore(tmp_path / "root").fetch(key, "", 100)


def test_no_link_is_followed_wherever_it_stands_in_the_path(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "a/b")
    write(tmp_path, "outside/b")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "a" / "link").symlink_to(tmp_path / "outside" / "b")
    store = FolderStore(root)
    for key in ("link/b", "a/link", "link"):
        with pytest.raises(ObjectForbiddenError, match="symbolic link"):
            store.fetch(key, "", 100)


def test_what_took_the_place_of_a_file_is_refused_by_what_it_is(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    write(tmp_path, "file")
    open_before = psutil.Process().num_fds()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "socket"))
        for key in ("pipe", "folder", "socket"):
            with pytest.raises(ObjectForbiddenError, match="not a regular file"):
                store.fetch(key, "", 100)
    for key in ("file/a", "gone", "gone/a"):
        with pytest.raises(ObjectMissingError, match="no longer exists"):
            store.fetch(key, "", 100)
    with pytest.raises(BadKeyError):
        store.fetch("x" * 300, "", 100)
    assert psutil.Process().num_fds() == open_before


def test_a_disk_that_is_not_mounted_does_not_make_its_files_look_deleted(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="is its disk mounted"):
        FolderStore(tmp_path / "unmounted").fetch("a", "", 100)


def test_a_file_at_the_limit_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert len(FolderStore(tmp_path).fetch("a", "", 100).body) == 100
    with pytest.raises(ObjectTooLargeError, match="100 bytes exceed the limit of 99"):
        FolderStore(tmp_path).fetch("a", "", 99)


def test_a_file_that_changed_after_it_was_listed_comes_as_it_is_now_with_its_new_version(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (before,) = listed(tmp_path)
    (tmp_path / "a").write_bytes(b"new content")
    fetched = FolderStore(tmp_path).fetch("a", before.version, 100)
    assert bytes(fetched.body) == b"new content"
    assert fetched.version == listed(tmp_path)[0].version != before.version


def test_a_file_that_keeps_changing_while_it_is_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    real, turns = os.fstat, iter(range(10_000))

    def fstat_of_a_busy_file(descriptor: int) -> os.stat_result:
        os.truncate(tmp_path / "a", 1 + next(turns))
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", fstat_of_a_busy_file)
    with pytest.raises(ObjectChangedError, match="kept changing"):
        FolderStore(tmp_path).fetch("a", "", 100_000)


def test_a_file_replaced_again_and_again_is_read_whole_or_refused_but_never_mixed(tmp_path: Path) -> None:
    contents = [bytes([number]) * 300_000 for number in range(4)]
    (tmp_path / "a").write_bytes(contents[0])
    done = threading.Event()

    def replace() -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            (tmp_path / "new").write_bytes(contents[turn % 4])
            (tmp_path / "new").replace(tmp_path / "a")

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(200):
            try:
                body = bytes(FolderStore(tmp_path).fetch("a", "", 1_000_000).body)
            except PermanentError as error:
                assert isinstance(error, ObjectChangedError)  # noqa: PT017  (either is right)
            else:
                assert body in contents
    finally:
        done.set()
        thread.join()
