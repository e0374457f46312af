"""What Linux says of changes below a folder (inotify), as keys to look at.

A file counts when its writer closes it, or when it is moved to its place. So a file that is still being written is not
named. New folders are watched too, and what is in them already is named. The kernel tells of changes that were made
through this machine: see ``silent_kind`` for network mounts.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from inotify_simple import INotify, flags

from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MASK = (
    flags.CLOSE_WRITE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE | flags.CREATE | flags.DELETE_SELF
    | flags.MOVE_SELF | flags.ONLYDIR | flags.DONT_FOLLOW | flags.EXCL_UNLINK
)  # fmt: skip

_SILENT = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "lustre", "beegfs", "afs", "gpfs", "ocfs2",
     "gfs2", "virtiofs", "vboxsf", "prl_fs", "drvfs"}
)  # fmt: skip
"""File systems whose other users change files without this kernel."""


class NotToldError(UsageError):
    """Changes of this folder cannot be heard of here: the reason, and what to do."""

    code = "not_told"


class LostError(Exception):
    """Some changes were not told: the queue of the kernel was full, or the folder is gone. List everything."""


class FolderChanges:
    """The changes below ``root``. Not thread-safe.

    Args:
        root: the folder.
        base: the keys of its files begin with this: empty, or with a slash at its end.

    Raises:
        NotToldError: the folder cannot be watched.
    """

    def __init__(self, root: Path, base: str = "") -> None:
        self._root = os.fsencode(root)
        self._base = base
        self._folders: dict[int, bytes] = {}
        """The path below the root of each watched folder, with a slash at its end; the root's is empty."""
        kind = silent_kind(root)
        if kind is not None:
            raise NotToldError(
                f"{root} is on a network mount ({kind}), where changes by other machines are not told: it is only "
                "listed every so often"
            )
        try:
            self._place = _place_of(root)
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            raise _no_more(error, root) from error
        try:
            for _ in self._watch(b""):
                pass
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            self.close()
            raise NotToldError(f"{root} is no folder that this worker can read on this machine") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the kernel forget the folders."""
        self._inotify.close()

    @property
    def folders(self) -> int:
        """How many folders are watched."""
        return len(self._folders)

    def read(self, timeout_seconds: float) -> set[str]:
        """Return keys to look at; none if nothing changed in this time. A key with a slash at its end is a folder.

        Raises:
            LostError: see there. Begin anew then.
            NotToldError: a new folder cannot be watched.
        """
        keys: set[str] = set()
        for event in self._inotify.read(timeout=int(timeout_seconds * 1000)):
            if event.mask & flags.Q_OVERFLOW:
                raise LostError("the kernel could not keep all changes")
            folder = self._folders.get(event.wd)
            if event.mask & (flags.UNMOUNT | flags.DELETE_SELF | flags.MOVE_SELF | flags.IGNORED):
                if event.mask & flags.IGNORED:
                    self._folders.pop(event.wd, None)
                if folder == b"":
                    raise LostError("the folder was unmounted, moved or deleted")
                continue
            if folder is None:
                continue
            keys.update(self._changed(folder + os.fsencode(event.name), event.mask))
        # The kernel tells of the folder that was there, wherever it is now, and not of what took its place: because a
        # folder above it was renamed, or a disk was mounted there.
        if _place_of(self._root) != self._place:
            raise LostError("another folder is there now")
        return keys

    def _changed(self, path: bytes, mask: int) -> Iterator[str]:
        """Yield the keys that a change of ``path``, below the root, is about."""
        if mask & flags.ISDIR:
            if mask & (flags.MOVED_FROM | flags.DELETE):
                self._forget(path + b"/")
                yield from self._keys(path + b"/")
            elif mask & (flags.CREATE | flags.MOVED_TO):
                # A folder may come in another one's place. What was below it is looked at too.
                yield from self._keys(path + b"/")
                yield from self._watch(path + b"/")
            return
        if mask & flags.CREATE and not mask & (flags.CLOSE_WRITE | flags.MOVED_TO) and not self._is_linked(path):
            return  # its writer has it open, and will close it
        yield from self._keys(path)

    def _is_linked(self, path: bytes) -> bool:
        """Return whether a new name is another one of an existing file: nobody closes it then."""
        try:
            status = os.lstat(os.path.join(self._root, path))  # noqa: PTH118  (bytes)
        except OSError:
            return True  # gone again
        return stat.S_ISREG(status.st_mode) and status.st_nlink > 1

    def _keys(self, path: bytes) -> Iterator[str]:
        """Yield the key of a path. Names that are not UTF-8 are left to the listing, which tells what is wrong."""
        try:
            yield f"{self._base}{path.decode()}"
        except UnicodeDecodeError:
            return

    def _watch(self, start: bytes) -> Iterator[str]:
        """Watch a folder and those in it, and yield the keys of the files that are there.

        Each folder is watched before it is read. So a file is either read or told of.
        """
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            path = os.path.join(self._root, folder)  # noqa: PTH118  (bytes)
            try:
                self._folders[self._inotify.add_watch(path, _MASK)] = folder
                with os.scandir(path) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(folder + entry.name + b"/")
                        elif entry.is_file(follow_symlinks=False):
                            yield from self._keys(folder + entry.name)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                if folder == b"":
                    raise
                # Deleted since, or unreadable: the listing tells of the latter.
            except OSError as error:
                raise _no_more(error, self._root.decode(errors="replace")) from error

    def _forget(self, folder: bytes) -> None:
        """Stop watching a folder that was moved away, and those in it."""
        for number, path in list(self._folders.items()):
            if path.startswith(folder):
                del self._folders[number]
                try:
                    self._inotify.rm_watch(number)
                except OSError:  # deleted: the kernel has forgotten it
                    continue


def _place_of(root: Path | bytes) -> tuple[int, int] | None:
    """Return what tells a folder from another one of this name; None: there is none."""
    try:
        status = os.stat(root)  # noqa: PTH116  (bytes)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _no_more(error: OSError, root: Path | str) -> NotToldError:
    if error.errno == errno.ENOSPC:
        limit = _limit("max_user_watches")
        return NotToldError(
            f"{root} has more folders than this machine may watch ({limit}): raise fs.inotify.max_user_watches with "
            "sysctl. Until then it is only listed every so often"
        )
    if error.errno == errno.EMFILE:
        limit = _limit("max_user_instances")
        return NotToldError(
            f"this user may not watch more folders at a time ({limit}): raise fs.inotify.max_user_instances with "
            f"sysctl. Until then {root} is only listed every so often"
        )
    return NotToldError(f"{root} cannot be watched: {error.strerror}")


def _limit(name: str) -> str:
    try:
        return Path("/proc/sys/fs/inotify", name).read_text(encoding="ascii").strip()
    except OSError:
        return "limit unknown"


def silent_kind(root: Path, mounts: str | None = None) -> str | None:
    """Return the kind of network file system that a folder is on; None if changes in it are told.

    Args:
        root: the folder.
        mounts: the text of ``/proc/self/mountinfo`` (man 5 proc_pid_mountinfo). None: of this process.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
    best, kind = -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        place = Path(fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        # Of several at the same place, the last one is on top.
        if root.is_relative_to(place) and len(place.parts) >= best:
            best, kind = len(place.parts), after.split(" ")[0]
    return kind if kind in _SILENT or kind.startswith("fuse.") else None
