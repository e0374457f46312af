"""Export of results as JSON lines, CSV, Parquet or a COCO document. All formats are streamed."""

from __future__ import annotations

import csv
import io
import json
import shutil
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from storage.search.query import Match
    from storage.search.views import Hit

FORMATS = ("jsonl", "csv", "parquet", "coco")
_COLUMNS = (
    "image_id", "archive", "key", "caption", "tag_ids", "tags", "scores", "sources", "generation_id", "model", "width",
    "height",
)  # fmt: skip
_ROW_GROUP = 10_000
# A spreadsheet treats a cell that starts with one of these as a formula, and may run it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_rows(hits: Iterable[Hit], format_: str, file: IO[bytes], made_by: Match | None) -> None:
    """Write the results of each hit. Its assigned tags, with scores and sources, are listed best first.

    Args:
        hits: the images.
        format_: one of ``FORMATS``.
        file: the file to write to.
        made_by: the generation and the vocabulary of the hits, or None if there are none.
    """
    if format_ == "coco":
        _write_coco(hits, file, made_by)
        return
    model = made_by.generation.model if made_by else None
    rows = (_row(hit, model) for hit in hits)
    {"jsonl": _write_jsonl, "csv": _write_csv, "parquet": _write_parquet}[format_](rows, file)


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


def _write_csv(rows: Iterator[dict[str, Any]], file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in _COLUMNS])
    text.detach()


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "|".join(str(entry) for entry in value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _write_parquet(rows: Iterator[dict[str, Any]], file: IO[bytes]) -> None:
    import pyarrow as pa  # noqa: PLC0415  (takes a third of a second, and only this format needs it)
    from pyarrow import parquet  # noqa: PLC0415

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
