"""Export of results: rows, COCO, text, labels of YOLO, tasks of Label Studio, folders with pictures. All streamed."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, TypeVar

from ramq.services.fiftyone_files import write_fiftyone
from ramq.services.label_studio import write_tasks
from ramq.services.picture_bytes import with_pictures
from ramq.services.reading_files import FILE_FORMATS, FileFormat, Picture, file_name
from ramq.services.region_files import Classes, coco_annotation, write_yolo
from ramq.services.shards import write_shards
from storage.batches import batched
from storage.errors import UsageError
from storage.texts import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ramq.services.picture_bytes import Failed, Fetch
    from storage.results.metadata import MetadataView
    from storage.results.reading_views import ReadingView
    from storage.results.region_views import RegionsView
    from storage.search.query import Match
    from storage.search.views import Hit

    Readings = Callable[[Sequence[int]], Mapping[int, ReadingView]]
    Vectors = Callable[[Sequence[int]], Mapping[int, list[float]]]
    Told = Callable[[Sequence[int]], Mapping[int, MetadataView]]
    Regions = Callable[[Sequence[int]], Mapping[int, RegionsView]]

View = TypeVar("View")

TABLES = ("jsonl", "csv", "parquet")
"""The formats with a row for each image. Its text can be a column."""
WITH_VECTORS = ("jsonl", "parquet")
"""Of these, those in which the vector of an image can be a column."""
LABELS = "yolo"
"""The format with a file for each image in which tags were located, in a tar archive."""
TEXT_FILES = ("hocr", "alto")
"""The formats with a file for each image that was read, in a tar archive."""
TASKS = "label-studio"
"""The format with a task for each image, in one JSON document."""
FOLDERS = ("webdataset", "fiftyone")
"""The formats that are a folder, with the pictures."""
FORMATS = (*TABLES, "coco", LABELS, TASKS, *FOLDERS, *TEXT_FILES)
_COLUMNS = (
    "image_id", "archive", "key", "caption", "tag_ids", "tags", "scores", "sources", "generation_id", "model", "width",
    "height", "caption_contradicts", "given_keywords", "page", "pages",
    "file_key",
)  # fmt: skip
_OF_FILE = (
    "taken_at", "taken_offset", "camera", "lens", "focal_mm", "exposure_seconds", "f_number", "iso", "latitude",
    "longitude", "altitude_m", "title", "description", "keywords", "rating", "creator", "rights",
)  # fmt: skip
"""The columns of what a file says."""
_TOLD = "told"
_ROW_GROUP = 10_000
_BATCH = 500
"""Images whose text is read from the database at once."""
# A spreadsheet treats a cell that starts with one of these as a formula, and may run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def require_place(format_: str, *, with_text: bool, vectors: str | None) -> None:
    """Raise ``UsageError`` for a format that has no place for text or vectors, if they are wanted."""
    if with_text and format_ not in (*TABLES, *TEXT_FILES):
        raise UsageError(f"{format_} has no place for text; choose one of {', '.join((*TABLES, *TEXT_FILES))}")
    if vectors is not None and format_ not in WITH_VECTORS:
        raise UsageError(f"{format_} has no place for vectors; choose one of {', '.join(WITH_VECTORS)}")


def write_rows(  # noqa: PLR0913  (what a row may have beside the result)
    hits: Iterable[Hit],
    format_: str,
    file: IO[bytes],
    made_by: Match | None,
    readings: Readings | None = None,
    regions: Regions | None = None,
    *,
    vectors: Vectors | None = None,
    told: Told | None = None,
) -> None:
    """Write the results of each hit. Its assigned tags, with scores and sources, are listed best first.

    Args:
        hits: the images.
        format_: one of ``TABLES``, or ``coco``.
        file: the file to write to.
        made_by: the generation and the vocabulary of the hits, or None if there are none.
        readings: returns the text of images that were read, by their ids. Tables then have the column ``text``. None:
            without text.
        regions: returns the regions of images that were located, by their ids, for ``coco``. None: without regions.
        vectors: returns the vectors of images, by their ids. All tables but ``csv`` then have the column ``vector``.
            None: without vectors.
        told: returns what the files of images say, by their ids. Tables then have a column for each fact. None: without
            these.
    """
    if format_ == "coco":
        _write_coco(_with(hits, regions or (lambda _ids: {})), file, made_by)
        return
    model = made_by.generation.model if made_by else None
    more: dict[str, Callable[[Sequence[int]], Mapping[int, Any]]] = {}
    if readings is not None:
        more["text"] = lambda ids: {image_id: _text(each) for image_id, each in readings(ids).items()}
    if vectors is not None:
        more["vector"] = vectors
    if told is not None:
        more[_TOLD] = told
    rows = _rows(hits, model, more)
    if format_ == "jsonl":
        _write_jsonl(rows, file)
        return
    columns = [name for each in more for name in (_OF_FILE if each == _TOLD else (each,))]
    {"csv": _write_csv, "parquet": _write_parquet}[format_](rows, file, columns)


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
        for hit, reading in _with(hits, readings):
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


def write_labels(hits: Iterable[Hit], file: IO[bytes], regions: Regions) -> tuple[int, int]:
    """Write a tar archive of YOLO's labels, see ``region_files.write_yolo``. It is only written forwards."""
    return write_yolo(_with(hits, regions), file)


