"""What is a kind of what: a dog is an animal. From WordNet, above the classes of ImageNet.

Needs neither torch nor timm, so that searches can use it. ``shipped.json`` is made by
``python -m ram_core.hierarchy.ship``; WordNet's licence lies beside it.
"""

from __future__ import annotations

import functools
import json
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ram_core.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

PATH = Path(__file__).with_name("shipped.json")


@dataclass(frozen=True, slots=True)
class UpperTag:
    """A tag of ``lite`` that stands for several classes.

    Attributes:
        name, synonyms: its names.
        description: WordNet's definition.
        synsets: the synsets that it is made of.
        without: classes below these that it does not stand for, as synsets.
        classes: the positions of the classes that it stands for, ascending.
    """

    name: str
    synonyms: tuple[str, ...]
    description: str
    synsets: tuple[str, ...]
    without: tuple[str, ...]
    classes: tuple[int, ...]


class Hierarchy:
    """WordNet's nouns above the classes of ImageNet. Immutable and thread-safe.

    A name may have several senses here. A tag is a kind of another one if that holds for every sense of its name, so
    nothing is concluded about a "crane", which is a bird or a machine.

    Args:
        data: the content of ``shipped.json``.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.classes: tuple[str, ...] = tuple(data["classes"])
        self.class_synonyms: tuple[tuple[str, ...], ...] = tuple(map(tuple, data["class_synonyms"]))
        self.upper_tags = tuple(
            UpperTag(
                name=each["name"],
                synonyms=tuple(each["synonyms"]),
                description=each["description"],
                synsets=tuple(each["synsets"]),
                without=tuple(each["without"]),
                classes=tuple(each["classes"]),
            )
            for each in data["upper_tags"]
        )
        self._lemmas: dict[str, tuple[str, ...]] = {key: tuple(each[0]) for key, each in data["synsets"].items()}
        self._hypernyms: dict[str, tuple[str, ...]] = {key: tuple(each[1]) for key, each in data["synsets"].items()}
        self._other_senses = frozenset(data["other_senses"])
        self._extents: dict[frozenset[str], frozenset[str]] = {}

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of a network's outputs."""
        return tuple(self._lemmas[synset][0] for synset in self.classes)

    def classes_of(self, names: Sequence[str]) -> Sequence[str]:
        """Return the names of the tags of ``lite`` without those above its classes; other names unchanged."""
        count = len(self.classes)
        return self.class_names if tuple(names[:count]) == self.class_names else names

    def over(self, names: Sequence[Sequence[str]]) -> Kinds:
        """Return which tags of a vocabulary are kinds of which, given the names of each tag, by id.

        The first name of a tag that is known here counts.
        """
        return Kinds(self, self._senses_of_tags(names))

    def more_general(self) -> dict[str, tuple[str, ...]]:
        """Return for each name the more general names, however many steps away, in the spellings of WordNet."""
        names = {lemma for lemmas in self._lemmas.values() for lemma in lemmas}
        names.update(name for tag in self.upper_tags for name in (tag.name, *tag.synonyms))
        called = {synset: set(self._known(lemmas)) for synset, lemmas in self._lemmas.items()}
        for tag in self.upper_tags:
            for synset in tag.synsets:
                called[synset].update((tag.name, *tag.synonyms))
        found = {}
        for name in names:
            own = self.senses(name)
            if not own:
                continue
            shared = frozenset.intersection(*map(self._above, own)) - own
            above = {other for synset in shared for other in called[synset] if not own <= self._without(other)}
            if above - {name}:
                found[name] = tuple(sorted(above - {name}))
        return found

    def _known(self, lemmas: Iterable[str]) -> Iterator[str]:
        return (lemma for lemma in lemmas if fold(lemma) not in self._other_senses)

    def _senses_of_tags(self, names: Sequence[Sequence[str]]) -> list[frozenset[str]]:
        count = len(self.classes)
        if tuple(each[0] for each in names[:count]) == self.class_names:
            # The classes themselves, of which a few share a name.
            own = [frozenset({synset}) for synset in self.classes]
            return own + [self._senses_of_any(each) for each in names[count:]]
        return [self._senses_of_any(each) for each in names]

    def _senses_of_any(self, names: Iterable[str]) -> frozenset[str]:
        return next(filter(None, map(self.senses, names)), frozenset())

    def senses(self, name: str) -> frozenset[str]:
        """Return the synsets of a name; none for an unknown one."""
        return self._synsets_by_name.get(fold(name), frozenset())

    @functools.cached_property
    def _synsets_by_name(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for synset, lemmas in self._lemmas.items():
            for lemma in self._known(lemmas):
                found.setdefault(fold(lemma), set()).add(synset)
        # Chosen by hand, so they say better what is meant: a car is no railway car.
        chosen = {fold(name): set(tag.synsets) for tag in self.upper_tags for name in (tag.name, *tag.synonyms)}
        return {name: frozenset(synsets) for name, synsets in {**found, **chosen}.items()}

    @functools.cached_property
    def _hyponyms(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for synset, hypernyms in self._hypernyms.items():
            for hypernym in hypernyms:
                found.setdefault(hypernym, []).append(synset)
        return found

    def extent(self, synsets: frozenset[str]) -> frozenset[str]:
        """Return the synsets themselves and all below them, but for those that an upper tag does not stand for."""
        if synsets not in self._extents:
            found, ahead = set(synsets), list(synsets)
            while ahead:
                new = set(self._hyponyms.get(ahead.pop(), ())) - found
                found |= new
                ahead += new
            self._extents[synsets] = frozenset(found - self._left_out.get(synsets, frozenset()))
        return self._extents[synsets]

    @functools.cached_property
    def _left_out(self) -> dict[frozenset[str], frozenset[str]]:
        return {frozenset(tag.synsets): frozenset(tag.without) for tag in self.upper_tags if tag.without}

    def _without(self, name: str) -> frozenset[str]:
        return self._left_out.get(self.senses(name), frozenset())

    def _above(self, synset: str) -> frozenset[str]:
        found, ahead = {synset}, [synset]
        while ahead:
            new = set(self._hypernyms.get(ahead.pop(), ())) - found
            found |= new
            ahead += new
        return frozenset(found)


class Kinds:
    """Which tags of a vocabulary are kinds of which. Thread-safe.

    Args:
        hierarchy: the hierarchy.
        senses: the synsets of each tag, by id; none for a tag that is not known.
    """

    def __init__(self, hierarchy: Hierarchy, senses: Sequence[frozenset[str]]) -> None:
        self._hierarchy = hierarchy
        self._senses = senses
        self._below: dict[int, tuple[int, ...]] = {}

    def below(self, tag_id: int) -> tuple[int, ...]:
        """Return the ids of the tags that are kinds of a tag, however many steps away."""
        if tag_id not in self._below:
            wanted = self._senses[tag_id]
            extent = self._hierarchy.extent(wanted)
            inside = {own for own in self._senses if own and own <= extent}
            kinds = {own for own in inside if not wanted <= self._hierarchy.extent(own)}
            self._below[tag_id] = tuple(i for i, own in enumerate(self._senses) if own in kinds)
        return self._below[tag_id]

    def named(self, text: str) -> tuple[int, ...]:
        """Return the ids of the tags that are what ``text`` names, or kinds of it. None for an unknown name."""
        extent = self._hierarchy.extent(self._hierarchy.senses(text))
        return tuple(i for i, own in enumerate(self._senses) if own and own <= extent)


def fold(name: str) -> str:
    """Bring names that a person would call equal to one form (case, width, white space)."""
    return " ".join(unicodedata.normalize("NFKC", name).split()).casefold()


def most_special(names: Sequence[str]) -> list[str]:
    """Return the names in their order, without those of which another one is a kind: a poodle is enough of a dog."""
    general = _more_general()
    dropped = {above for name in names for above in general.get(name, ())}
    return [name for name in names if name not in dropped]


def paths(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return a path from the general to the special for each name that is a kind of another one: animal, mammal, dog.

    Names of which another one is a kind have no path of their own.
    """
    general = _more_general()
    found = []
    for name in most_special(names):
        above = [each for each in names if each in general.get(name, ())]
        path: list[str] = []
        for each in sorted(above, key=lambda each: (len(general.get(each, ())), each)):
            if not path or path[-1] in general.get(each, ()):
                path.append(each)
        if path:
            found.append((*path, name))
    return found


@functools.cache
def _more_general() -> dict[str, tuple[str, ...]]:
    return shipped_hierarchy().more_general()


@functools.cache
def shipped_hierarchy() -> Hierarchy:
    """Return the hierarchy that is part of the package.

    Raises:
        CheckpointError: its file is missing or damaged.
    """
    try:
        return Hierarchy(json.loads(PATH.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{PATH} is missing or damaged ({type(error).__name__}); install ramq again") from error
