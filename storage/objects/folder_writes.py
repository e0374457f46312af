"""Small files that are written below a folder, whole or not at all. Symbolic links are not followed."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from typing import TYPE_CHECKING

from storage.objects.base import BadKeyError, ObjectForbiddenError, StoreUnavailableError
from storage.objects.folder import are_names, open_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LINKED = {errno.ELOOP, errno.ENOTDIR}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def rewrite(root: Path, key: str, change: Callable[[bytes | None], bytes | None], *, with_folders: bool) -> bool:
    """Replace a file below a folder. Return whether it was written.

    Args:
        root: the folder.
        key: the file's path below it.
        change: gets the content, None if there is no file, and returns the new one, or None to leave it as it is.
        with_folders: make folders that are missing.

    Raises:
        BadKeyError: such a path cannot be.
        ObjectForbiddenError: it leads through a symbolic link, is no regular file, or may not be written.
        StoreUnavailableError: the disk is full, or failed.
    """
    *folders, name = key.split("/")
    if not are_names(*folders, name):
        raise BadKeyError(f"{key!r} cannot be a path below a folder")
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        folder = open_folder(top, folders, with_missing=with_folders)
        try:
            return _rewrite(folder, name, change)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in _LINKED:
            raise ObjectForbiddenError(f"{key} leads through a symbolic link, which is not followed") from None
        if error.errno == errno.EISDIR:
            raise ObjectForbiddenError(f"{key} is a folder") from None
        if error.errno in _REFUSED:
            raise ObjectForbiddenError(f"{key} may not be written ({error.strerror}): check permissions") from None
        if error.errno == errno.ENAMETOOLONG:
            raise BadKeyError(f"{key} is too long for a file name") from None
        raise StoreUnavailableError(f"{key} cannot be written: {error.strerror}") from error


def _rewrite(folder: int, name: str, change: Callable[[bytes | None], bytes | None]) -> bool:
    before = _read(folder, name)
    after = change(before)
    if after is None:
        return False
    waiting = f".{secrets.token_hex(8)}.part"
    mode = 0o666 if before is None else stat.S_IMODE(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    file = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(after)
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(waiting, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(waiting, dir_fd=folder)
        raise
    return True


def _read(folder: int, name: str) -> bytes | None:
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ObjectForbiddenError(f"{name} is not a regular file")
        return opened.read()