def write_label_studio(hits: Iterable[Hit], file: IO[bytes], regions: Regions, address: str | None) -> Classes:
    """Write tasks of Label Studio, see ``label_studio.write_tasks``. Returns the labels of all regions."""
    return write_tasks(_with(hits, regions), file, address)


def write_folder(
    hits: Iterable[Hit], format_: str, folder: Path, regions: Regions, fetch: Fetch, failed: Failed
) -> int:
    """Write a folder with the pictures of hits and what is known of them. Return how many were written.

    Args:
        hits: the images.
        format_: one of ``FOLDERS``.
        folder: an existing folder.
        regions: returns the regions of images that were located, by their ids.
        fetch: returns the original of an image; see ``picture_bytes.with_pictures``.
        failed: is told of each image whose original cannot be read. It is left out.

    Raises:
        UsageError: a library that the format needs is not installed.
    """
    pictured = with_pictures(_with(hits, regions), fetch, failed)
    return write_shards(pictured, folder) if format_ == "webdataset" else write_fiftyone(pictured, folder)


def _with(
    hits: Iterable[Hit], views: Callable[[Sequence[int]], Mapping[int, View]]
) -> Iterator[tuple[Hit, View | None]]:
    for batch in batched(hits, _BATCH):
        found = views([hit.image_id for hit in batch])
        for hit in batch:
            yield hit, found.get(hit.image_id)


