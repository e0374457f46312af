"""Manifests as sources: a file of keys or URIs, or an S3 Inventory. They are streamed, any number of times.

All entries of one manifest belong to one archive: one bucket, or files below one folder. If ``tar+`` is before its
address, its entries are members of tar files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_plus, urlsplit

from storage.batches import batched
from storage.errors import ConflictError, NotFoundError, UsageError
from storage.objects.base import MAX_KEY_BYTES, PAGE_SIZE, ObjectInfo, S3Options, is_below
from storage.objects.folder import FolderStore
from storage.objects.pages import looked_up
from storage.objects.source import Source, open_bucket, parse_source, require_allowed
from storage.objects.tables import KEY_COLUMNS, Row, column_name, read_rows
from storage.objects.tar_names import split_member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from storage.objects.s3 import S3Store

_LIST = re.compile(r"\.(?:(txt|csv|tsv|jsonl)(?:\.gz)?|(parquet))$", re.IGNORECASE)
_WEB = re.compile(r"https?://", re.IGNORECASE)
_INVENTORY = "manifest.json"
_FORMATS = {"csv": "csv", "orc": "orc", "parquet": "parquet"}
_MOST_INVENTORY_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a manifest. ``root`` is the bucket, or empty for a file, whose ``key`` is then its absolute path."""

    root: str
    key: str
    version: str = ""
    size_bytes: int = 0
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One of the files with the rows of a manifest."""

    place: Source
    format: str
    md5: str | None = None
    columns: tuple[str, ...] | None = None
    has_quoted_keys: bool = False


def is_manifest(text: str) -> bool:
    """Return whether the name of a source is that of a manifest. A folder never is, whatever its name."""
    name = text.rstrip().rpartition("/")[2]
    if name != _INVENTORY and not _LIST.search(name):
        return False
    if text.removeprefix("tar+").startswith("s3://"):
        return True
    return not Path(parse_source(text).root).is_dir()


class Manifest:
    """A manifest, local or in a bucket.

    Args:
        uri: its address, as a user may type it.
        s3: how to reach buckets.
    """

    def __init__(self, uri: str, s3: S3Options) -> None:
        self._named = parse_source(uri)
        self.place = replace(self._named, in_tars=False)
        self._folder = os.path.dirname(self.place.root)  # noqa: PTH120  (strings: this runs for every entry)
        self._s3 = s3

    @property
    def uri(self) -> str:
        """Its address as jobs store it."""
        return self._named.uri

    @property
    def _is_inventory(self) -> bool:
        return self.uri.endswith(f"/{_INVENTORY}")

    def version(self) -> str:
        """Return a version that changes when the manifest does. Raises ``NotFoundError``."""
        return self._version_of(self.place)

    def require_unchanged(self, version: str) -> None:
        """Raise ``ConflictError`` unless the manifest has the version that it had when the job began."""
        if self.version() != version:
            raise ConflictError(f"{self.uri} has changed since the job began: enqueue it again")

    def survey(self, allowed: tuple[str, ...], *, reachable: bool) -> Source:
        """Return the archive that the entries belong to. Reads every entry of a list.

        An inventory is not read: its archive is its bucket. Its entries are checked while they are planned.

        Raises:
            UsageError: the manifest is damaged, empty, or mixes archives; the message names the first wrong entry.
            ForbiddenError: the allow-list does not cover the manifest, a file of it, or an entry.
        """
        require_allowed(self.place, allowed, reachable=reachable)
        if self._is_inventory and self._named.in_tars:
            raise UsageError("an inventory lists objects, not members of tar files: enqueue tar+s3://bucket/prefix")
        if self._is_inventory:
            document = self._document()
            for part in self._parts():
                require_allowed(part.place, allowed, reachable=reachable)
                self._version_of(part.place)
            archive = Source("s3", _bucket(document.get("sourceBucket")), "")
        else:
            archive = self._common()
        require_allowed(archive, allowed, reachable=reachable)
        return archive

    def pages(self, archive: Source, prefix: str, cursor: str | None) -> Iterator[tuple[str, list[ObjectInfo]]]:
        """Yield pages of entries, each with the cursor at its end. Keys are relative to ``archive``.

        Unknown versions are empty. Local files are looked up, since that is cheap. An entry may come twice.

        Args:
            archive: whose keys are wanted.
            prefix: all entries must be below it.
            cursor: cursor of the previous page; None: start at the beginning.

        Raises:
            UsageError: the manifest is damaged, or an entry is not below ``prefix``.
        """
        first_part, first_row = (int(number) for number in (cursor or "0:0").split(":"))
        store = FolderStore(Path(archive.root)) if archive.scheme == "file" and not archive.in_tars else None
        for number, part in enumerate(self._parts()):
            if number < first_part:
                continue
            at = first_row if number == first_part else 0
            for page in batched(islice(self._entries(part), at, None), PAGE_SIZE):
                at += len(page)
                infos = [_info(entry, _key_in(entry, archive, prefix, self.uri)) for entry in page if entry]
                yield f"{number}:{at}", [looked_up(store, info) for info in infos] if store else infos

    def told(self, archive: Source, prefix: str, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, Row]]:
        """Yield the key of each entry, relative to ``archive``, and what its row says. An entry may come twice.

        Args:
            archive: whose keys are wanted.
            prefix: all entries must be below it.
            is_wanted: which further columns of Parquet and ORC are read, by their normalised names.

        Raises:
            UsageError: as ``pages``.
        """
        for part in self._parts():
            for entry, row in self._rows(part, is_wanted):
                if entry is not None:
                    yield _key_in(entry, archive, prefix, self.uri), row

    # Files ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _store(self) -> S3Store:
        """The bucket of the manifest and all its files. Opening it again for each file is slower than the request."""
        return open_bucket(self.place.root, self._s3)

    def _version_of(self, place: Source) -> str:
        if place.scheme == "s3":
            version = self._store.stat(place.prefix).version
            if version.startswith("!"):
                raise NotFoundError(f"{place.uri} cannot be read: {version.removeprefix('!')}")
            return version
        path = Path(place.root)
        if not path.is_file():
            raise NotFoundError(f"there is no manifest {path}")
        return FolderStore(path.parent).stat(path.name).version

    @contextmanager
    def _local(self, place: Source) -> Iterator[Path]:
        """Yield a local path of the file. It is valid inside the ``with`` block."""
        if place.scheme == "file":
            yield Path(place.root)
            return
        with tempfile.NamedTemporaryFile(prefix="ramq-manifest-") as file:
            self._store.download(place.prefix, file)
            yield Path(file.name)

    def _document(self) -> dict[str, Any]:
        with self._local(self.place) as path:
            if path.stat().st_size > _MOST_INVENTORY_BYTES:
                raise UsageError(f"{self.uri} is too large to be an S3 Inventory manifest")
            try:
                document = json.loads(path.read_bytes())
            except (ValueError, RecursionError):
                raise UsageError(f"{self.uri} is not JSON") from None
            if not isinstance(document, dict) or not isinstance(document.get("files"), list):
                raise UsageError(f"{self.uri} is not an S3 Inventory manifest: it lists no files")
            return document

    def _parts(self) -> list[ManifestFile]:
        if not self._is_inventory:
            match = _LIST.search(self.uri)
            assert match is not None
            return [ManifestFile(self.place, (match[1] or match[2]).lower().replace("tsv", "csv"))]
        document = self._document()
        format_ = _FORMATS.get(str(document.get("fileFormat")).lower())
        if format_ is None:
            raise UsageError(
                f"{self.uri} has the unsupported format {document.get('fileFormat')!r}: use CSV, ORC or Parquet"
            )
        columns = None
        if format_ == "csv":
            columns = tuple(column_name(column) for column in str(document.get("fileSchema", "")).split(","))
            if not set(columns) & set(KEY_COLUMNS):
                raise UsageError(f"{self.uri} has no column Key in its fileSchema")
        parts = []
        for file in document["files"]:
            if not isinstance(file, dict) or not isinstance(file.get("key"), str):
                raise UsageError(f"{self.uri} lists a file without a key")
            place, md5 = self._file_of_inventory(file["key"]), file.get("MD5checksum")
            parts.append(ManifestFile(place, format_, md5, columns, has_quoted_keys=format_ == "csv"))
        return parts

    def _file_of_inventory(self, key: str) -> Source:
        if self.place.scheme == "s3":
            return Source("s3", self.place.root, key)
        # In a downloaded inventory the files have their path in the bucket, or a part of it.
        folder = Path(self._folder)
        names = key.split("/")
        if not {"", ".", ".."} & set(names):
            for base in (folder, folder.parent, *folder.parent.parents):
                for start in range(len(names)):
                    path = base.joinpath(*names[start:])
                    if path.is_file() and (start == 0 or base in {folder, folder.parent}):
                        return Source("file", str(path.resolve()), "")
        raise NotFoundError(f"no file {names[-1]!r} next to {self.place.root}: download the whole inventory")

    # Entries -------------------------------------------------------------------------------------------------------

    def _entries(self, part: ManifestFile) -> Iterator[Entry | None]:
        """Yield an entry per row; None for a row without an object: of another version, or a folder marker."""
        return (entry for entry, _ in self._rows(part, lambda _column: False))

    def _rows(self, part: ManifestFile, is_wanted: Callable[[str], bool]) -> Iterator[tuple[Entry | None, Row]]:
        """Yield what ``_entries`` does, with the rows."""
        with self._local(part.place) as path:
            if part.md5 is not None and _md5(path) != part.md5:
                raise UsageError(f"{part.place.uri} does not match the checksum in its manifest: copy it again")
            rows = read_rows(path, part.format, part.place.uri, part.columns, is_wanted)
            for number, row in enumerate(rows, 1):
                try:
                    entry = self._entry(row, part)
                except UsageError as error:
                    raise UsageError(f"{part.place.uri}, entry {number}: {error}") from None
                yield entry, row

    def _entry(self, row: Row, part: ManifestFile) -> Entry | None:
        named = [text for column in KEY_COLUMNS if isinstance(text := row.get(column), str) and text]
        if not named:
            raise UsageError(f"no text in the column {' or '.join(filter(row.__contains__, KEY_COLUMNS))}")
        # Lists of other tools have the address on the web, too.
        text = next((each for each in named if not _WEB.match(each)), named[0])
        if str(row.get("isdeletemarker")).lower() == "true" or str(row.get("islatest")).lower() == "false":
            return None
        if "\x00" in text or len(text.encode(errors="replace")) > MAX_KEY_BYTES:
            raise UsageError("a key must not contain a zero byte or be longer than 2,000 bytes")
        bucket = row.get("bucket") or ""
        if part.has_quoted_keys:
            text = unquote_plus(text)
        if not isinstance(bucket, str):
            raise UsageError("the bucket is not text")
        if not bucket:
            return self._listed(text)
        if text.endswith("/"):
            return None
        if self._named.in_tars:
            return Entry(bucket, text)
        etag, size, modified = row.get("etag"), row.get("size"), row.get("lastmodifieddate")
        return Entry(bucket, text, str(etag or "").strip('"'), int(size or 0), _moment(modified))

    def _listed(self, text: str) -> Entry | None:
        if text.startswith("tar+"):
            if not self._named.in_tars:
                raise UsageError(f"{text!r} is a member of a tar file: write tar+ before the address of this list, too")
            text = text.removeprefix("tar+")
        if text.startswith("s3://"):
            bucket, _, key = text.removeprefix("s3://").partition("/")
            if not bucket or not key:
                raise UsageError(f"{text!r} names no object: write s3://bucket/key")
            return None if key.endswith("/") else Entry(bucket, key)
        if text.startswith("file://"):
            text = unquote(urlsplit(text).path)
        elif _WEB.match(text):
            raise UsageError(
                f"{text!r} is an address on the web. ramq reads folders and buckets: download the images first, "
                "for example with img2dataset, and archive their folder"
            )
        elif re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
            raise UsageError(f"{text!r} is neither a key, nor a path, nor s3://bucket/key")
        elif self.place.scheme == "s3":
            return None if text.endswith("/") else Entry(self.place.root, text)
        folder, _, name = os.path.join(self._folder, text).rpartition("/")  # noqa: PTH118
        if name in {"", ".", ".."}:
            return None
        # Links above an entry are followed, as in any path that a user types. The entry itself is opened without that.
        return Entry("", f"{_resolved(folder).rstrip('/')}/{name}")

    def _common(self) -> Source:
        """Return the bucket and folder, or the folder, common to all entries. Reads all of them."""
        root: str | None = None
        common: list[str] | None = None
        for part in self._parts():
            for entry in self._entries(part):
                if entry is None:
                    continue
                if root is not None and entry.root != root:
                    raise UsageError(
                        f"{self.uri} mixes archives: {_shown(entry)} is not in {_shown(Entry(root, ''))}; "
                        "write one manifest per archive"
                    )
                root = entry.root
                folders = self._folders_of(entry)
                common = folders if common is None else _shared(common, folders)
        if root is None or common is None:
            raise UsageError(f"{self.uri} names no object")
        in_tars = self._named.in_tars
        if root:
            return Source("s3", root, "/".join(common[: common.index("")] if "" in common else common), in_tars)
        folder = "/".join(common) or "/"
        return Source("file", self._folder if Path(folder).is_relative_to(self._folder) else folder, "", in_tars)

    def _folders_of(self, entry: Entry) -> list[str]:
        """Return the folders in which an entry, or the tar file that it is in, is."""
        if not self._named.in_tars:
            return entry.key.split("/")[:-1]
        inside = split_member(entry.key)
        if inside is None:
            raise UsageError(f"{self.uri}: {_shown(entry)} is no member of a tar file: write folder/00000.tar/name.jpg")
        return inside[0].split("/")[:-1]


def _shared(left: list[str], right: list[str]) -> list[str]:
    if left == right[: len(left)]:
        return left
    count = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    return left[:count]


def _key_in(entry: Entry, archive: Source, prefix: str, name: str) -> str:
    if archive.scheme == "s3":
        key, is_inside = entry.key, entry.root == archive.root
    else:
        key = entry.key.removeprefix(archive.root.rstrip("/") + "/")
        is_inside = not entry.root and key != entry.key
    if not is_inside or not is_below(key, prefix):
        raise UsageError(f"{name}: {_shown(entry)} is not below {archive.uri}: all entries must lie in one archive")
    return key


def _info(entry: Entry, key: str) -> ObjectInfo:
    return ObjectInfo(key, entry.version, entry.size_bytes, entry.modified_at)


def _shown(entry: Entry) -> str:
    return f"s3://{entry.root}/{entry.key}" if entry.root else (entry.key or "a folder")


def _bucket(name: object) -> str:
    return parse_source(f"s3://{str(name or '').removeprefix('arn:aws:s3:::')}").root


def _moment(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        return datetime.fromisoformat(str(value)) if value else None
    except ValueError:
        return None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@lru_cache(maxsize=4096)
def _resolved(folder: str) -> str:
    return os.path.realpath(folder)
