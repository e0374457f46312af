"""The manifest: which segments make up the index of a generation, and up to which transaction it is complete."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256

FORMAT = 2
"""Written into manifests and segments; a reader refuses a number that it does not know."""


class DamagedError(Exception):
    """A file of the index is missing, cut short, changed or of a format unknown here. Its rows are in Postgres."""


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One live segment.

    Attributes:
        name: its folder; names the content.
        lo: the segment has the rows with ``lo <= xid < hi``, so that they can be read again from the database.
        hi: see ``lo``.
        rows: in the file, dead ones included.
        size_bytes: of its files together.
        dead: the file with the image ids that a newer segment replaced or that were erased; None when there are none.
        dead_rows: how many these are.
        recall: what searches by way of lists were measured to find; None where the segment is scanned.
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
        system_identifier: the database cluster whose transactions these are.
        segments: oldest rows first.
    """

    generation_id: int
    number: int
    watermark: int
    system_identifier: str
    vector_size: int
    segments: tuple[SegmentEntry, ...]

    def encoded(self) -> bytes:
        """Return the file's content, which carries its own checksum."""
        body = _canonical({"format": FORMAT, **asdict(self)})
        return _canonical({"manifest": json.loads(body), "sha256": sha256(body).hexdigest()})


def decode(data: bytes) -> Manifest:
    """Read what ``Manifest.encoded`` wrote.

    Raises:
        DamagedError: the bytes are not that, or changed since.
    """
    try:
        file = json.loads(data)
        body = file["manifest"]
        if sha256(_canonical(body)).hexdigest() != file["sha256"]:
            raise DamagedError("the manifest's checksum is wrong")
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