def _rows(
    hits: Iterable[Hit], model: str | None, more: Mapping[str, Callable[[Sequence[int]], Mapping[int, Any]]]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each hit, with ``more`` columns of what is found for its id, or None."""
    for batch in batched(hits, _BATCH if more else 1):
        ids = [hit.image_id for hit in batch]
        found = {name: values(ids) for name, values in more.items()}
        for hit in batch:
            row = _row(hit, model) | {name: values.get(hit.image_id) for name, values in found.items()}
            yield row | _facts(row.pop(_TOLD)) if _TOLD in row else row


def _facts(view: MetadataView | None) -> dict[str, Any]:
    """Return what a file says; the date without a zone, as it stands there."""
    facts: dict[str, Any] = {name: None if view is None else getattr(view, name) for name in _OF_FILE}
    return facts | {
        "taken_at": facts["taken_at"] and facts["taken_at"].isoformat(),
        "keywords": facts["keywords"] or [],
    }


def _text(reading: ReadingView) -> list[dict[str, Any]]:
    """Return the lines of an image."""
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
        "caption_contradicts": list(hit.caption_contradicts),
        "given_keywords": list(hit.keywords),
        "page": hit.page,
        "pages": hit.pages,
        "file_key": hit.file_key or hit.key,
    }


def _write_jsonl(rows: Iterator[dict[str, Any]], file: IO[bytes]) -> None:
    for row in rows:
        file.write(_json(row) + b"\n")


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _write_csv(rows: Iterator[dict[str, Any]], file: IO[bytes], more: Sequence[str]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    columns = (*_COLUMNS, *more)
    writer.writerow(columns)
    for row in rows:
        if row.get("text"):
            row["text"] = [line["text"] for line in row["text"]]
        writer.writerow([_cell(row[name]) for name in columns])
    text.detach()


_IN_LISTS = str.maketrans({"\\": "\\\\", "|": "\\|"})


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "|".join(str(entry).translate(_IN_LISTS) for entry in value)
    return formula_safe(value)


def formula_safe(value: Any) -> Any:
    """Return the value of a cell, with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def without_apostrophe(value: str) -> str:
    """Return the text for which ``formula_safe`` wrote a cell."""
    return value[1:] if value.startswith("'") and value[1:].startswith(_FORMULA) else value


def _write_parquet(rows: Iterator[dict[str, Any]], file: IO[bytes], more: Sequence[str]) -> None:
    import pyarrow as pa  # noqa: PLC0415  (takes a third of a second, and only this format needs it)
    from pyarrow import parquet  # noqa: PLC0415

    corner = pa.list_(pa.float32())
    line = pa.struct([("text", pa.string()), ("confidence", pa.float32()), ("polygon", pa.list_(corner))])
    types = {"text": pa.list_(line), "vector": pa.list_(pa.float32()), "keywords": pa.list_(pa.string())}
    types |= dict.fromkeys(("taken_offset", "iso", "rating"), pa.int32())
    types |= dict.fromkeys(("latitude", "longitude"), pa.float64())
    types |= dict.fromkeys(("focal_mm", "exposure_seconds", "f_number", "altitude_m"), pa.float32())
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
            ("caption_contradicts", pa.list_(pa.string())),
            ("given_keywords", pa.list_(pa.string())),
            ("page", pa.int32()),
            ("pages", pa.int32()),
            ("file_key", pa.string()),
            *((name, types.get(name, pa.string())) for name in more),
        ]
    )
    with parquet.ParquetWriter(file, schema) as writer:
        for group in batched(rows, _ROW_GROUP):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _write_coco(hits: Iterable[tuple[Hit, RegionsView | None]], file: IO[bytes], made_by: Match | None) -> None:
    """Write one document in COCO's format: images, annotations and categories.

    There is an annotation for each region, with its box, its area and its mask, and for each tag of an image that has
    no region, without them. Annotations are collected in a temporary file until all images are written, so that memory
    use does not grow. Categories are last: they may include tags that are in no vocabulary.
    """
    generation = made_by.generation if made_by else None
    info: dict[str, object] = {"description": "ramq export"}
    if generation is not None:
        info |= {"generation_id": generation.id, "model": generation.model, "weights_sha256": generation.weights_sha256}
    classes = Classes(made_by.names.names if made_by else ())
    file.write(b'{"info": ' + _json(info) + b',\n"licenses": [],\n"images": [')
    with TemporaryFile() as waiting:
        _write_entries(_images(hits, waiting, classes), file)
        file.write(b'],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, file)
    file.write(b'],\n"categories": [')
    _write_entries(_categories(classes, made_by), file)
    file.write(b"]}\n")


def _write_entries(entries: Iterable[dict[str, Any]], file: IO[bytes]) -> None:
    for number, entry in enumerate(entries):
        file.write((b",\n" if number else b"\n") + _json(entry))


def _categories(classes: Classes, made_by: Match | None) -> Iterator[dict[str, Any]]:
    names_zh = made_by.names.names_zh if made_by else ()
    for number, name in enumerate(classes.names):
        name_zh = names_zh[number] if number < len(names_zh) else None
        yield {"id": number, "name": name, "name_zh": name_zh, "supercategory": "tag"}


def _images(
    hits: Iterable[tuple[Hit, RegionsView | None]], annotations: IO[bytes], classes: Classes
) -> Iterator[dict[str, Any]]:
    """Yield an entry for each image, and write the entries of its regions and tags to ``annotations``."""
    count = 0
    for hit, view in hits:
        for annotation in _annotations(hit, view, classes):
            numbered = {"id": count + 1, "image_id": hit.image_id} | annotation
            annotations.write((b",\n" if count else b"\n") + _json(numbered))
            count += 1
        yield {
            "id": hit.image_id,
            "file_name": hit.key,
            "width": hit.width,
            "height": hit.height,
            "archive": hit.archive,
            "caption": hit.caption,
            "caption_contradicts": list(hit.caption_contradicts),
            "given_keywords": list(hit.keywords),
            "page": hit.page,
            "file_key": hit.file_key or hit.key,
        }


def _annotations(hit: Hit, view: RegionsView | None, classes: Classes) -> Iterator[dict[str, Any]]:
    regions = [] if view is None else view.regions
    for region in regions:
        source = "model" if region.correction_id is None else "person"
        whose = {"category_id": classes.number(region.tag), "score": region.score, "source": source}
        yield whose | coco_annotation(region, (hit.width, hit.height))
    placed = {fold(region.tag) for region in regions}
    for tag in hit.tags:
        if fold(tag.name) not in placed:
            yield {"category_id": tag.id, "score": tag.score, "source": tag.source}
