"""Which words of a sentence are negated: "no people", "without a car", "isn't sleeping", "car-free"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ram_core.labels.english import words_in

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOUN_CUES = frozenset({"no", "without", "nor", "neither", "lacking", "lacks", "sans", "non", "zero", "minus"})
_VERB_CUES = words_in("not never nobody nothing cannot cant dont doesnt didnt isnt arent wasnt werent")
# Negations of two words, by their first.
_WITH_SECOND = {
    **dict.fromkeys(("free", "devoid", "empty", "absence", "lack", "instead", "bare"), "of"),
    "rather": "than",
}
# What follows a word that does not negate then.
_NO_NEGATION = {"no": frozenset({"doubt", "matter"})}
_AFTER_NOT = frozenset({"only", "just", "far", "but", "without"})

# Where the words that a negation covers end.
_ENDS = words_in("""
    in on at with near by behind under over above below beside between into onto from to for against during around
    through can could will would may next inside outside along across toward towards is are was were be has have had
    that which who while where because so as when but however yet only though although allowed visible present there
    here left anymore except
""")
_ABSENT = frozenset({"visible", "present", "shown", "pictured", "seen", "there", "here", "included"})
_OR = frozenset({"or", "nor"})
_MOST_WORDS = 6
_MOST_SUBJECT_WORDS = 12
_LIST_WORDS = 4


def is_cue(word: str) -> bool:
    """Return whether a lower-case word may negate others."""
    return word in _NOUN_CUES or word in _VERB_CUES or word in _WITH_SECOND or word.endswith("n't")


def negated(words: Sequence[str], breaks: Sequence[bool], names: Sequence[int | None]) -> set[int]:
    """Return the positions of the negated words.

    Args:
        words: lower-case words of a text.
        breaks: whether punctuation stands before a word.
        names: the position of the first word of the name that a word is part of; None if it is part of none.
    """
    found: set[int] = set()
    for at, word in enumerate(words):
        if names[at] is None and is_cue(word):
            found |= _covered(words, breaks, names, at)
    return found


def _covered(words: Sequence[str], breaks: Sequence[bool], names: Sequence[int | None], cue: int) -> set[int]:
    """Return the positions that one negation covers."""
    word, following = words[cue], words[cue + 1] if cue + 1 < len(words) else ""
    if word == "free" and cue and following != "of":  # sugar-free
        return {cue - 1}
    if word in _WITH_SECOND:
        is_whole = following == _WITH_SECOND[word]
        return _phrase(words, breaks, names, cue + 2) if is_whole else set()
    if word == "no" and words[cue + 2 : cue + 3] == ["than"]:  # no more than two dogs
        return set()
    if following in _NO_NEGATION.get(word, _AFTER_NOT) or (word == "without" and cue and words[cue - 1] == "not"):
        return set()
    is_absent = bool(_ABSENT & set(words[cue + 1 : cue + 3])) or words[cue + 1 : cue + 3] == ["in", "the"]
    if is_absent and word not in _NOUN_CUES:
        return _subject(breaks, words, cue)
    return _phrase(words, breaks, names, cue + 1)


def _phrase(words: Sequence[str], breaks: Sequence[bool], names: Sequence[int | None], start: int) -> set[int]:
    """Return the positions from ``start`` to the end of what a negation in front of it covers."""
    covered: set[int] = set()
    cue = words[start - 1]
    is_with = cue == "without" or (cue == "no" and "with" in words[max(0, start - 2) : start - 1])
    has_name = False
    for at in range(start, min(len(words), start + _MOST_WORDS)):
        word = words[at]
        if breaks[at] and at > start and not (_OR & set(words[at : at + _LIST_WORDS])):
            break
        if (word in _ENDS and at > start) or (word == "and" and cue != "without"):
            break
        if is_with and has_name and word.endswith("ing"):  # a man without glasses smiling at the camera
            break
        if cue == "no" and word in {"sign", "signs"}:  # a no parking sign is a sign
            covered.discard(names[at] or at)
            break
        has_name = has_name or names[at] is not None
        covered.add(at)
    return covered


def _subject(breaks: Sequence[bool], words: Sequence[str], end: int) -> set[int]:
    """Return the positions of the clause before ``end``: "the cat is not visible"."""
    covered: set[int] = set()
    for at in range(end - 1, max(-1, end - 1 - _MOST_SUBJECT_WORDS), -1):
        if words[at] in {"or", "nor", "and", "but"}:
            break
        covered.add(at)
        if breaks[at]:
            break
    return covered
