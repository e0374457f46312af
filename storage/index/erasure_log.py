"""The log of deletions, beside the files of the index: what to erase again in a database that was restored.

A backup has everything that was deleted after it was taken. The log is outside the database, so it survives. Each
deletion is one file, written before anything is erased, and never changed:

    {"format": 1, "deletion": 7, "begun_at": "2026-11-30T01:02:03.456789+00:00", "said_by": "ann", "salt": "…",
     "images": [[12, "9f…"], [13, "04…"]]}

``images`` has numbers and hashes of names (``storage.results.erased_names``).
"""

from __future__ import annotations

import json
import re
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from storage.batches import batched
from storage.index.manifest import DamagedError
from storage.results import erased_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.index.file_storage import FileStorage
    from storage.results.erasure_views import DeletionView, Withdrawal

FOLDER = "erasures"
FORMAT = 1
_NAME = re.compile(r"deletion-(\d{9,})-(\d{8}T\d{12})\.json")
_TIME = "%Y%m%dT%H%M%S%f"
_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class LoggedDeletion:
    """A deletion of the log that this database does not have, and those of its images that exist.

    Attributes:
        file: its name in the log.
        number: the deletion's number in the database in which it was carried out.
        begun_at: when, with the time zone.
        said_by: who asked for it.
        images: how many images it erased.
        same: ids of images with the name that they had when they were deleted, ascending.
        renamed: ids of images with another name, ascending. They had another name when the backup was taken, or they
            are other images, which were listed since the restore.
    """

    file: str
    number: int
    begun_at: datetime
    said_by: str
    images: int
    same: list[int]
    renamed: list[int]


@dataclass(frozen=True, slots=True)
class _Entry:
    deletion: int
    begun_at: str
    said_by: str
    salt: str
    images: list[tuple[int, str]]


def write(session: Session, place: FileStorage, deletion: DeletionView) -> None:
    """Write a deletion into the log, unless it is there with all images that it has left. Nothing may be erased before.

    Raises:
        ServiceUnavailableError: the storage does not answer.
    """
    begun_at, name = deletion.begun_at.astimezone(UTC), _name_of(deletion)
    try:
        there = _read(place, name)
    except DamagedError:
        there = _Entry(deletion.id, begun_at.isoformat(), deletion.said_by, secrets.token_hex(16), [])
    images = dict(there.images) | dict(erased_names.of_deletion(session, deletion.id, there.salt))
    if not images or len(images) > len(there.images):
        _put(place, name, replace(there, images=sorted(images.items())))


def withdraw(place: FileStorage, withdrawal: Withdrawal) -> None:
    """Take the images that stay out of the log, and a deletion that erased nothing altogether.

    Raises:
        ServiceUnavailableError: the storage does not answer.
    """
    name = _name_of(withdrawal.deletion)
    if not withdrawal.erased_ids:
        place.delete(f"{FOLDER}/{name}")
        return
    with suppress(DamagedError):  # somebody took the file out of the log: then it names no image that stays
        there, erased = _read(place, name), set(withdrawal.erased_ids)
        _put(place, name, replace(there, images=[each for each in there.images if each[0] in erased]))


def unknown(session: Session, place: FileStorage) -> tuple[list[LoggedDeletion], list[str]]:
    """Return the deletions of the log that this database does not have, oldest first, and unreadable files of the log.

    Raises:
        ServiceUnavailableError: the storage does not answer.
    """
    found, unreadable = [], []
    known = erased_names.known(session)
    for name in place.names(FOLDER):
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        try:
            # Only what is unknown is read: there may be many files, and some are large.
            if (int(match[1]), _time_of(match[2], name)) not in known:
                found.append(_compared(session, name, _read(place, name)))
        except DamagedError:
            unreadable.append(name)
    return sorted(found, key=lambda each: each.begun_at), sorted(unreadable)


def _name_of(deletion: DeletionView) -> str:
    # After a restore, other deletions get the same numbers, at other times.
    return f"deletion-{deletion.id:09d}-{deletion.begun_at.astimezone(UTC):{_TIME}}.json"


def _time_of(words: str, name: str) -> datetime:
    try:
        return datetime.strptime(f"{words}+0000", f"{_TIME}%z")
    except ValueError as error:
        raise DamagedError(f"{name} has no time in its name") from error


def _compared(session: Session, name: str, entry: _Entry) -> LoggedDeletion:
    same: list[int] = []
    renamed: list[int] = []
    for part in map(dict, batched(entry.images, _AT_ONCE)):
        for image_id, now in erased_names.of_images(session, list(part), entry.salt).items():
            (same if part[image_id] == now else renamed).append(image_id)
    begun_at = datetime.fromisoformat(entry.begun_at)
    images = len(entry.images)
    return LoggedDeletion(name, entry.deletion, begun_at, entry.said_by, images, sorted(same), sorted(renamed))


def strike(place: FileStorage, deletions: Sequence[LoggedDeletion]) -> None:
    """Take deletions out of the log: they were wrong."""
    for deletion in deletions:
        place.delete(f"{FOLDER}/{deletion.file}")


def _put(place: FileStorage, name: str, entry: _Entry) -> None:
    place.put(f"{FOLDER}/{name}", json.dumps({"format": FORMAT, **asdict(entry)}).encode())


def _read(place: FileStorage, name: str) -> _Entry:
    try:
        entry = json.loads(place.read(f"{FOLDER}/{name}"))
        if entry["format"] != FORMAT:
            raise DamagedError(f"{name} was written by another version of ramq")
        images = [(int(number), str(digest)) for number, digest in entry["images"]]
        if datetime.fromisoformat(entry["begun_at"]).tzinfo is None:
            raise DamagedError(f"{name} does not say of which time zone its time is")
        return _Entry(int(entry["deletion"]), entry["begun_at"], str(entry["said_by"]), str(entry["salt"]), images)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DamagedError(f"{name} is not readable") from error
