"""Data sets as files: official, COCO, Parquet, CSV, and with the pictures WebDataset and Hugging Face. All streamed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from ramq.services.export import formula_safe
from ramq.services.shards import SHARD_BYTES, write_samples
from storage.batches import batched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ramq.services.dataset_pictures import Content, Picture
    from ramq.services.picture_bytes import Content as Body
    from storage.results.tags import Names

    Pictured = Iterable[tuple[Picture, Body]]

FILES = ("official", "coco", "parquet", "csv")
"""The formats that are a file."""
FOLDERS = ("webdataset", "hf")
"""The formats that are a folder with the pictures."""
FORMATS = (*FILES, *FOLDERS)
_ROWS = 5_000
_HELD_BYTES = 100_000_000
_HELD_ROWS = 500
"""Pictures in memory until they are written."""


def write_file(
    found: Iterable[Picture], format_: str, file: IO[bytes], content: Content, parse: Callable[[str], list[int]]
) -> int:
    """Write pictures in one of ``FILES``. Return how many.

    Args:
        found: the pictures.
        format_: the format.
        file: the file to write to.
        content: the version.
        parse: finds the ids of the tags that a caption names.
    """
    if format_ == "official":
        return _write_list((_official(each, parse) for each in found), file)
    if format_ == "coco":
        return _write_coco(found, file, content)
    rows = (row(each, content.names) for each in found)
    return (_write_csv if format_ == "csv" else _write_parquet)(rows, file, content)


def row(picture: Picture, names: Names) -> dict[str, Any]:
    """Return what is known of a picture, with names of tags."""
    return {
        "uri": picture.uri,
        "key": picture.key,
        "split": picture.split,
        "group": picture.group_id,
        "captions": list(picture.captions),
        "caption_origins": list(picture.origins),
        "tags": [names.names[label.tag_id] for label in picture.kept],
        "tag_ids": [label.tag_id for label in picture.kept],
        "origins": [list(label.origins) for label in picture.kept],
        "dropped": [names.names[label.tag_id] for label in picture.dropped],
        "dropped_ids": [label.tag_id for label in picture.dropped],
        "reasons": [label.reason for label in picture.dropped],
        "dropped_origins": [list(label.origins) for label in picture.dropped],
        "page": picture.page,
        "file_key": picture.file_key or picture.key,
    }


# Files -------------------------------------------------------------------------------------------------------------


def _official(picture: Picture, parse: Callable[[str], list[int]]) -> dict[str, Any]:
    from ram_core.training.captions import clean_caption  # noqa: PLC0415  (only this format needs it)

    kept = {label.tag_id for label in picture.kept}
    # A caption that names what a person said is not there would teach it all the same: captions are trained on too.
    parsed = [(caption, parse(caption)) for caption in picture.captions]
    parsed = [(caption, ids) for caption, ids in parsed if not picture.removed.intersection(ids)]
    return {
        "image_path": picture.path,
        "caption": [clean_caption(caption) for caption, _ in parsed],
        "parse_label_id": [[tag_id for tag_id in ids if tag_id in kept] for _, ids in parsed],
        "union_label_id": sorted(kept),
    }


def _write_list(entries: Iterable[Mapping[str, Any]], file: IO[bytes]) -> int:
    file.write(b"[")
    count = 0
    for count, entry in enumerate(entries, start=1):
        file.write((b",\n" if count > 1 else b"\n") + json.dumps(entry).encode())
    file.write(b"\n]\n")
    return count


def _write_coco(found: Iterable[Picture], file: IO[bytes], content: Content) -> int:
    """Write images, then their captions and kept tags as annotations. Dropped tags are with their image."""
    version, names = content.version, content.names
    info = {"description": f"{version.name}@{version.number}", "sha256": version.sha256}
    file.write(b'{"info": ' + _json(info) + b',\n"licenses": [],\n"images": [')
    count = annotations = 0
    with TemporaryFile() as waiting:
        for count, picture in enumerate(found, start=1):
            entry = {
                "id": picture.image_id,
                "file_name": picture.path,
                "width": picture.width,
                "height": picture.height,
                "uri": picture.uri,
                "split": picture.split,
                "page": picture.page,
                "file_key": picture.file_key or picture.key,
                "dropped": [
                    {"category_id": label.tag_id, "reason": label.reason, "origins": list(label.origins)}
                    for label in picture.dropped
                ],
            }
            file.write((b",\n" if count > 1 else b"\n") + _json(entry))
            for said in _annotations(picture):
                annotations += 1
                numbered = {"id": annotations, "image_id": picture.image_id, **said}
                waiting.write((b",\n" if annotations > 1 else b"\n") + _json(numbered))
        file.write(b'],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, file)
    file.write(b'],\n"categories": [')
    for number, name in enumerate(names.names):
        file.write((b",\n" if number else b"\n") + _json({"id": number, "name": name, "supercategory": "tag"}))
    file.write(b"]}\n")
    return count


def _annotations(picture: Picture) -> Iterator[dict[str, Any]]:
    for caption, origin in zip(picture.captions, picture.origins, strict=True):
        yield {"caption": caption, "origin": origin}
    for label in picture.kept:
        yield {"category_id": label.tag_id, "origins": list(label.origins)}


def _write_csv(rows: Iterator[dict[str, Any]], file: IO[bytes], content: Content) -> int:
    """Write a row for each picture. Lists are parted by ``|``, the origins of a tag by ``+``."""
    captions = [f"caption_{n + 1}" if n else "caption" for n in range(max(1, content.most_captions))]
    columns = ("uri", "key", "split", "group", *captions, "caption_origins", "tags", "tag_ids", "origins", "dropped")
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow((*columns, "dropped_ids", "reasons", "dropped_origins", "page", "file_key"))
    count = 0
    for found in rows:
        count += 1
        told = [*found["captions"], *[""] * (len(captions) - len(found["captions"]))]
        cells = [found["uri"], found["key"], found["split"], found["group"], *told, "|".join(found["caption_origins"])]
        cells += [_names(found["tags"], found["tag_ids"]), _ids(found["tag_ids"]), _origins(found["origins"])]
        cells += [
            _names(found["dropped"], found["dropped_ids"]),
            _ids(found["dropped_ids"]),
            "|".join(found["reasons"]),
        ]
        cells += [_origins(found["dropped_origins"]), found["page"], found["file_key"]]
        writer.writerow([formula_safe(cell) for cell in cells])
    text.detach()
    return count


def _names(names: Sequence[str], ids: Sequence[int]) -> str:
    """Return names parted by ``|``. One that has the character itself is written as its id."""
    return "|".join(str(tag_id) if "|" in name else name for name, tag_id in zip(names, ids, strict=True))


def _ids(ids: Sequence[int]) -> str:
    return "|".join(map(str, ids))


def _origins(origins: Sequence[Sequence[str]]) -> str:
    return "|".join("+".join(each) for each in origins)


def _write_parquet(rows: Iterator[dict[str, Any]], file: IO[bytes], _content: Content) -> int:
    import pyarrow as pa  # noqa: PLC0415  (takes a third of a second, and only this format needs it)
    from pyarrow import parquet  # noqa: PLC0415

    schema = pa.schema(_schema(pa))
    count = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for group in batched(rows, _ROWS):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _schema(pa: Any) -> list[tuple[str, Any]]:
    """Return the columns of a row, and their types."""
    texts, ids = pa.list_(pa.string()), pa.list_(pa.int32())
    return [
        ("uri", pa.string()),
        ("key", pa.string()),
        ("split", pa.string()),
        ("group", pa.int64()),
        ("captions", texts),
        ("caption_origins", texts),
        ("tags", texts),
        ("tag_ids", ids),
        ("origins", pa.list_(texts)),
        ("dropped", texts),
        ("dropped_ids", ids),
        ("reasons", texts),
        ("dropped_origins", pa.list_(texts)),
        ("page", pa.int32()),
        ("file_key", pa.string()),
    ]


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


# Folders -----------------------------------------------------------------------------------------------------------


def write_folder(pictured: Pictured, format_: str, folder: Path, content: Content) -> int:
    """Write pictures in one of ``FOLDERS``, with their files. Return how many.

    Args:
        pictured: the pictures, each with its file.
        format_: the format.
        folder: an empty folder.
        content: the version.

    Raises:
        UsageError: a library that the format needs is not installed.
    """
    if format_ == "webdataset":
        samples = (
            (f"{picture.image_id:012}", body.ending(picture.key), body.body, row(picture, content.names))
            for picture, body in pictured
        )
        return write_samples(samples, folder)
    return _write_hf(pictured, folder, content)


def _write_hf(pictured: Pictured, folder: Path, content: Content) -> int:
    """Write ``data/train-00000.parquet`` and so on, as the library ``datasets`` loads them, which is not needed here.

    The columns are those of Parquet, and ``image`` with the picture.
    """
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    picture_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", picture_type), *_schema(pa)])
    # Where the library looks for the types that Arrow does not have.
    features = {name: _feature(pa, schema.field(name).type) for name in schema.names} | {"image": {"_type": "Image"}}
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    data = folder / "data"
    data.mkdir()
    numbers = {"train": 0, "validation": 0}
    writers: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    waiting: dict[str, list[dict[str, Any]]] = {split: [] for split in numbers}

    def flush(split: str) -> None:
        if not waiting[split]:
            return
        if split not in writers:
            writers[split] = parquet.ParquetWriter(data / f"{split}-{numbers[split]:05}.parquet", schema)
            numbers[split] += 1
            sizes[split] = 0
        writers[split].write_table(pa.Table.from_pylist(waiting[split], schema=schema))
        sizes[split] += sum(len(each["image"]["bytes"]) for each in waiting[split])
        waiting[split].clear()
        if sizes[split] >= SHARD_BYTES:
            writers.pop(split).close()

    count = held = 0
    try:
        for picture, body in pictured:
            count += 1
            image = {"bytes": bytes(body.body), "path": body.path(picture.key)}
            waiting[picture.split].append({"image": image, **row(picture, content.names)})
            held += len(body.body)
            if held >= _HELD_BYTES or len(waiting[picture.split]) == _HELD_ROWS:
                for split in numbers:
                    flush(split)
                held = 0
        for split in numbers:
            flush(split)
    finally:
        for writer in writers.values():
            writer.close()
    return count


def _feature(pa: Any, type_: Any) -> Any:
    if pa.types.is_list(type_):
        return {"_type": "List", "feature": _feature(pa, type_.value_type)}
    return {"_type": "Value", "dtype": str(type_)}
