"""Synonyms of tags, each with its origin; and one label system from several lists and captions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ram_core.labels.chinese import HAN
from ram_core.labels.english import ACTIONS, ATTRIBUTES, EVERYDAY, NOUNS_TOO, PLURAL_ONLY, SPELLINGS
from ram_core.labels.label_file import LabelGroup, LabelName, LabelSystem
from ram_core.labels.lemmas import base_form, plural_form, spelled
from ram_core.labels.name_trie import alternatives, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ram_core.labels.candidates import Candidate
    from ram_core.labels.wordnet import WordNet
    from ram_core.vocabulary import TagVocabulary

_OTHER_SPELLINGS: dict[str, list[str]] = {}
for _other, _usual in SPELLINGS.items():
    _OTHER_SPELLINGS.setdefault(_usual, []).append(_other)
    _OTHER_SPELLINGS.setdefault(_other, []).append(_usual)


def label_system(vocabulary: TagVocabulary, wordnet: WordNet | None = None) -> LabelSystem:
    """Return a vocabulary's tags with all their synonyms, under the same ids."""
    groups = [LabelGroup(tag_id, names) for tag_id, names in enumerate(_given(vocabulary))]
    return with_synonyms(groups, wordnet)


def merged(
    lists: Sequence[TagVocabulary | LabelSystem], candidates: Iterable[Candidate], wordnet: WordNet | None = None
) -> LabelSystem:
    """Return one label system from lists and candidates, numbered from 0 in this order.

    Tags of the first list stay as they are. A tag of a later list, or a candidate, joins the tag that has its name in
    another form: plural, spelling, hyphen, as one word or several.
    """
    groups: list[list[LabelName]] = []
    above: list[tuple[str, ...]] = []
    known: dict[tuple[str, ...], int] = {}
    for number, each in enumerate(lists):
        for names, comments in _tags(each):
            keys = [_key(name.text) for name in names]
            place = next((known[key] for key in keys if key in known), None) if number else None
            if place is None:
                place = len(groups)
                groups.append([])
                above.append(comments)
            groups[place] += names
            for key in keys:
                known.setdefault(key, place)
    for candidate in candidates:
        if _key(candidate.name) not in known:
            known[_key(candidate.name)] = len(groups)
            groups.append([LabelName(candidate.name, "captions")])
            above.append(candidate.described())
    tags = [
        LabelGroup(number, _distinct(names), comments)
        for number, (names, comments) in enumerate(zip(groups, above, strict=True))
    ]
    return with_synonyms(tags, wordnet)


def with_synonyms(groups: Sequence[LabelGroup], wordnet: WordNet | None = None) -> LabelSystem:
    """Return the tags with the synonyms that rules and WordNet give. None is a name that another tag already has."""
    owners = {name.text.casefold(): group.id for group in reversed(groups) for name in reversed(group.names)}
    owners |= {group.names[0].text.casefold(): group.id for group in reversed(groups)}
    tags = []
    for group in groups:
        derived = _derived(group.names[0].text, wordnet)
        free = [each for each in derived if owners.setdefault(each.text.casefold(), group.id) == group.id]
        tags.append(LabelGroup(group.id, _distinct([*group.names, *free]), group.above))
    return LabelSystem(tuple(tags))


def _given(vocabulary: TagVocabulary) -> Iterator[tuple[LabelName, ...]]:
    """Return the names that a vocabulary gives each tag."""
    synonyms = vocabulary.synonyms or ((),) * len(vocabulary)
    for name, name_zh, others in zip(vocabulary.names, vocabulary.names_zh, synonyms, strict=True):
        names = [LabelName(name)]
        if name_zh:
            names += [LabelName(part, "chinese") for part in alternatives(name_zh)]
        yield _distinct([*names, *map(LabelName, others)])


def _tags(each: TagVocabulary | LabelSystem) -> Iterator[tuple[tuple[LabelName, ...], tuple[str, ...]]]:
    if isinstance(each, LabelSystem):
        yield from ((group.names, group.above) for group in each.groups)
    else:
        yield from ((names, ()) for names in _given(each))


def _derived(name: str, wordnet: WordNet | None) -> Iterator[LabelName]:
    """Return the synonyms of a tag's own name."""
    parts = alternatives(name)
    yield from (LabelName(part, "alternative") for part in parts if part != name)
    for part in parts:
        if HAN.search(part):
            continue
        yield from (LabelName(other, "spelling") for other in _spellings(part))
        if (base := _base(part)) != part:
            yield LabelName(base, "lemma")
        elif _is_countable(part) and plural_form(part) != part:
            yield LabelName(plural_form(part), "plural")
        for group in EVERYDAY:
            if part.casefold() in group:
                yield from (LabelName(other, "everyday") for other in group)
        if wordnet is not None:
            yield from (LabelName(other, "wordnet") for other in wordnet.synonyms(part))


def _spellings(name: str) -> Iterator[str]:
    words = name.split()
    for at, word in enumerate(words):
        for other in _OTHER_SPELLINGS.get(word, ()):
            yield " ".join([*words[:at], other, *words[at + 1 :]])
    if "-" in name:
        yield name.replace("-", " ")


def _base(name: str) -> str:
    """Return the singular of a name in plural, else the name."""
    head, space, last = name.rpartition(" ")
    if last in PLURAL_ONLY or not last.islower() or last.endswith(("ss", "us", "is")):
        return name
    return head + space + base_form(last) if spelled(last) != base_form(last) else name


def _is_countable(name: str) -> bool:
    """Return whether a name is likely to have a plural: it ends in a noun."""
    first, _, rest = name.partition(" ")
    if rest and first in {"climb", "play", "playing"}:  # play football
        return False
    last = name.rpartition(" ")[2]
    is_noun = last.replace("-", "").isalpha() and last.islower() and not last.endswith(("ing", "s"))
    is_other = last in ACTIONS - NOUNS_TOO or last in ATTRIBUTES or last.endswith(("ful", "ish"))
    return is_noun and not is_other


def _key(name: str) -> tuple[str, ...]:
    """Return what two forms of a name have in common."""
    words = [spelled(word) for word in words_of(name)]
    return (*words[:-1], base_form(words[-1])) if words else (name.casefold(),)


def _distinct(names: Iterable[LabelName]) -> tuple[LabelName, ...]:
    found: dict[str, LabelName] = {}
    for name in names:
        found.setdefault(name.text.casefold(), name)
    return tuple(found.values())
