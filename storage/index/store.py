"""Open segments and manifests. Nothing with a wrong checksum gets past this module."""

from __future__ import annotations

import json
import logging
import shutil
import time
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import numpy as np

from storage.errors import ServiceUnavailableError
from storage.index.manifest import DamagedError, Manifest, SegmentEntry, decode, generation_folder, manifest_name
from storage.index.segment import check_files, open_segment

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from storage.index.file_storage import FileStorage
    from storage.index.part import Part

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often the files of opened segments are looked at, whether somebody has written into them."""

COPY_GRACE_SECONDS = 3600.0
"""Copies that the newest manifest does not use are kept this long: another process may be about to open them."""


class SegmentStore:
    """The segments of a storage, opened. Thread-safe. A segment is opened once and shared.

    Args:
        place: storage of the segments.
        cache_dir: a local folder, for copies of remote segments and for notes of passed checks.
    """

    def __init__(self, place: FileStorage, cache_dir: Path) -> None:
        self.place = place
        self.cache_dir = cache_dir
        self._opened: dict[str, _Opened] = {}
        self._looked_at = time.monotonic()
        self._lock = Lock()

    def manifest(self, generation_id: int, number: int) -> Manifest:
        """Return a manifest. Raises ``DamagedError``."""
        manifest = decode(self.place.read(manifest_name(generation_id, number)))
        if (manifest.generation_id, manifest.number) != (generation_id, number):
            raise DamagedError(f"manifest {number} of generation {generation_id} has the content of another manifest")
        return manifest

    def write_manifest(self, manifest: Manifest) -> bool:
        """Write a manifest unless its number is taken. Return whether it was written."""
        return self.place.create(manifest_name(manifest.generation_id, manifest.number), manifest.encoded())

    def segment(self, generation_id: int, name: str) -> Part:
        """Return a segment whose files were checked. Raises ``DamagedError``."""
        path = f"{generation_folder(generation_id)}/{name}"
        with self._lock:
            opened = self._opened.get(path)
            if opened is None:
                folder = self._checked_folder(path)
                states = {file: _state(file) for file in folder.iterdir()}
                opened = self._opened[path] = _Opened(open_segment(folder, name), states)
            return opened.part

    def close_changed(self) -> bool:
        """Close segments into whose files somebody has written, and return whether there were any. Cheap.

        Files of segments never change. Reading what is mapped of a file that was cut short would end the process.
        """
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return False
        with self._lock:
            self._looked_at = time.monotonic()
            changed = [path for path, opened in self._opened.items() if opened.is_changed()]
            for path in changed:
                del self._opened[path]
        return bool(changed)

    def close(self) -> None:
        """Close all segments: they are checked again when they are opened."""
        with self._lock:
            self._opened.clear()

    def check(self, generation_id: int, name: str) -> None:
        """Read every byte of a segment in its storage. Raises ``DamagedError``."""
        path = f"{generation_folder(generation_id)}/{name}"
        folder = self.place.folder_of(path)
        if folder is not None:
            check_files(folder, name)
            return
        copy = self._new_copy(path)
        try:
            check_files(copy, name)
        finally:
            shutil.rmtree(copy)

    def dead(self, generation_id: int, entry: SegmentEntry) -> NDArray[np.int64]:
        """Return the dead image ids of a segment, ascending. Raises ``DamagedError``."""
        if entry.dead is None:
            return np.empty(0, dtype=np.int64)
        data = self.place.read(f"{generation_folder(generation_id)}/{entry.dead}")
        if entry.dead != _dead_name(data):
            raise DamagedError(f"{entry.dead} was changed: its SHA-256 does not match its name")
        dead: NDArray[np.int64] = np.load(BytesIO(data), allow_pickle=False)
        return dead

    def write_dead(self, generation_id: int, dead: NDArray[np.int64]) -> str:
        """Store the dead image ids of a segment. Return the file's name."""
        stream = BytesIO()
        np.save(stream, dead, allow_pickle=False)
        name = _dead_name(stream.getvalue())
        self.place.put(f"{generation_folder(generation_id)}/{name}", stream.getvalue())
        return name

    def keep_open(self, generation_id: int, names: set[str]) -> None:
        """Close the generation's segments that are not in ``names``, and delete their local copies."""
        folder = generation_folder(generation_id)
        with self._lock:
            for path in [path for path in self._opened if path.startswith(f"{folder}/")]:
                if path.rpartition("/")[2] not in names:
                    del self._opened[path]
        for kept in (self.cache_dir / "segments" / folder, self.cache_dir / "checked" / folder):
            for copy in kept.iterdir() if kept.is_dir() else ():
                with suppress(FileNotFoundError):  # another process may delete it too
                    if copy.stem not in names and time.time() - copy.stat().st_mtime > COPY_GRACE_SECONDS:
                        # A mapped file stays readable after its name is deleted.
                        shutil.rmtree(copy) if copy.is_dir() else copy.unlink()

    def _checked_folder(self, path: str) -> Path:
        folder = self.place.folder_of(path)
        if folder is not None:
            self._check_once(folder, path)
            return folder
        copy = self._copy_of(path)
        if copy.is_dir():
            try:
                self._check_once(copy, path)
            except DamagedError as error:
                log.warning("a copy of an index segment is damaged and is fetched again", extra={"reason": str(error)})
                shutil.rmtree(copy)
            else:
                return copy
        fetched = self._new_copy(path)
        try:
            self._check_once(fetched, path)
            if copy.is_dir():  # another process was faster
                return copy
            fetched.rename(copy)
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
        return copy

    def _copy_of(self, path: str) -> Path:
        return self.cache_dir / "segments" / path

    def _new_copy(self, path: str) -> Path:
        copy = self._copy_of(path)
        fetched = copy.with_name(f".{copy.name}.{uuid4().hex}")
        try:
            fetched.mkdir(parents=True)
            self.place.fetch(path, fetched)
        except BaseException as error:
            shutil.rmtree(fetched, ignore_errors=True)
            if isinstance(error, OSError):
                # This machine's disk, not the published file: nobody must write that again because of it.
                raise ServiceUnavailableError(
                    f"{path} cannot be copied to {self.cache_dir}: {error.strerror}. Free space on this disk, or set "
                    "RAMQ_DATA_DIR to a folder that can be written"
                ) from error
            raise
        return fetched

    def _check_once(self, folder: Path, path: str) -> None:
        """Check a segment's files, unless exactly these files passed before: hashing reads every byte."""
        generation, _, name = path.rpartition("/")
        try:
            facts = {file.name: _identity(file) for file in sorted(folder.iterdir())}
        except OSError as error:
            raise DamagedError(f"{folder} cannot be read: {error.strerror}") from error
        note = self.cache_dir / "checked" / generation / f"{name}.json"
        with suppress(OSError, ValueError):  # no note, or an incomplete one: check
            if json.loads(note.read_bytes()) == facts:
                return
        check_files(folder, name)
        draft = note.with_name(f".{note.name}.{uuid4().hex}")
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(facts))
            draft.replace(note)
        except OSError as error:
            log.warning("the next process will check the index again", extra={"reason": str(error)})


class _Opened(NamedTuple):
    """A segment, and the state of its files when it was opened."""

    part: Part
    states: dict[Path, tuple[int, int, int]]

    def is_changed(self) -> bool:
        """Whether a file was changed. One that was deleted or replaced stays mapped as it was."""
        for file, state in self.states.items():
            try:
                now = _state(file)
            except OSError:
                continue
            if now[0] == state[0] and now != state:
                return True
        return False


def _state(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _identity(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _dead_name(data: bytes) -> str:
    return f"dead-{sha256(data).hexdigest()}.npy"
