"""The folder of checkpoints: fetch the files of a model, report their state, find them.

Layout: ``<models_dir>/<model>/<file>``. A file gets its name only if its size and hash are right. If no hash is
published, the hash of the first pull is stored next to the file (``FILE.sha256``) and applies from then on.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from ram_core.checkpoints.download import CHUNK_BYTES, Download, Listener, Patience, check_room
from ram_core.checkpoints.published import entry, mirrored
from ram_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ram_core.checkpoints.published import RemoteFile


_WEIGHTS = {".safetensors", ".pth", ".bin", ".onnx"}


class FileState(StrEnum):
    """State of a file. ``status`` reports ``PRESENT``, since it reads only sizes."""

    OK = "ok"
    PRESENT = "present"
    MISSING = "missing"
    PARTIAL = "partial"
    DAMAGED = "damaged"
    UNRECORDED = "unrecorded"


@dataclass(frozen=True, slots=True)
class FileStatus:
    """One file of a model in a folder.

    Attributes:
        model: name of the model.
        name: name of the file.
        path: its path, whether or not it exists.
        state: its state.
        size_bytes: bytes on disk; those of the partial file if there is only that.
        sha256: hash (hex) of the file; None if it was not read.
        expected_sha256: published or recorded hash; None if there is neither.
        pinned: True if ``expected_sha256`` is published, False if it was recorded at the first pull.
        detail: a line for people; empty if all is well.
    """

    model: str
    name: str
    path: Path
    state: FileState
    size_bytes: int
    sha256: str | None
    expected_sha256: str | None
    pinned: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Where ``pull`` takes files from.

    Attributes:
        mirror: address that replaces the publishers' hosts.
        folder: a folder to copy from instead, for machines without a network.
    """

    mirror: str | None = None
    folder: Path | str | None = None


def pull(
    name: str,
    models_dir: Path | str,
    *,
    mirror: str | None = None,
    from_dir: Path | str | None = None,
    listener: Listener | None = None,
    patience: Patience | None = None,
) -> list[FileStatus]:
    """Fetch the missing files of a model, and check size and hash of all its files.

    Interrupted downloads continue, even after a restart. One pull of a model runs at a time; a second one waits.

    Args:
        name: name in the catalogue.
        models_dir: folder of checkpoints; created if needed.
        mirror: http or https address that replaces the publishers' hosts.
        from_dir: folder to copy the files from instead. They are looked for in it, then in its subfolder with the
            model's name.
        listener: callbacks about the progress.
        patience: when to give up on a bad connection.

    Returns:
        The files, all ``OK``. ``detail`` tells if a hash was recorded now.

    Raises:
        UnknownModelError: no such model.
        CheckpointError: which file failed, why, and what to do.
    """
    wanted = entry(name)
    listener = listener or Listener()
    folder = Path(models_dir) / name
    if not wanted.files:
        return []
    with _only_one(folder, listener):
        return [
            _pull_file(name, each, folder, Source(mirror, from_dir), listener, patience or Patience())
            for each in wanted.files
        ]


def verify(name: str, models_dir: Path | str) -> list[FileStatus]:
    """Read every file of a model and compare it with its published or recorded hash.

    Raises:
        UnknownModelError: no such model.
    """
    return [_examine(name, each, Path(models_dir) / name, read=True) for each in entry(name).files]


def status(name: str, models_dir: Path | str) -> list[FileStatus]:
    """Return the state of a model's files by size alone, which is fast.

    Raises:
        UnknownModelError: no such model.
    """
    return [_examine(name, each, Path(models_dir) / name, read=False) for each in entry(name).files]


def installed(models_dir: Path | str) -> list[str]:
    """Return the names of the folders with weights, in order: pulled models, and others. Their files are not read."""
    return sorted({file.parent.name for file in Path(models_dir).glob("*/*") if file.suffix in _WEIGHTS})


def path(name: str, models_dir: Path | str) -> Path:
    """Return the folder of a model's files, whether or not it exists. Raises ``UnknownModelError``."""
    return Path(models_dir) / entry(name).name


def find(name: str, models_dir: Path | str) -> dict[str, Path]:
    """Return the files of a pulled model by file name.

    Raises:
        UnknownModelError: no such model.
        CheckpointError: a file is missing or has the wrong size.
    """
    found = status(name, models_dir)
    lacking = [each for each in found if each.state is not FileState.PRESENT]
    if lacking:
        raise CheckpointError(
            f"{lacking[0].path} is {lacking[0].state}; run `ramq models pull {name}` (models folder: {models_dir})"
        )
    return {each.name: each.path for each in found}


def _pull_file(
    model: str, file: RemoteFile, folder: Path, source: Source, listener: Listener, patience: Patience
) -> FileStatus:
    found = _examine(model, file, folder, read=True)
    if found.state is FileState.OK:
        _remove_parts(found.path)
        return found
    if found.state is FileState.UNRECORDED:
        assert found.sha256 is not None
        return _record(model, file, folder, found.sha256, "the file that was already there")
    if found.state is FileState.DAMAGED:
        listener.note(f"{found.path} is damaged ({found.detail}); set aside, fetching it again")
        found.path.replace(_aside(found.path))  # whatever fails from here on, no loader may find it
    if source.folder is not None:
        digest, origin = _copy(model, file, folder, Path(source.folder), listener)
    else:
        origin = mirrored(file.url, source.mirror)
        digest = _download(file, folder, origin, patience, listener)
    if file.sha256 is None and _recorded(found.path) is None:
        return _record(model, file, folder, digest, origin)
    return _examine(model, file, folder, read=False, sha256=digest)


