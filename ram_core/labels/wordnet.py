"""Synonyms from WordNet, of which a copy must be there: this project does not ship one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ram_core.errors import VocabularyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class WordNet:
    """Sets of synonyms of nouns.

    Only names with one sense, or whose first sense is the same, are synonyms: "crane" the bird is no "derrick".

    Args:
        synsets: the names of each set, in any order.
        first: the set of a name's first sense, by name, where it is known; names without it count if they are in one
            set only.
    """

    def __init__(self, synsets: Iterable[tuple[str, ...]], first: dict[str, int] | None = None) -> None:
        self._synsets = [tuple(name.replace("_", " ") for name in names) for names in synsets]
        senses: dict[str, set[int]] = {}
        for number, names in enumerate(self._synsets):
            for name in names:
                senses.setdefault(name.casefold(), set()).add(number)
        self._sense = {name: next(iter(numbers)) for name, numbers in senses.items() if len(numbers) == 1}
        self._sense.update(first or {})

    @classmethod
    def load(cls, path: Path) -> WordNet:
        """Load WordNet from its own files (a folder with ``index.noun`` and ``data.noun``) or a JSON file.

        The JSON has ``{"synsets": {ID: {"lemmas": [NAME, …]}}}``. NLTK keeps the folder in ``corpora/wordnet``.

        Raises:
            VocabularyError: the files are missing or of another form.
        """
        try:
            return cls._from_folder(path) if path.is_dir() else cls._from_json(path)
        except OSError as error:
            raise VocabularyError(f"{path} is not WordNet: {error.strerror}; give its folder or a JSON file") from error
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise VocabularyError(f"{path} is not WordNet: {error}; give its folder or a JSON file") from error

    @classmethod
    def _from_json(cls, path: Path) -> WordNet:
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(tuple(map(str, synset["lemmas"])) for synset in data["synsets"].values())

    @classmethod
    def _from_folder(cls, folder: Path) -> WordNet:
        numbers: dict[str, int] = {}
        synsets: list[tuple[str, ...]] = []
        for fields in _rows(folder / "data.noun"):  # offset, file, kind, number of names, name, id, name, id, …
            numbers[fields[0]] = len(synsets)
            synsets.append(tuple(fields[4 : 4 + 2 * int(fields[3], 16) : 2]))
        first = {}
        for fields in _rows(folder / "index.noun"):  # name, kind, number of senses, p, p pointers, 2 numbers, offsets
            first[fields[0].replace("_", " ")] = numbers[fields[6 + int(fields[3])]]
        return cls(synsets, first)

    def synonyms(self, name: str) -> list[str]:
        """Return the other names of what a name means first, or only."""
        key = name.casefold()
        sense = self._sense.get(key)
        if sense is None:
            return []
        return [each for each in self._synsets[sense] if each.casefold() != key and self._means(each, sense)]

    def _means(self, name: str, sense: int) -> bool:
        return self._sense.get(name.casefold()) == sense


def _rows(path: Path) -> Iterator[list[str]]:
    """Return the fields of a file of WordNet, whose licence stands in lines that begin with a space."""
    with path.open(encoding="utf-8") as lines:
        yield from (line.split() for line in lines if not line.startswith(" "))
