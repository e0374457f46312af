"""Tags, their names in English and Chinese, and the thresholds for their scores.

A tag is identified by its integer id: its position in the list. Names are for people, and several tags may share one:
401 of RAM's 4,585 Chinese names and three of ImageNet's English ones do.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import VocabularyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

# Tag2Text's own threshold for most of its tags. The official RAM lists have one per tag instead.
DEFAULT_THRESHOLD = 0.68

# A score is at most 1, and assignment requires a score above the threshold. A tag with this one is never assigned.
NEVER = 1.0

# Between the alternatives in a name; also in full width.
_SEPARATOR = re.compile(r"[/|;、\uff0f\uff5c\uff1b]")

# vocabulary in files -> the models it belongs to
_MODELS = {"ram": ("ram_plus", "ram"), "tag2text": ("tag2text",)}

# Tag2Text's exceptions from its default: tags of people need a higher score, and seven words that are useless as tags
# (quarter, back, two, three, four, five, one) are disabled.
TAG2TEXT_THRESHOLDS = {
    **dict.fromkeys((1167, 2701, 2828), 0.7),
    **dict.fromkeys((127, 2961, 3265, 3338, 3351, 3355, 3359), NEVER),
}


@dataclass(frozen=True, eq=False)
class TagVocabulary:
    """The tags that a model scores, keyed by id, which is the position in every field (T tags).

    Attributes:
        name: name of the vocabulary, for example ``ram`` or ``imagenet``.
        names: English names; not necessarily distinct.
        names_zh: Chinese names, None for a missing one; not necessarily distinct.
        thresholds: (T,) float32 in 0..1, read-only. A tag is assigned if its score is strictly above.
        descriptions: sentences about each tag, one or more per tag; None for a vocabulary of names alone.
        synonyms: further names of each tag in any language, without those in ``names`` and ``names_zh``; none, one or
            more per tag. None for a vocabulary without any. They are for people: search, corrections and the parser of
            captions know them. They change no result of a model, so they are no part of ``sha256``.
        taught: hash (hex) of what people taught about these tags, a part of ``sha256``; None: they did not.

    Raises:
        VocabularyError: the fields do not fit each other, are empty or out of range.
    """

    name: str
    names: tuple[str, ...]
    names_zh: tuple[str | None, ...]
    thresholds: NDArray[np.float32]
    descriptions: tuple[tuple[str, ...], ...] | None = None
    synonyms: tuple[tuple[str, ...], ...] | None = None
    taught: str | None = None

    def __post_init__(self) -> None:
        thresholds = np.array(self.thresholds, dtype=np.float32)
        count = len(self.names)
        if not count:
            raise VocabularyError(f"vocabulary {self.name!r} has no tags; give it at least one name")
        if blank := [i for i, name in enumerate(self.names) if not name.strip()]:
            raise VocabularyError(f"vocabulary {self.name!r} has no name for tag {blank[0]}; remove the tag or name it")
        if len(self.names_zh) != count or thresholds.shape != (count,):
            raise VocabularyError(
                f"vocabulary {self.name!r} has {count} names, {len(self.names_zh)} Chinese names and "
                f"{thresholds.size} thresholds; give one of each per tag"
            )
        if not ((thresholds >= 0) & (thresholds <= 1)).all():  # also false for NaN
            worst = int(np.flatnonzero(~((thresholds >= 0) & (thresholds <= 1)))[0])
            raise VocabularyError(
                f"the threshold of tag {worst} ({self.names[worst]!r}) is {thresholds[worst]}; it must be within 0..1"
            )
        if self.descriptions is not None:
            if len(self.descriptions) != count:
                raise VocabularyError(
                    f"vocabulary {self.name!r} has {count} names and descriptions for {len(self.descriptions)} tags; "
                    "describe every tag or none"
                )
            if missing := [self.names[i] for i, sentences in enumerate(self.descriptions) if not sentences]:
                raise VocabularyError(f"tag {missing[0]!r} of vocabulary {self.name!r} has no description; add one")
        self._check_synonyms()
        thresholds.flags.writeable = False
        object.__setattr__(self, "thresholds", thresholds)

    def _check_synonyms(self) -> None:
        if self.synonyms is None:
            return
        if len(self.synonyms) != len(self):
            raise VocabularyError(
                f"vocabulary {self.name!r} has {len(self)} names and synonyms for {len(self.synonyms)} tags; "
                "give each tag a list of synonyms, which may be empty"
            )
        if blank := [i for i, others in enumerate(self.synonyms) if not all(each.strip() for each in others)]:
            raise VocabularyError(f"tag {self.names[blank[0]]!r} has an empty synonym; remove it")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_files(
        cls,
        names: Path | str,
        names_zh: Path | str | None = None,
        thresholds: Path | str | None = None,
        *,
        name: str | None = None,
        default_threshold: float = DEFAULT_THRESHOLD,
    ) -> TagVocabulary:
        """Read the official text files: UTF-8, one tag per line, in the order of the model's outputs.

        Args:
            names: file of English names.
            names_zh: file of Chinese names in the same order; an empty line is a tag without one.
            thresholds: file of numbers in 0..1 in the same order.
            name: name of the vocabulary; default: the stem of ``names``.
            default_threshold: the threshold of every tag if there is no file of thresholds.

        Raises:
            VocabularyError: a file is missing, empty, not UTF-8, of another length, or a threshold is not a number.
        """
        names = Path(names)
        english = _lines(names)
        chinese: list[str | None] = [None] * len(english)
        if names_zh is not None:
            chinese = [line or None for line in _aligned_lines(Path(names_zh), names, len(english))]
        values = np.full(len(english), default_threshold, dtype=np.float32)
        if thresholds is not None:
            values = _numbers(Path(thresholds), _aligned_lines(Path(thresholds), names, len(english)))
        return cls(name or names.stem, tuple(english), tuple(chinese), values)

    @classmethod
    def from_names(
        cls,
        name: str,
        names: Sequence[str],
        *,
        threshold: float = 0.5,
        descriptions: Mapping[str, Sequence[str]] | None = None,
    ) -> TagVocabulary:
        """Build an open-set vocabulary of custom tags.

        Args:
            name: name of the vocabulary.
            names: the tags, in the order of their ids.
            threshold: one threshold for all. The official open-set code uses 0.5: tags outside of a model's training
                set score lower than those in it.
            descriptions: sentences about each tag, by name.

        Raises:
            VocabularyError: no names, or a name without a description although there are descriptions.
        """
        cleaned = tuple(_clean(each) for each in names)
        sentences = None
        if descriptions is not None:
            known = {_clean(key): tuple(value) for key, value in descriptions.items()}
            sentences = tuple(known.get(each, ()) for each in cleaned)
        values = np.full(len(cleaned), threshold, dtype=np.float32)
        return cls(name, cleaned, (None,) * len(cleaned), values, sentences)

    @classmethod
    def official(cls, name: str, models_dir: Path | str | None = None) -> TagVocabulary:
        """Return one of the official lists.

        Args:
            name: ``ram`` (RAM and RAM++) or ``tag2text``.
            models_dir: the folder with the lists, or with the folders of their models.

        Raises:
            VocabularyError: the name is unknown, or the lists are not in ``models_dir``.
        """
        if name not in _MODELS:
            raise VocabularyError(f"unknown vocabulary {name!r}; known vocabularies: imagenet, ram, tag2text")
        if models_dir is None:
            raise VocabularyError(f"vocabulary {name!r} needs its files; pass their folder (models_dir)")
        first = "ram_tag_list.txt" if name == "ram" else "tag2text_ori_tag_list.txt"
        homes = [Path(models_dir), *(Path(models_dir) / model for model in _MODELS[name])]
        folder = next((home for home in homes if (home / first).is_file()), homes[0])
        if name == "ram":
            return cls.from_files(
                folder / first,
                folder / "ram_tag_list_chinese.txt",
                folder / "ram_tag_list_threshold.txt",
                name=name,
            )
        plain = cls.from_files(folder / first, name=name)
        return plain.with_thresholds(TAG2TEXT_THRESHOLDS)

    def with_thresholds(self, thresholds: Mapping[int, float]) -> TagVocabulary:
        """Return the same tags with other thresholds for some ids.

        Raises:
            VocabularyError: an id is not in this vocabulary, or a threshold is out of range.
        """
        values = self.thresholds.copy()
        for tag_id, value in thresholds.items():
            if not 0 <= tag_id < len(self):
                raise VocabularyError(f"vocabulary {self.name!r} has no tag {tag_id}; ids go from 0 to {len(self) - 1}")
            values[tag_id] = value
        return replace(self, thresholds=values)

    def with_synonyms(self, synonyms: Mapping[int, Sequence[str]]) -> TagVocabulary:
        """Return the same tags with these synonyms, and no others. Names of the tag itself are left out.

        Args:
            synonyms: further names by id. A tag that is not in it has none.

        Raises:
            VocabularyError: an id is not in this vocabulary, or a synonym is empty.
        """
        if unknown := [tag_id for tag_id in synonyms if not 0 <= tag_id < len(self)]:
            raise VocabularyError(f"vocabulary {self.name!r} has no tag {unknown[0]}; ids go from 0 to {len(self) - 1}")
        others = []
        for tag_id, own in enumerate(zip(self.names, self.names_zh, strict=True)):
            seen = {_fold(name): "" for name in own if name}
            added = [_clean(each) for each in synonyms.get(tag_id, ())]
            others.append(tuple(each for each in added if seen.setdefault(_fold(each), each) is each))
        return replace(self, synonyms=tuple(others))

    def has_tags_of(self, other: TagVocabulary) -> bool:
        """Return whether both have the same tags: the same names and descriptions under the same ids.

        Thresholds, Chinese names and synonyms may differ: a model scores both alike.
        """
        return self.names == other.names and self.descriptions == other.descriptions

    @cached_property
    def sha256(self) -> str:
        """Hash (hex) of names, Chinese names, thresholds and descriptions: all that affects a model's results.

        Synonyms are no part of it: who edits them need not recognise an archive again.
        """
        digest = hashlib.sha256(json.dumps([self.names, self.names_zh, self.descriptions]).encode())
        digest.update(self.thresholds.astype("<f4").tobytes())
        if self.taught is not None:
            digest.update(self.taught.encode())
        return digest.hexdigest()

    @cached_property
    def never_assigned(self) -> tuple[int, ...]:
        """Ids of the tags whose threshold no score can exceed (ten of RAM's)."""
        return tuple(int(i) for i in np.flatnonzero(self.thresholds >= NEVER))

    def assigned(self, scores: NDArray[np.float32], ids: NDArray[np.int32] | None = None) -> NDArray[np.bool_]:
        """Return which tags are assigned: score strictly above threshold, as in the official code.

        Args:
            scores: (..., T) scores of all tags; or, with ``ids``, (K,) scores of those tags.
            ids: (K,) ids of the scores.

        Returns:
            True if assigned, in the shape of ``scores``.
        """
        thresholds = self.thresholds if ids is None else self.thresholds[ids]
        return np.asarray(scores, dtype=np.float32) > thresholds

    def resolve(self, text: str) -> list[int]:
        """Return the ids that a person means by a name or a number, ascending; empty if there are none.

        A name in English (case-insensitive) or Chinese gives every tag that has it. If it is no tag's name, an
        alternative in a name ("cat" of "cat/kitty") or a synonym gives every tag that has it. Text that is neither is
        read as an id.
        """
        key = _fold(text)
        if ids := self._ids_by_name.get(key) or self._ids_by_synonym.get(key):
            return list(ids)
        if key.isdecimal() and int(key) < len(self):
            return [int(key)]
        return []

    def suggest(self, text: str, n: int = 3) -> list[str]:
        """Return up to ``n`` names of this vocabulary that resemble ``text`` or contain it as a word, best first."""
        key = _fold(text)
        holding = [name for name in self._ids_by_name if key in name.split()]  # cat: Egyptian cat, tiger cat
        near = difflib.get_close_matches(key, self._ids_by_name.keys(), n=n, cutoff=0.6)
        return [self._spelling(each) for each in dict.fromkeys(near + holding)][:n]

    @cached_property
    def _ids_by_name(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, set[int]] = {}
        for names in (self.names, self.names_zh):
            for i, name in enumerate(names):
                if name:
                    found.setdefault(_fold(name), set()).add(i)
        return {key: tuple(sorted(ids)) for key, ids in found.items()}

    @cached_property
    def _ids_by_synonym(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, set[int]] = {}
        given = self.synonyms or ((),) * len(self)
        for i, (name, name_zh, others) in enumerate(zip(self.names, self.names_zh, given, strict=True)):
            within = (part for each in (name, name_zh or "", *others) for part in _alternatives(each))
            for other in (*others, *within):
                found.setdefault(_fold(other), set()).add(i)
        return {key: tuple(sorted(ids)) for key, ids in found.items()}

    def _spelling(self, key: str) -> str:
        """Return a name as the vocabulary spells it."""
        first = self._ids_by_name[key][0]
        english, chinese = self.names[first], self.names_zh[first]
        return english if chinese is None or _fold(english) == key else chinese


def _alternatives(name: str) -> tuple[str, ...]:
    """Return the names that a name consists of, as ``storage.results.naming``: "猫/猫咪" is "猫" or "猫咪"."""
    parts = tuple(part.strip() for part in _SEPARATOR.split(name))
    return parts if len(parts) > 1 and all(any(map(str.isalpha, part)) for part in parts) else ()


def _clean(text: str) -> str:
    return " ".join(text.split())


def _fold(text: str) -> str:
    """Bring names that a person would call equal to one form (case, width, white space)."""
    return _clean(unicodedata.normalize("NFKC", text)).casefold()


def _lines(path: Path) -> list[str]:
    """Read a list with one cleaned entry per line. The last line may or may not end with a newline."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise VocabularyError(f"{path} does not exist; run `ramq models pull` for the official lists") from error
    except (OSError, UnicodeDecodeError) as error:
        raise VocabularyError(f"{path} cannot be read as a UTF-8 list: {error}") from error
    if not text.strip():
        raise VocabularyError(f"{path} is empty; it must have one tag per line")
    return [_clean(line) for line in text.rstrip("\n").split("\n")]


def _aligned_lines(path: Path, names: Path, count: int) -> list[str]:
    lines = _lines(path)
    if len(lines) != count:
        raise VocabularyError(
            f"{path} has {len(lines)} lines but {names} has {count} tags; use lists that belong together, line by line"
        )
    return lines


def _numbers(path: Path, lines: Iterable[str]) -> NDArray[np.float32]:
    values = []
    for number, line in enumerate(lines, start=1):
        try:
            values.append(float(line))
        except ValueError as error:
            raise VocabularyError(f"{path}, line {number}: {line!r} is not a number; write one in 0..1") from error
        if not 0 <= values[-1] <= 1:
            raise VocabularyError(f"{path}, line {number}: {line} is outside 0..1; write a threshold within it")
    return np.array(values, dtype=np.float32)
