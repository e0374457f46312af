"""The manifest: the segments of a generation's index, and the transaction up to which it is complete."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256

FORMAT = 2
"""Format number in manifests and segments. A reader rejects a number that it does not know."""


class DamagedError(Exception):
    """An index file is missing, cut short, changed or of an unknown format. Its rows are in PostgreSQL."""


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One live segment.

    Attributes:
        name: its folder, named by its content.
        lo: the segment has the rows with ``lo <= xid < hi``. They can be read again from the database.
        hi: see ``lo``.
        rows: number of rows in the file, dead ones included.
        size_bytes: size of all its files.
        dead: the file with the ids of images that a newer segment replaced or that were erased; None: there are none.
        dead_rows: the number of these ids.
        recall: measured recall of searches by lists; None: the segment is scanned.
    """

    name: str
    lo: int
    hi: int
    rows: int
    size_bytes: int
    dead: str | None = None
    dead_rows: int = 0
    recall: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole index of a generation, immutable.

    Attributes:
        number: grows with each publication.
        watermark: every row with a lower ``xid`` is in a segment, or dead.
        system_identifier: the database cluster that the transaction ids belong to.
        segments: oldest rows first.
    """

    generation_id: int
    number: int
    watermark: int
    system_identifier: str
    vector_size: int
    segments: tuple[SegmentEntry, ...]

    def encoded(self) -> bytes:
        """Return the file's content, including its own checksum."""
        body = _canonical({"format": FORMAT, **asdict(self)})
        return _canonical({"manifest": json.loads(body), "sha256": sha256(body).hexdigest()})


def decode(data: bytes) -> Manifest:
    """Read what ``Manifest.encoded`` wrote.

    Raises:
        DamagedError: the bytes are not a manifest, or were changed.
    """
    try:
        file = json.loads(data)
        body = file["manifest"]
        if sha256(_canonical(body)).hexdigest() != file["sha256"]:
            raise DamagedError("the manifest was changed: its checksum is wrong")
        if body.pop("format") != FORMAT:
            raise DamagedError("the manifest was written by another version of ramq")
        segments = tuple(SegmentEntry(**entry) for entry in body.pop("segments"))
        return Manifest(**body, segments=segments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError("the manifest is not readable") from error


def manifest_name(generation_id: int, number: int) -> str:
    """Return the path of a manifest."""
    return f"{generation_folder(generation_id)}/manifest-{number:012d}.json"


def generation_folder(generation_id: int) -> str:
    """Return the path of the folder of a generation."""
    return f"generation-{generation_id}"


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
