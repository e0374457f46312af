r"""Files of labels: text that people read, edit and compare; one line for a tag with all its names.

    # Farm animals.
    0: dog | dogs [plural] | hound | 狗 [chinese]
    1: cattle

A line is the tag's id, a colon, its name, and further names after bars, each with its origin in brackets unless a
person or a list gave it. ``#`` begins a comment; comments and empty lines are kept. ``\|``, ``\[`` and ``\\`` are a
bar, a bracket and a backslash in a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import VocabularyError
from ram_core.labels.chinese import HAN
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from collections.abc import Iterable

GIVEN = ""
"""The origin of a name that a list or a person gave."""

ORIGINS = {
    GIVEN: "given by a list or a person",
    "captions": "frequent in captions",
    "alternative": "one of the names in a name such as taxi/cab",
    "plural": "plural of the name",
    "lemma": "base form of the name",
    "spelling": "other spelling of the name",
    "everyday": "another word of everyday English",
    "chinese": "from the list of Chinese names",
    "wordnet": "of the same set of synonyms in WordNet",
}
"""Where names are from."""

SUFFIX = ".labels"
"""Of the names of these files, so that ``ramq vocab add`` knows them."""

OPEN_THRESHOLD = 0.5

_LINE = re.compile(r"(?P<id>\d{1,6}):(?P<names>.*)")
_BAR = re.compile(r"(?<!\\)((?:\\\\)*)\|")
_NAME = re.compile(r"(?P<name>.*?)(?:(?<!\\)\[(?P<origin>[^\[\]]*)\])?")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class LabelName:
    """A name of a tag and its origin, one of ``ORIGINS``."""

    text: str
    origin: str = GIVEN


@dataclass(frozen=True, slots=True)
class LabelGroup:
    """A tag: its id and its names, the tag's own name first; ``above`` are the comments in front of its line."""

    id: int
    names: tuple[LabelName, ...]
    above: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelSystem:
    """Tags with their synonyms, in the order of their ids; ``below`` are the comments after the last one.

    Raises:
        VocabularyError: ids do not ascend, or a tag has no name or the same one twice.
    """

    groups: tuple[LabelGroup, ...]
    below: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        last = -1
        for group in self.groups:
            _check(group, last, f"tag {group.id}")
            last = group.id

    @classmethod
    def read(cls, path: Path | str) -> LabelSystem:
        """Read a file.

        Raises:
            VocabularyError: the file is missing or not UTF-8, or a line is invalid; the message names it.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError as error:
            raise VocabularyError(f"{path} does not exist") from error
        except (OSError, UnicodeDecodeError) as error:
            raise VocabularyError(f"{path} cannot be read as UTF-8 text: {error}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, source: str = "the text") -> LabelSystem:
        """Read the content of a file; ``source`` names it in errors. Raises ``VocabularyError``."""
        groups: list[LabelGroup] = []
        above: list[str] = []
        lines = text.split("\n")
        for number, line in enumerate(lines[:-1] if not lines[-1] else lines, start=1):
            stripped = line.strip()
            if not stripped or stripped.startswith("#"):
                above.append(line.rstrip())
                continue
            where = f"{source}, line {number}"
            group = _group(stripped, tuple(above), where)
            _check(group, groups[-1].id if groups else -1, where)
            groups.append(group)
            above.clear()
        return cls(tuple(groups), tuple(above))

    def text(self) -> str:
        """Return the content of the file. What ``parse`` makes of it equals this."""
        lines: list[str] = []
        for group in self.groups:
            lines += group.above
            lines.append(f"{group.id}: {' | '.join(map(_written, group.names))}")
        return "\n".join([*lines, *self.below, ""])

    def vocabulary(self, name: str) -> TagVocabulary:
        """Return the vocabulary of these tags. Names in Chinese become its Chinese names, all others synonyms.

        Raises:
            VocabularyError: there are no tags, or ids are missing between 0 and the last one.
        """
        for position, group in enumerate(self.groups):
            if group.id != position:
                raise VocabularyError(
                    f"the labels have no tag {position}, but a vocabulary numbers its tags without gaps; "
                    "`ramq labels build --lists FILE --out FILE` numbers them anew"
                )
        chinese = [next((n.text for n in group.names[1:] if HAN.search(n.text)), None) for group in self.groups]
        names = tuple(group.names[0].text for group in self.groups)
        plain = TagVocabulary(name, names, tuple(chinese), np.full(len(names), OPEN_THRESHOLD, dtype=np.float32))
        return plain.with_synonyms({group.id: [each.text for each in group.names[1:]] for group in self.groups})


def _group(line: str, above: tuple[str, ...], where: str) -> LabelGroup:
    found = _LINE.fullmatch(line)
    if found is None:
        raise VocabularyError(f"{where}: no id and colon; write a line such as 12: dog | hound")
    return LabelGroup(int(found["id"]), tuple(_name(entry, where) for entry in _entries(found["names"])), above)


def _entries(names: str) -> Iterable[str]:
    return _BAR.sub(r"\1\n", names).split("\n")


def _name(entry: str, where: str) -> LabelName:
    found = _NAME.fullmatch(entry.strip())
    if found is None or not found["name"].strip():
        raise VocabularyError(f"{where}: a name is empty; remove one of the bars, or write a name")
    origin = GIVEN if found["origin"] is None else found["origin"].strip()
    if origin not in ORIGINS:
        known = ", ".join(filter(None, ORIGINS))
        raise VocabularyError(
            f"{where}: unknown origin [{origin}]; write one of {known}, or \\[ for a bracket in a name"
        )
    return LabelName(" ".join(_ESCAPED.sub(r"\1", found["name"]).split()), origin)


def _written(name: LabelName) -> str:
    text = re.sub(r"([\\|\[])", r"\\\1", name.text)
    return f"{text} [{name.origin}]" if name.origin else text


def _check(group: LabelGroup, last: int, where: str) -> None:
    if group.id <= last:
        raise VocabularyError(f"{where}: id {group.id} stands after {last}; ids must ascend, each used once")
    if not group.names:
        raise VocabularyError(f"{where}: tag {group.id} has no name; write one")
    seen: set[str] = set()
    for name in group.names:
        if name.text.casefold() in seen:
            raise VocabularyError(f"{where}: {name.text!r} stands there twice; remove one of them")
        seen.add(name.text.casefold())
