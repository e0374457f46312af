"""What Linux says of changes in a folder: a real one, and which keys are looked at."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("inotify_simple")

from storage.objects import folder_changes
from storage.objects.folder_changes import FolderChanges, LostError, NotToldError, silent_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "2024").mkdir(parents=True)
    (folder / "2024" / "old.jpg").write_bytes(b"old")
    return folder


@pytest.fixture
def changes(root: Path) -> Iterator[FolderChanges]:
    opened = FolderChanges(root, "base/")
    yield opened
    opened.close()


def heard(changes: FolderChanges, *, until: str | None = None) -> set[str]:
    """All keys, read until one is among them, or until nothing more comes."""
    keys: set[str] = set()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        fresh = changes.read(0.05)
        keys |= fresh
        if (until is None and not fresh) or until in keys:
            break
    return keys


def test_a_file_is_named_once_its_writer_closes_it(changes: FolderChanges, root: Path) -> None:
    with (root / "new.jpg").open("wb") as file:
        file.write(b"half")
        file.flush()
        assert heard(changes) == set()
        file.write(b" and half")
    assert heard(changes) == {"base/new.jpg"}


def test_changed_deleted_moved_and_linked_files_are_named(changes: FolderChanges, root: Path) -> None:
    (root / "2024/old.jpg").write_bytes(b"new")
    assert heard(changes) == {"base/2024/old.jpg"}
    (root / "2024/old.jpg").rename(root / "moved here.jpg")
    assert heard(changes) == {"base/2024/old.jpg", "base/moved here.jpg"}
    (root / "another.jpg").hardlink_to(root / "moved here.jpg")
    assert heard(changes) == {"base/another.jpg"}
    (root / "another.jpg").unlink()
    assert heard(changes) == {"base/another.jpg"}
    (root / "link.jpg").symlink_to(root / "moved here.jpg")
    assert heard(changes) == set()


def test_what_is_in_new_folders_is_named(changes: FolderChanges, root: Path, tmp_path: Path) -> None:
    filled = tmp_path / "filled"
    (filled / "a/b").mkdir(parents=True)
    (filled / "a/b/deep.jpg").write_bytes(b"deep")
    filled.rename(root / "filled")
    assert heard(changes) == {"base/filled/", "base/filled/a/b/deep.jpg"}
    (root / "filled/a/b/later.jpg").write_bytes(b"later")
    assert heard(changes) == {"base/filled/a/b/later.jpg"}


def test_a_deep_folder_that_is_made_at_once_loses_nothing(changes: FolderChanges, root: Path) -> None:
    wanted = set()
    for number in range(50):
        folder = root / f"{number}/x/y"
        folder.mkdir(parents=True)
        (folder / "p.jpg").write_bytes(b"p")
        wanted.add(f"base/{number}/x/y/p.jpg")
    assert wanted <= heard(changes)


def test_a_folder_that_goes_is_named_and_forgotten(changes: FolderChanges, root: Path, tmp_path: Path) -> None:
    before = changes.folders
    (root / "2024").rename(tmp_path / "elsewhere")
    assert heard(changes) == {"base/2024/"}
    assert changes.folders == before - 1
    (tmp_path / "elsewhere/not ours.jpg").write_bytes(b"no")
    assert heard(changes) == set()
    (tmp_path / "elsewhere").rename(root / "2025")
    assert "base/2025/not ours.jpg" in heard(changes)
    shutil.rmtree(root / "2025")
    assert "base/2025/" in heard(changes, until="base/2025/")


def test_names_that_are_not_utf8_are_left_to_the_listing(changes: FolderChanges, root: Path) -> None:
    with open(os.fsencode(root) + b"/\xff.jpg", "wb"):  # noqa: PTH123  (bytes)
        pass
    assert heard(changes) == set()


def test_more_changes_than_the_kernel_keeps_are_said_to_be_lost(changes: FolderChanges, root: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    if limit > 50_000:
        pytest.skip("the kernel's queue is very long here")
    files = [os.fspath(root / f"{number}.jpg") for number in (1, 2)]
    for number in range(limit):
        os.close(os.open(files[number % 2], os.O_CREAT | os.O_WRONLY))
    with pytest.raises(LostError, match="kernel"):
        heard(changes)


def test_another_folder_in_its_place_is_noticed_though_the_kernel_tells_nothing(tmp_path: Path) -> None:
    """A folder above it is renamed; a disk that is mounted there looks the same."""
    root = tmp_path / "above" / "photos"
    root.mkdir(parents=True)
    changes = FolderChanges(root)
    assert changes.read(0.05) == set()
    (tmp_path / "above").rename(tmp_path / "aside")
    root.mkdir(parents=True)
    with pytest.raises(LostError, match="another folder"):
        changes.read(0.05)
    changes.close()


def test_a_folder_that_is_deleted_or_replaced_is_lost(changes: FolderChanges, root: Path) -> None:
    shutil.rmtree(root)
    with pytest.raises(LostError, match="deleted"):
        heard(changes, until="never")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EACCES])
def test_limits_are_told_in_words(root: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folder_changes.INotify, "add_watch" if number != errno.EMFILE else "__init__", full)
    words = {errno.ENOSPC: "max_user_watches", errno.EMFILE: "max_user_instances", errno.EACCES: "can read"}
    with pytest.raises(NotToldError, match=words[number]):
        FolderChanges(root)


def test_a_missing_folder_and_a_file_are_refused(root: Path) -> None:
    for place in (root / "nowhere", root / "2024/old.jpg"):
        with pytest.raises(NotToldError, match="no folder"):
            FolderChanges(place)


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:50 / /mnt/nas rw,relatime - nfs4 nas:/photos rw
31 30 8:2 / /mnt/nas/local rw - xfs /dev/sdb rw
32 22 0:51 / /mnt/my\\040share rw - cifs //nas/share rw
33 22 0:52 / /mnt/ssh rw - fuse.sshfs user@host:/ rw
34 22 0:53 / /mnt/usb rw - fuseblk /dev/sdc1 rw
bad line
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/srv/a", None), ("/mnt/nas/2024", "nfs4"), ("/mnt/nas/local/a", None), ("/mnt/my share", "cifs"),
        ("/mnt/ssh/x", "fuse.sshfs"), ("/mnt/usb", None), ("/mnt/nasty", None),
    ],
)  # fmt: skip
def test_network_mounts_are_known_by_the_file_system_on_top(place: str, kind: str | None) -> None:
    assert silent_kind(Path(place), MOUNTS) == kind


def test_a_network_mount_is_refused_with_what_happens_instead(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_changes, "silent_kind", lambda _: "nfs4")
    with pytest.raises(NotToldError, match="only listed every so often"):
        FolderChanges(root)
