"""Vocabularies in files: names alone, or a table with thresholds, Chinese names, descriptions and synonyms."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.errors import VocabularyError
from ram_core.labels.label_file import SUFFIX, LabelSystem
from ram_core.openset import OPEN_THRESHOLD
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLUMNS = ("id", "name", "name_zh", "threshold", "description", "descriptions", "synonyms")

# NUL, which shows that a file has another encoding, and halves of surrogate pairs, which JSON can spell. A database
# can store neither.
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Entry:
    line: int
    name: str
    name_zh: str | None
    threshold: float
    descriptions: tuple[str, ...]
    synonyms: tuple[str, ...]
    tag_id: int | None


def read_vocabulary(path: Path | str, name: str | None = None) -> TagVocabulary:
    """Read a vocabulary.

    Args:
        path: ``.txt`` with one name per line; ``.csv`` with a header, or ``.jsonl``, with ``name`` and, optionally,
            ``name_zh``, ``threshold`` (default 0.5), ``description`` or ``descriptions``, and ``synonyms`` (in a CSV,
            several are separated by ``|``). Empty lines are ignored. Tags may share a name only if each line has an
            ``id``, counted from 0. Or a ``.labels`` file, as ``ramq labels build`` writes it.
        name: name of the vocabulary; default: the file's stem.

    Raises:
        VocabularyError: the file is missing or of another kind, or a line is not valid; the message names it.
    """
    path = Path(path)
    if path.suffix.lower() == SUFFIX:
        return LabelSystem.read(path).vocabulary(name or path.stem)
    readers = {".txt": _names, ".csv": _table, ".jsonl": _objects}
    if path.suffix.lower() not in readers:
        raise VocabularyError(f"{path} is not a vocabulary: give a .txt, .csv, .jsonl or .labels file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise VocabularyError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise VocabularyError(f"{path} cannot be read as UTF-8 text: {error}") from error
    entries = [_entry(path, line, fields) for line, fields in readers[path.suffix.lower()](path, lines)]
    if not entries:
        raise VocabularyError(f"{path} contains no tags; write one per line")
    _check(path, entries)
    described = any(entry.descriptions for entry in entries)
    vocabulary = TagVocabulary(
        name or path.stem,
        tuple(entry.name for entry in entries),
        tuple(entry.name_zh for entry in entries),
        np.array([entry.threshold for entry in entries], dtype=np.float32),
        tuple(entry.descriptions for entry in entries) if described else None,
    )
    synonyms = {tag_id: entry.synonyms for tag_id, entry in enumerate(entries) if entry.synonyms}
    return vocabulary.with_synonyms(synonyms) if synonyms else vocabulary


def write_vocabulary(path: Path | str, vocabulary: TagVocabulary) -> None:
    """Write a vocabulary as ``.jsonl``, from which ``read_vocabulary`` reads the same tags and thresholds.

    The file appears complete or not at all.

    Raises:
        VocabularyError: the file has another ending or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".jsonl":
        raise VocabularyError(f"{path} cannot be written as a vocabulary: give a .jsonl file")
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as file:
                for tag_id in range(len(vocabulary)):
                    file.write(json.dumps(_fields(vocabulary, tag_id), ensure_ascii=False) + "\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise VocabularyError(f"{path} cannot be written: {error.strerror}; give another file") from error


def _fields(vocabulary: TagVocabulary, tag_id: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": tag_id, "name": vocabulary.names[tag_id]}
    if name_zh := vocabulary.names_zh[tag_id]:
        fields["name_zh"] = name_zh
    fields["threshold"] = float(str(vocabulary.thresholds[tag_id]))  # the shortest number that is this float32
    if vocabulary.descriptions is not None:
        fields["descriptions"] = vocabulary.descriptions[tag_id]
    if vocabulary.synonyms is not None and vocabulary.synonyms[tag_id]:
        fields["synonyms"] = vocabulary.synonyms[tag_id]
    return fields


def _names(_path: Path, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    yield from ((number, {"name": line}) for number, line in enumerate(lines, start=1) if line.strip())


def _table(path: Path, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    rows = csv.DictReader(lines)
    if "name" not in (rows.fieldnames or ()):
        raise VocabularyError(f"{path}, line 1: no column `name`; the columns are {', '.join(_COLUMNS)}")
    for fields in rows:
        if None in fields:
            raise VocabularyError(f"{path}, line {rows.line_num}: more fields than columns; quote fields with commas")
        if any((value or "").strip() for value in fields.values()):
            told = {key: value for key, value in fields.items() if (value or "").strip()}
            for column in {"descriptions", "synonyms"} & told.keys():
                told[column] = [part for part in told[column].split("|") if part.strip()]
            yield rows.line_num, told


def _objects(path: Path, lines: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise VocabularyError(f"{path}, line {number}: not valid JSON ({error})") from error
        if not isinstance(fields, dict):
            raise VocabularyError(f'{path}, line {number}: not an object such as {{"name": "dog"}}')
        yield number, {key: value for key, value in fields.items() if value is not None}


def _entry(path: Path, line: int, fields: dict[str, Any]) -> _Entry:
    where = f"{path}, line {line}"
    if unknown := [key for key in fields if key not in _COLUMNS]:
        raise VocabularyError(f"{where}: unknown field {unknown[0]!r}; the fields are {', '.join(_COLUMNS)}")
    name = fields.get("name")
    if not isinstance(name, str) or not name.strip():
        raise VocabularyError(f"{where}: the name is missing")
    name_zh = fields.get("name_zh", "")
    sentences = fields.get("descriptions", [fields["description"]] if "description" in fields else [])
    texts = sentences if isinstance(sentences, list) else [sentences]
    synonyms = fields.get("synonyms", [])
    others = synonyms if isinstance(synonyms, list) else [synonyms]
    if not isinstance(name_zh, str) or not all(isinstance(text, str) and text.strip() for text in (*texts, *others)):
        raise VocabularyError(f"{where}: Chinese name, descriptions and synonyms must be text")
    if wrong := [text for text in (name, name_zh, *texts, *others) if _NO_TEXT.search(text)]:
        raise VocabularyError(f"{where}: {wrong[0]!r} has characters that are not text; save the file as UTF-8")
    try:
        threshold = float(fields.get("threshold", OPEN_THRESHOLD))
    except (TypeError, ValueError) as error:
        raise VocabularyError(f"{where}: threshold {fields['threshold']!r} is not a number; write 0 to 1") from error
    if not 0 <= threshold <= 1:
        raise VocabularyError(f"{where}: threshold {threshold:g} is outside 0..1")
    described, known_as = (tuple(map(_clean, each)) for each in (texts, others))
    return _Entry(line, _clean(name), _clean(name_zh) or None, threshold, described, known_as, _id(where, fields))


def _id(where: str, fields: dict[str, Any]) -> int | None:
    if "id" not in fields:
        return None
    value = fields["id"]
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and text.isascii() and text.isdecimal():
        return int(text)
    if type(value) is int:
        return value
    raise VocabularyError(f"{where}: id {value!r} is not a whole number; number the tags from 0")


def _clean(text: str) -> str:
    return " ".join(text.split())


def _check(path: Path, entries: list[_Entry]) -> None:
    has_ids = any(entry.tag_id is not None for entry in entries)
    for position, entry in enumerate(entries):
        if has_ids and entry.tag_id != position:
            found = "no id" if entry.tag_id is None else f"id {entry.tag_id}"
            raise VocabularyError(f"{path}, line {entry.line}: {found} instead of {position}; number the tags from 0")
    seen: dict[str, int] = {}
    described = [entry for entry in entries if entry.descriptions]
    for entry in entries:
        before = seen.setdefault(entry.name.casefold(), entry.line)
        if before != entry.line and not has_ids:
            raise VocabularyError(f"{path}, line {entry.line}: {entry.name!r} is already in line {before}")
        if described and not entry.descriptions:
            raise VocabularyError(f"{path}, line {entry.line}: {entry.name!r} has no description; describe all or none")
