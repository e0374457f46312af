"""The training file of the official code: a JSON list with an entry for each image. Read and written in pieces."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ram_core.errors import TrainingError
from ram_core.training.data.dataset import Sample, Source
from ram_core.training.data.pictures import PictureFolder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ram_core.training.data.describing import Describer

KIND = "official"
_CHUNK = 1 << 20  # characters
_LONGEST = 1 << 26  # characters of an entry
_KEYS = ("image_path", "caption", "parse_label_id", "union_label_id")


def open_official(path: Path, describer: Describer, images: Path | None = None) -> Source:
    """Return the images of a file. Its pictures are below ``images``; default: the folder that it is in."""
    folder = PictureFolder(images if images is not None else path.parent)
    samples = folder.checked(_samples(path, describer, folder))
    return Source(str(path), KIND, samples, lambda _number, name: folder.read(name))


def write_official(path: Path | str, samples: Iterable[Sample]) -> int:
    """Write samples as the official training reads them. Return how many.

    The file appears complete or not at all.

    Raises:
        TrainingError: it cannot be written.
    """
    path, count = Path(path), 0
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.write("[")
                for count, sample in enumerate(samples, start=1):
                    values = (sample.name, sample.captions, sample.caption_tags, sample.tags)
                    entry = json.dumps(dict(zip(_KEYS, values, strict=True)))
                    file.write((",\n" if count > 1 else "\n") + entry)
                file.write("\n]\n")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error.strerror}; give another path") from error
    return count


def _samples(path: Path, describer: Describer, folder: PictureFolder) -> Iterator[Sample]:
    for number, (line, entry) in enumerate(entries(path), start=1):
        where = f"{path}, entry {number} (line {line})"
        if not isinstance(entry, dict) or not isinstance(entry.get("image_path"), str):
            raise TrainingError(f'{where} has no "image_path"; give a list of objects with {", ".join(_KEYS)}')
        try:
            yield sample_of(entry, folder.name(entry["image_path"], where), describer)
        except (TypeError, ValueError) as error:
            raise TrainingError(f"{where}: {error}") from error


def sample_of(entry: dict[str, Any], name: str, describer: Describer) -> Sample:
    """Return the sample of an entry. Tags of captions that it does not give are parsed.

    Raises:
        ValueError: a value is of the wrong kind.
    """
    captions = entry.get("caption") or []
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(each, str) for each in captions):
        raise ValueError(f'"caption" is {_shown(captions)}; give a list of texts')
    union, parsed = entry.get("union_label_id"), entry.get("parse_label_id")
    if parsed is None:
        return describer.sample(name, captions, [] if union is None else _ids(union, "union_label_id"))
    if not isinstance(parsed, list) or len(parsed) != len(captions):
        raise ValueError(f'"parse_label_id" is {_shown(parsed)} for {len(captions)} captions; give a list for each')
    by_caption = [_ids(each, "parse_label_id") for each in parsed]
    tags = sorted(set(chain(*by_caption))) if union is None else _ids(union, "union_label_id")
    return Sample(name, captions, by_caption, tags)


def _ids(value: Any, key: str) -> list[int]:
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise ValueError(f'"{key}" is {_shown(value)}; give a list of tag ids')
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def entries(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the line and the value of each entry of a JSON list, however long it is.

    Raises:
        TrainingError: the file cannot be read or is not valid JSON; the message says where.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _Entries(path, file)
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error


class _Entries:
    """The entries of a list, parsed one by one from a buffer."""

    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path, self._file = path, file
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at, self._line, self._number = "", 0, 1, 0

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        if self._next() != "[":
            raise self._broken("does not begin with [")
        self._at += 1
        if self._next() == "]":
            return
        while True:
            self._number += 1
            self._next()
            yield self._line, self._value()
            following = self._next()
            self._at += 1
            if following == "]":
                return
            if following != ",":
                raise self._broken("is cut short" if not following else f"is followed by {following!r}")

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except RecursionError as error:
                raise self._broken("is nested too deeply") from error
            except ValueError as error:
                if len(self._text) - self._at < _LONGEST and self._more():
                    continue
                raise self._broken(f"is not valid JSON: {error.msg if hasattr(error, 'msg') else error}") from error
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _next(self) -> str:
        """Skip white space; return the character after it, "" at the end."""
        while True:
            while self._at < len(self._text):
                character = self._text[self._at]
                if character not in " \t\r\n":
                    return character
                self._line += character == "\n"
                self._at += 1
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read on; return whether there was more."""
        more = self._file.read(max(_CHUNK, len(self._text) - self._at))
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)

    def _broken(self, what: str) -> TrainingError:
        where = f"entry {self._number} (line {self._line})" if self._number else "the file"
        return TrainingError(f"{self._path}: {where} {what}; repair it, or leave the entry out")
