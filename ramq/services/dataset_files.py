"""Files that say something of pictures: captions, tags, splits. Read one picture at a time.

The forms are those that trainings read (``ram_core.training.data``), and those that data sets are exported in.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ram_core.errors import TrainingError, VocabularyError
from ram_core.labels.tables import ENDINGS, Table, whole
from ramq.services.dataset_told import Told, ToldTag, checked
from ramq.services.export import without_apostrophe
from storage.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

MAX_SIDECAR_BYTES = 1 << 20
NAME_COLUMNS = ("uri", "url", "key", "image_path", "image", "file_name", "filename", "filepath", "path", "file")
"""The columns that name pictures, in this order."""
_OWN_COLUMNS = (
    "caption_origins",
    "tags",
    "tag_ids",
    "origins",
    "dropped",
    "dropped_ids",
    "reasons",
    "dropped_origins",
    "split",
)
_ID_DIGITS = 9
_VALIDATION = frozenset({"validation", "valid", "val", "dev"})
_TRAINING = frozenset({"train", "training"})


def is_caption(column: str, named: str | None) -> bool:
    """Return whether a column has captions: the ``named`` one, or if none is named, by what it is called."""
    from ram_core.training.data.tables import CAPTION_COLUMN, OTHER_CAPTIONS  # noqa: PLC0415  (torch)

    if named is not None:
        return column == named
    return column.lower() in OTHER_CAPTIONS or CAPTION_COLUMN.fullmatch(column) is not None


def captions_of(row: Mapping[str, Any], named: str | None) -> list[str]:
    """Return the captions of a row, each once. Columns called text or title count only if no other has captions."""
    from ram_core.training.data.tables import CAPTION_COLUMN  # noqa: PLC0415  (torch)

    columns = [column for column in row if is_caption(column, named)]
    best = [column for column in columns if column == named or CAPTION_COLUMN.fullmatch(column)] or columns
    values = [row[column] for column in best]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    return list(dict.fromkeys(whole(text).strip() for text in texts if isinstance(text, str) and text.strip()))


def sidecar_captions(key: str, body: bytes) -> list[str]:
    """Return the captions in a file beside a picture: one a line of ``.txt``, or ``caption`` of ``.json``.

    Raises:
        UsageError: the file is not valid.
    """
    from ram_core.training.data.sidecars import lines  # noqa: PLC0415  (torch)

    try:
        if not key.endswith(".json"):
            return lines(body, key)
        row = json.loads(body)
    except (TrainingError, ValueError, RecursionError) as error:
        raise UsageError(f"{key} cannot be read: {error}") from error
    return captions_of(row, None) if isinstance(row, dict) else []


def read(path: Path, column: str | None = None) -> Iterator[Told]:
    """Return what a file, or a folder of files, says of pictures.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` with a column of ``NAME_COLUMNS``; the official ``.json``;
            COCO's ``.json``; a ``.tar`` of WebDataset; a folder of such files, or of Hugging Face ``datasets``.
        column: the column of captions. None: found by its name.

    Raises:
        UsageError: it is missing, damaged, of another kind, or has no column of images.
    """
    if path.is_dir():
        return _folder(path, column)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    ending = path.suffix.lower()
    if ending in ENDINGS:
        return _table(path, column)
    if ending == ".tar":
        return _shard(path)
    if ending == ".json":
        return _official(path) if _begins(path) == "[" else _coco(path)
    raise UsageError(f"{path} says nothing of pictures that can be read; give .json, {', '.join(ENDINGS)}, or .tar")


def _folder(path: Path, column: str | None) -> Iterator[Told]:
    """Yield what the files of a folder say: shards, or the files of Hugging Face ``datasets``."""
    for pattern in ("*.tar", "*.parquet", "data/*.parquet", "**/*.arrow"):
        if files := sorted(path.glob(pattern)):
            for file in files:
                yield from _arrow(file, column) if file.suffix == ".arrow" else read(file, column)
            return
    raise UsageError(f"{path} has neither shards (.tar) nor Parquet nor Arrow files; give another folder")


# Tables ------------------------------------------------------------------------------------------------------------


def _table(path: Path, column: str | None) -> Iterator[Told]:
    try:
        table = Table(path)
        names = table.columns
        wanted = _wanted(path, names, column)
        for number, row in table.rows(wanted):
            yield _told(
                row, wanted[0], column, f"{path}, row {number}", is_text=path.suffix.lower() in {".csv", ".tsv"}
            )
    except VocabularyError as error:
        raise UsageError(str(error)) from error


def _wanted(path: Path, names: Sequence[str], column: str | None) -> list[str]:
    """Return the columns that are read; the one that names pictures is first."""
    by_name = {each.lower(): each for each in names}
    # Hugging Face has the picture itself in ``image``; its own columns of ours come first.
    key = next((by_name[each] for each in NAME_COLUMNS if each in by_name), None)
    if key is None:
        raise UsageError(f"{path} has no column of images; name one of {', '.join(names) or 'none'} uri or key")
    captions = [each for each in names if is_caption(each, column)]
    if column is not None and not captions:
        raise UsageError(f"{path} has no column {column!r}; its columns are {', '.join(names)}")
    return list(dict.fromkeys([key, *captions, *(each for each in names if each in _OWN_COLUMNS)]))


def _told(row: Mapping[str, Any], key: str, column: str | None, where: str, *, is_text: bool = False) -> Told:
    name = row.get(key)
    name = name.get("path") if isinstance(name, dict) else name
    if not isinstance(name, str) or not name:
        raise UsageError(f"{where} has no {key!r}; give each row a picture, or leave it out")
    is_own = "origins" in row
    if is_text and is_own:
        row = {each: without_apostrophe(value or "") for each, value in row.items()}
        name = row[key]
    captions = captions_of(row, column)
    origins = _listed(row.get("caption_origins"), is_own=is_own)
    if is_own:
        tags = [
            *_own_tags(row, where, "tags", "tag_ids", "origins"),
            *_own_tags(row, where, "dropped", "dropped_ids", "dropped_origins", "reasons"),
        ]
    else:
        tags = [ToldTag(each.get("name", "") if isinstance(each, dict) else each) for each in _listed(row.get("tags"))]
    split = str(row.get("split") or "").lower()
    told = Told(
        name,
        captions,
        origins if len(origins) == len(captions) else ["given"] * len(captions),
        tags,
        is_complete=is_own,
        is_validation=True if split in _VALIDATION else False if split in _TRAINING else None,
    )
    return checked(told, where)


def _own_tags(
    row: Mapping[str, Any], where: str, of: str, ids: str, origins: str, reasons: str | None = None
) -> Iterator[ToldTag]:
    """Yield the tags in columns of our own. Columns that do not fit the names any more, after an edit, do not count."""
    names = _listed(row.get(of), is_own=True)

    def column(name: str, otherwise: object) -> list[Any]:
        found = _listed(row.get(name), is_own=True)
        return found if len(found) == len(names) else [otherwise] * len(names)

    by_tag = [each.split("+") if isinstance(each, str) else each for each in column(origins, "given")]
    if wrong := [each for each in by_tag if not isinstance(each, list)]:
        raise UsageError(f"{where}: {origins!r} has {wrong[0]!r:.80}; give the origins of each tag as a list of texts")
    why = [None] * len(names) if reasons is None else column(reasons, "removed")
    if reasons is not None and None in why:
        raise UsageError(f"{where}: {reasons!r} has none for a tag in {of!r}; say why each was dropped")
    for name, tag_id, said, reason in zip(names, column(ids, ""), by_tag, why, strict=True):
        is_id = str(tag_id).isdecimal() and len(str(tag_id)) <= _ID_DIGITS
        yield ToldTag(
            name.get("name", "") if isinstance(name, dict) else name, said, reason, int(tag_id) if is_id else None
        )


def _listed(value: Any, *, is_own: bool = False) -> list[Any]:
    """Return the values of a cell. Columns of our own are parted by ``|`` only: names of tags may have commas."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, list) else []
    if is_own:
        return value.split("|") if value else []
    return [each.strip() for each in value.split("|" if "|" in value else ",") if each.strip()]


def _arrow(path: Path, column: str | None) -> Iterator[Told]:
    """Yield the rows of a file that Hugging Face ``datasets`` saved."""
    import pyarrow as pa  # noqa: PLC0415  (only these files need it)

    split = path.parent.name.lower()
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            wanted = _wanted(path, stream.schema.names, column)
            for batch in stream:
                for row in batch.select(wanted).to_pylist():
                    yield _told({"split": split, **row}, wanted[0], column, str(path))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path} is damaged or not Arrow: {' '.join(str(error).split())[:200]}") from None


# JSON --------------------------------------------------------------------------------------------------------------


def _official(path: Path) -> Iterator[Told]:
    from ram_core.training.data.official import entries  # noqa: PLC0415  (torch)

    try:
        for number, (line, entry) in enumerate(entries(path), start=1):
            where = f"{path}, entry {number} (line {line})"
            name = entry.get("image_path") if isinstance(entry, dict) else None
            if not isinstance(name, str):
                raise UsageError(f'{where} has no "image_path"')
            try:
                captions = captions_of({"caption": entry.get("caption")}, None)
                parsed = {int(tag) for each in entry.get("parse_label_id") or [] for tag in each}
                every = sorted({*map(int, entry.get("union_label_id") or []), *parsed})
            except (TypeError, ValueError, OverflowError) as error:
                raise UsageError(f"{where} is not of the official training: {error}") from error
            tags = [ToldTag(tag, ["parsed" if tag in parsed else "given"]) for tag in every]
            told = Told(name, captions, ["given"] * len(captions), tags, is_complete="parse_label_id" in entry)
            yield checked(told, where)
    except TrainingError as error:
        raise UsageError(f"{path} is not of the official training: {error}") from error


def _coco(path: Path) -> Iterator[Told]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        names = {each["id"]: str(each["name"]) for each in content.get("categories") or []}
        said: dict[str, list[Mapping[str, Any]]] = {}
        for each in content["annotations"]:
            said.setdefault(str(each["image_id"]), []).append(each)
        for number, image in enumerate(content["images"], start=1):
            told = _of_coco(image, said.get(str(image["id"]), ()), names)
            yield checked(told, f"{path}, image {number}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is not in COCO's format: {type(error).__name__} {error}") from error


def _of_coco(image: Mapping[str, Any], said: Iterable[Mapping[str, Any]], names: Mapping[Any, str]) -> Told:
    captions: dict[str, str] = {}
    tags: dict[Any, ToldTag] = {}
    is_own = "split" in image

    def add(category_id: Any, origins: Iterable[str], reason: str | None = None) -> None:
        tag_id = category_id if is_own and isinstance(category_id, int) else None
        tags[category_id] = ToldTag(names[category_id], list(origins), reason, tag_id)

    for each in said:
        if isinstance(each.get("caption"), str) and each["caption"].strip():
            captions.setdefault(whole(each["caption"]).strip(), each.get("origin", "given"))
        elif "category_id" in each:
            add(each["category_id"], each.get("origins", ("given",)))
    for each in image.get("dropped") or ():
        add(each["category_id"], each["origins"], each["reason"])
    split = str(image.get("split", "")).lower()
    return Told(
        str(image.get("uri") or image["file_name"]),
        list(captions),
        list(captions.values()),
        list(tags.values()),
        is_complete=is_own,
        is_validation=split in _VALIDATION if is_own else None,
    )


def _begins(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(1 << 10).lstrip()[:1]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


# Shards ------------------------------------------------------------------------------------------------------------


def _shard(path: Path) -> Iterator[Told]:
    from ram_core.training.data.shards import rows  # noqa: PLC0415  (torch)

    try:
        for key, row in rows(path):
            name = next((row[each] for each in ("uri", "key") if isinstance(row.get(each), str)), key)
            yield _told({**row, "name": name}, "name", None, f"{path}, {key}")
    except TrainingError as error:
        raise UsageError(str(error)) from error
