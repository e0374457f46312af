"""Which words of a sentence are negated: "no people", "without a car", "isn't sleeping", "car-free"."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOUN_CUES = frozenset({"no", "without", "nor", "neither", "lacking", "lacks", "sans", "non", "zero", "minus"})
_OF_CUES = frozenset({"free", "devoid", "empty", "absence", "lack", "instead", "bare"})
_VERB_CUES = frozenset({"not", "never", "nobody", "nothing", "cannot", "cant", "dont", "doesnt", "didnt", "isnt", "arent",
                        "wasnt", "werent"})  # fmt: skip
CUES = _NOUN_CUES | _OF_CUES | _VERB_CUES | {"rather"}

_ENDS = frozenset("""
    in on at with near by behind under over above below beside between into onto from to for against during around through
    can could will would may next inside outside along across toward towards is are was were be has have had that which who while where because so
    as when but however yet only though although allowed visible present there here left anymore except
""".split())
_ABSENT = frozenset({"visible", "present", "shown", "pictured", "seen", "there", "here", "included"})
_JOINS = frozenset({"or", "nor", "and"})
_MOST_WORDS = 6
_LIST_WORDS = 4


def is_cue(word: str) -> bool:
    """Return whether a lower-case word may negate others."""
    return word in CUES or word.endswith(("n't", "n’t"))


def negated(words: Sequence[str], breaks: Sequence[bool], named: Sequence[bool]) -> set[int]:
    """Return the positions of the negated words.

    Args:
        words: lower-case words of a text.
        breaks: whether punctuation stands before a word.
        named: whether a word is part of a tag's name.
    """
    found: set[int] = set()
    for at, word in enumerate(words):
        if not is_cue(word) or named[at]:
            continue
        following = words[at + 1] if at + 1 < len(words) else ""
        if word == "free" and at and following != "of":  # sugar-free
            found.add(at - 1)
        elif word in _OF_CUES:
            if following == "of":
                found |= _phrase(words, breaks, named, at + 2)
        elif word == "rather":
            if following == "than":
                found |= _phrase(words, breaks, named, at + 2)
        elif word == "no" and following in {"doubt", "matter", "longer", "one"}:
            found |= _phrase(words, breaks, named, at + 2) if following == "longer" else set()
        elif word in _NOUN_CUES:
            found |= _phrase(words, breaks, named, at + 1)
        elif following in {"only", "just", "far"}:
            continue
        elif _ABSENT & set(words[at + 1 : at + 3]) or words[at + 1 : at + 3] == ["in", "the"]:
            found |= _subject(breaks, words, at)
        else:
            found |= _phrase(words, breaks, named, at + 1)
    return found


def _phrase(words: Sequence[str], breaks: Sequence[bool], named: Sequence[bool], start: int) -> set[int]:
    """Return the positions from ``start`` to the end of what a negation in front of it covers."""
    covered: set[int] = set()
    cue = words[start - 1]
    is_with = cue == "without" or (cue == "no" and "with" in words[max(0, start - 2) : start - 1])
    last = min(len(words), start + _MOST_WORDS)
    seen_name = False
    for at in range(start, last):
        word = words[at]
        if breaks[at] and at > start and not ({"or", "nor"} & set(words[at : at + _LIST_WORDS])):
            break
        if word in _ENDS and at > start:
            break
        if word == "and" and cue != "without":
            break
        if is_with and seen_name and word.endswith("ing"):  # a man without glasses smiling at the camera
            break
        if word in {"sign", "signs"} and cue == "no":  # a no parking sign is a sign
            covered -= {at - 1}
            break
        seen_name = seen_name or named[at]
        covered.add(at)
    return covered


def _subject(breaks: Sequence[bool], words: Sequence[str], end: int) -> set[int]:
    """Return the positions of the clause before ``end``: "the cat is not visible"."""
    covered: set[int] = set()
    for at in range(end - 1, -1, -1):
        if words[at] in _JOINS | {"but"}:
            break
        covered.add(at)
        if breaks[at]:
            break
    return covered
