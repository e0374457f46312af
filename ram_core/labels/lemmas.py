"""Base forms of English words, by rules and a table of irregular forms.

A word has several possible bases ("leaves": leaf, leave). Who knows the words that matter, as a parser with a
vocabulary does, takes the first that it knows; ``base_form`` guesses one without such knowledge.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ram_core.labels.english import (
    IRREGULAR_PLURALS,
    IRREGULAR_VERBS,
    SAME_IN_PLURAL,
    SINGULAR_IN_S,
    SPELLINGS,
    STOP_WORDS,
)

_VOWELS = "aeiouy"
_ONE_SYLLABLE_CVC = re.compile(r"(?:[^aeiou]|qu)*[aeiouy][^aeiouywx]")
_CONSONANT_AND_L = re.compile("[bcdfgkpstz]l$")  # bubble, juggle
_LATIN = re.compile("[^aeiou]us$")  # viruses, but houses
_SIBILANTS = ("s", "x", "z", "ch", "sh")


class Form(NamedTuple):
    """A possible base of a word; ``is_verb`` if the word must be a verb then: in -ing or -ed, or irregular."""

    base: str
    is_verb: bool


def spelled(word: str) -> str:
    """Return a word in the spelling that comparisons use."""
    return SPELLINGS.get(word, word)


def forms(word: str) -> list[Form]:
    """Return what a lower-case word may be a form of, the word itself first, likelier bases before others.

    The bases are candidates: some are no words ("bus": bu).
    """
    found = [Form(spelled(word), is_verb=False)]
    if len(word) > 2 and word.isalpha():
        found += [Form(spelled(base), is_verb=False) for base in _singulars(word)]
        if word not in STOP_WORDS:
            found += [Form(spelled(base), is_verb=True) for base in _verbs(word)]
    return list(dict.fromkeys(found))


def base_form(word: str) -> str:
    """Return the singular of a lower-case noun. Any other word is returned as it is, in one spelling."""
    if word in STOP_WORDS or word in SINGULAR_IN_S or not word.isalpha() or len(word) < 4:
        return spelled(word)
    singulars = _singulars(word)
    return spelled(singulars[0] if singulars and not word.endswith(("us", "is")) else word)


def plural_form(noun: str) -> str:
    """Return the plural of a lower-case noun, or of a compound that ends in one."""
    head, space, last = noun.rpartition(" ")
    if last.endswith(SAME_IN_PLURAL):
        return noun
    for plural, singulars in IRREGULAR_PLURALS.items():
        if singulars[0] == last and not plural.endswith("'s"):
            return head + space + plural
    if last.endswith("man") and last not in {"human", "german", "roman", "talisman", "shaman", "caiman"}:
        return f"{head}{space}{last[:-3]}men"
    if last.endswith("y") and last[-2:-1] not in set("aeiou"):
        return f"{head}{space}{last[:-1]}ies"
    if last.endswith((*_SIBILANTS, "tomato", "potato", "hero", "mango", "echo", "buffalo", "mosquito", "volcano")):
        return f"{noun}es"
    return f"{noun}s"


def _singulars(word: str) -> list[str]:
    if known := IRREGULAR_PLURALS.get(word):
        return list(known)
    if not word.endswith("s") or word.endswith("ss"):
        return [f"{word[:-3]}man"] if word.endswith("men") and len(word) > 4 else []
    without_s, stem = word[:-1], word[:-2]
    if word.endswith("ies") and len(word) > 4:
        return [f"{word[:-3]}y", without_s]
    if word.endswith("ves"):
        return [without_s, f"{word[:-3]}f", f"{word[:-3]}fe"]
    if word.endswith("es") and stem.endswith((*_SIBILANTS, "o")):
        # Boxes, glasses and heroes, but houses and axes: a single s or z has an e of its own more often than not.
        has_e = stem.endswith(("s", "z")) and not stem.endswith(("ss", "zz")) and not _LATIN.search(stem)
        return [without_s, stem] if has_e else [stem, without_s]
    return [without_s]


def _verbs(word: str) -> list[str]:
    if known := IRREGULAR_VERBS.get(word):
        return list(known)
    if word.endswith("ing") and len(word) > 4:
        return _stems(word[:-3])
    if word.endswith("ied") and len(word) > 4:
        return [f"{word[:-3]}y", word[:-1]]
    if word.endswith("ed") and len(word) > 4:
        return _stems(word[:-2])
    return []


def _stems(stem: str) -> list[str]:
    """Return the verbs that lose an e, or double a consonant, before -ing and -ed."""
    if not any(vowel in stem for vowel in _VOWELS):
        return []
    if len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
        return [stem[:-1], stem]
    if len(stem) > 3 and stem[-1] == stem[-2]:
        return [stem, stem[:-1]]
    if _ONE_SYLLABLE_CVC.fullmatch(stem):  # hoping: it would be hopping if it were hop
        return [f"{stem}e"]
    has_e = stem.endswith(("c", "v", "u", "dg", "rg", "rs", "iz")) or _CONSONANT_AND_L.search(stem)
    if has_e:
        return [f"{stem}e", stem]
    return [stem, f"{stem}e"]
