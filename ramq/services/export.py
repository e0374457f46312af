"""Export of results as JSON lines, CSV, Parquet or a COCO document, and of text as hOCR or ALTO. All are streamed."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from ramq.services.reading_files import FILE_FORMATS, FileFormat, Picture, file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from storage.results.reading_views import ReadingView
    from storage.search.query import Match
    from storage.search.views import Hit

    Readings = Callable[[Sequence[int]], Mapping[int, ReadingView]]

TABLES = ("jsonl", "csv", "parquet")
"""The formats with a row for each image. Its text can be a column."""
TEXT_FILES = ("hocr", "alto")
"""The formats with a file for each image that was read, in a tar archive."""
FORMATS = (*TABLES, "coco", *TEXT_FILES)
_COLUMNS = (
    "image_id", "archive", "key", "caption", "tag_ids", "tags", "scores", "sources", "generation_id", "model", "width",
    "height",
)  # fmt: skip
_ROW_GROUP = 10_000
_BATCH = 500
"""Images whose text is read from the database at once."""
# A spreadsheet treats a cell that starts with one of these as a formula, and may run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_rows(
    hits: Iterable[Hit], format_: str, file: IO[bytes], made_by: Match | None, readings: Readings | None = None
) -> None:
    """Write the results of each hit. Its assigned tags, with scores and sources, are listed best first.

    Args:
        hits: the images.
        format_: one of ``TABLES``, or ``coco``.
        file: the file to write to.
        made_by: the generation and the vocabulary of the hits, or None if there are none.
        readings: returns the text of images that were read, by their ids. Tables then have the column ``text``. None:
            without text.
    """
    if format_ == "coco":
        _write_coco(hits, file, made_by)
        return
    model = made_by.generation.model if made_by else None
    if readings is None:
        rows = (_row(hit, model) for hit in hits)
    else:
        rows = (_row(hit, model) | {"text": _text(reading)} for hit, reading in _with_readings(hits, readings))
    if format_ == "jsonl":
        _write_jsonl(rows, file)
        return
    {"csv": _write_csv, "parquet": _write_parquet}[format_](rows, file, has_text=readings is not None)


def write_text_files(hits: Iterable[Hit], format_: str, file: IO[bytes], readings: Readings) -> tuple[int, int]:
    """Write a tar archive with a file for each hit that was read.

    Args:
        hits: the images.
        format_: one of ``TEXT_FILES``.
        file: the file to write to. It is only written forwards, so that it may be a pipe.
        readings: returns the text of images that were read, by their ids.

    Returns:
        The numbers of images that were written, and of images that were left out because they were not read.
    """
    kind = FILE_FORMATS[format_]
    written = left_out = 0
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for hit, reading in _with_readings(hits, readings):
            if reading is None:
                left_out += 1
                continue
            _add(archive, kind, Picture(hit.image_id, hit.key, (hit.width, hit.height)), reading)
            archive.getmembers().clear()  # tarfile remembers what it wrote, and there may be millions
            written += 1
    return written, left_out


def _add(archive: tarfile.TarFile, kind: FileFormat, picture: Picture, reading: ReadingView) -> None:
    content = kind.write(picture, reading).encode()
    entry = tarfile.TarInfo(file_name(picture, kind.ending))
    entry.size = len(content)
    entry.mtime = reading.read_at.timestamp()
    archive.addfile(entry, io.BytesIO(content))


def _with_readings(hits: Iterable[Hit], readings: Readings) -> Iterator[tuple[Hit, ReadingView | None]]:
    left = iter(hits)
    while batch := list(islice(left, _BATCH)):
        found = readings([hit.image_id for hit in batch])
        for hit in batch:
            yield hit, found.get(hit.image_id)


def _text(reading: ReadingView | None) -> list[dict[str, Any]] | None:
    """Return the lines of an image; None if it was not read."""
    if reading is None:
        return None
    return [
        {"text": line.text, "confidence": line.confidence, "polygon": [list(corner) for corner in line.polygon]}
        for line in reading.lines
    ]


def _row(hit: Hit, model: str | None) -> dict[str, Any]:
    return {
        "image_id": hit.image_id,
        "archive": hit.archive,
        "key": hit.key,
        "caption": hit.caption,
        "tag_ids": [tag.id for tag in hit.tags],
        "tags": [tag.name for tag in hit.tags],
        "scores": [tag.score for tag in hit.tags],
        "sources": [tag.source for tag in hit.tags],
        "generation_id": hit.generation_id,
        "model": model,
        "width": hit.width,
        "height": hit.height,
    }


def _write_jsonl(rows: Iterator[dict[str, Any]], file: IO[bytes]) -> None:
    for row in rows:
        file.write(_json(row) + b"\n")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _write_csv(rows: Iterator[dict[str, Any]], file: IO[bytes], *, has_text: bool) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    columns = (*_COLUMNS, "text") if has_text else _COLUMNS
    writer.writerow(columns)
    for row in rows:
        if row.get("text"):
            row["text"] = [line["text"] for line in row["text"]]
        writer.writerow([_cell(row[name]) for name in columns])
    text.detach()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "|".join(str(entry) for entry in value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _write_parquet(rows: Iterator[dict[str, Any]], file: IO[bytes], *, has_text: bool) -> None:
    import pyarrow as pa  # noqa: PLC0415  (takes a third of a second, and only this format needs it)
    from pyarrow import parquet  # noqa: PLC0415

    corner = pa.list_(pa.float32())
    line = pa.struct([("text", pa.string()), ("confidence", pa.float32()), ("polygon", pa.list_(corner))])
    text = [("text", pa.list_(line))] if has_text else []
    schema = pa.schema(
        [
            ("image_id", pa.int64()),
            ("archive", pa.string()),
            ("key", pa.string()),
            ("caption", pa.string()),
            ("tag_ids", pa.list_(pa.int32())),
            ("tags", pa.list_(pa.string())),
            ("scores", pa.list_(pa.float32())),
            ("sources", pa.list_(pa.string())),
            ("generation_id", pa.int32()),
            ("model", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            *text,
        ]
    )
    with parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(rows, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _write_coco(hits: Iterable[Hit], file: IO[bytes], made_by: Match | None) -> None:
    """Write one document in COCO's format: categories, images, and an annotation for each tag of an image.

    An annotation has no box and no area, because the models do not locate objects. Annotations are collected in a
    temporary file until all images are written, so that memory use does not grow.
    """
    generation = made_by.generation if made_by else None
    info: dict[str, object] = {"description": "ramq export"}
    if generation is not None:
        info |= {"generation_id": generation.id, "model": generation.model, "weights_sha256": generation.weights_sha256}
    file.write(b'{"info": ' + _json(info) + b',\n"licenses": [],\n"categories": [')
    _write_entries(_categories(made_by), file)
    file.write(b'],\n"images": [')
    with TemporaryFile() as waiting:
        _write_entries(_images(hits, waiting), file)
        file.write(b'],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, file)
    file.write(b"]}\n")


def _write_entries(entries: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    for number, entry in enumerate(entries):
        file.write((b",\n" if number else b"\n") + _json(entry))


def _categories(made_by: Match | None) -> Iterator[dict[str, Any]]:
    if made_by is None:
        return
    pairs = zip(made_by.names.names, made_by.names.names_zh, strict=True)
    for tag_id, (name, name_zh) in enumerate(pairs):
        yield {"id": tag_id, "name": name, "name_zh": name_zh, "supercategory": "tag"}


def _images(hits: Iterable[Hit], annotations: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield an entry for each image, and write the entries of its tags to ``annotations``."""
    count = 0
    for hit in hits:
        for tag in hit.tags:
            annotation = {
                "id": count + 1, "image_id": hit.image_id, "category_id": tag.id, "score": tag.score,
                "source": tag.source,
            }  # fmt: skip
            annotations.write((b",\n" if count else b"\n") + _json(annotation))
            count += 1
        yield {
            "id": hit.image_id,
            "file_name": hit.key,
            "width": hit.width,
            "height": hit.height,
            "archive": hit.archive,
            "caption": hit.caption,
        }