def _download(file: RemoteFile, folder: Path, url: str, patience: Patience, listener: Listener) -> str:
    target = folder / file.name
    expected = file.sha256 or _recorded(target)
    while True:
        download = Download(file, url, _part(target), patience, listener)
        download.run()
        digest = _sha256(_part(target))
        if expected in {None, digest}:
            _publish(target)
            return digest
        download.discard()
        if not download.continued:
            raise CheckpointError(_mismatch(file, target, url, digest))
        listener.note(f"{file.name}: the continued download has a wrong hash; downloading it again from the beginning")


def _copy(model: str, file: RemoteFile, folder: Path, source: Path, listener: Listener) -> tuple[str, str]:
    """Copy the bytes of a file. With a link, a later change of the source would pass for the checked file."""
    origin = next((each for each in (source / file.name, source / model / file.name) if each.is_file()), None)
    if origin is None:
        raise CheckpointError(f"{source} has no {file.name}; copy it there from {file.url}")
    target, part = folder / file.name, _part(folder / file.name)
    total = origin.stat().st_size
    if not file.fits(total):
        raise CheckpointError(f"{origin} has {total:,} bytes, expected {file.size_bytes:,}; copy the whole file again")
    _remove_parts(target)
    check_room(folder, total, file.name)
    digest, done = hashlib.sha256(), 0
    try:
        with origin.open("rb") as stream, part.open("wb") as out:
            while chunk := stream.read(CHUNK_BYTES):
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                listener.progress(file.name, done, total)
    except OSError as error:
        _remove_parts(target)
        raise CheckpointError(f"cannot copy {origin} to {folder}: {error.strerror}") from error
    expected = file.sha256 or _recorded(target) or _recorded(origin)
    if expected not in {None, digest.hexdigest()}:
        _remove_parts(target)
        raise CheckpointError(_mismatch(file, target, str(origin), digest.hexdigest()))
    _publish(target)
    return digest.hexdigest(), str(origin)


def _examine(model: str, file: RemoteFile, folder: Path, *, read: bool, sha256: str | None = None) -> FileStatus:
    target, part = folder / file.name, _part(folder / file.name)
    expected = file.sha256 or _recorded(target)

    def say(state: FileState, size_bytes: int = 0, detail: str = "") -> FileStatus:
        pinned = file.sha256 is not None
        return FileStatus(model, file.name, target, state, size_bytes, sha256, expected, pinned, detail)

    if not target.is_file():
        there = part.stat().st_size if part.is_file() else 0
        advice = f"run `ramq models pull {model}`"
        return say(FileState.PARTIAL, there, f"{advice} to continue") if there else say(FileState.MISSING, 0, advice)
    size = target.stat().st_size
    if not file.fits(size):
        return say(FileState.DAMAGED, size, f"{size:,} bytes instead of {file.size_bytes:,}")
    if sha256 is None and read:
        sha256 = _sha256(target)
    if sha256 is None:
        return say(FileState.PRESENT, size)
    return say(*_judged(size, sha256, expected))


def _judged(size: int, sha256: str, expected: str | None) -> tuple[FileState, int, str]:
    if expected is None:
        return FileState.UNRECORDED, size, "no hash is published, and none was recorded at a pull"
    if sha256 != expected:
        return FileState.DAMAGED, size, f"its sha256 is {sha256}, expected {expected}"
    return FileState.OK, size, ""


def _record(model: str, file: RemoteFile, folder: Path, digest: str, origin: str) -> FileStatus:
    """Store the hash of a first pull in the format of sha256sum, whose comments begin with ``#``."""
    target = folder / file.name
    when = datetime.now(UTC).date().isoformat()
    sidecar, fresh = _sidecar(target), _sidecar(target).with_suffix(".sha256.new")
    fresh.write_text(
        f"# No hash of this file is published. This is what {origin} gave on {when}.\n{digest}  {file.name}\n",
        encoding="utf-8",
    )
    fresh.replace(sidecar)
    detail = f"no hash is published; recorded the current one, {digest}, in {sidecar.name}"
    size = target.stat().st_size
    return FileStatus(model, file.name, target, FileState.OK, size, digest, digest, pinned=False, detail=detail)


def _recorded(target: Path) -> str | None:
    try:
        lines = _sidecar(target).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    digests = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    if len(digests) != 1 or len(digests[0]) != 64:
        raise CheckpointError(f"{_sidecar(target)} contains no hash; delete it and pull again")
    return digests[0]


def _mismatch(file: RemoteFile, target: Path, origin: str, digest: str) -> str:
    if file.sha256 is not None:
        return f"{origin} has sha256 {digest}, but {file.sha256} is published; nothing was kept, try another mirror"
    return (
        f"{origin} has sha256 {digest}, not the one recorded earlier; nothing was kept. "
        f"If the publisher replaced the file, delete {_sidecar(target)} and pull again"
    )


def _publish(target: Path) -> None:
    """Rename a checked partial file to its final name. After a power cut it is complete or missing."""
    part = _part(target)
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(target)
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _remove_parts(target)
    _aside(target).unlink(missing_ok=True)


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _aside(target: Path) -> Path:
    return target.with_name(target.name + ".damaged")


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _remove_parts(target: Path) -> None:
    part = _part(target)
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".json").unlink(missing_ok=True)


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from error


@contextlib.contextmanager
def _only_one(folder: Path, listener: Listener) -> Iterator[None]:
    """Hold the folder's lock. The kernel releases it with the process, so a killed pull needs no cleanup."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".pull.lock").open("a")
    except OSError as error:
        raise CheckpointError(f"cannot write in {folder}: {error.strerror}; set RAMQ_MODELS_DIR") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            listener.note(f"another pull into {folder} is running; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
