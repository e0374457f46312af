"""Captions composed from tags: cheap, always available, and marked as such (``template``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ram_core.hierarchy.wordnet import most_special

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_TAGS = 3
_OF_THINGS = "A photograph that may show"
# Names of ImageNet classes that are used without an article.
_PLURALS = frozenset({"binoculars", "parallel bars", "sunglasses", "swimming trunks"})


def template_caption(names: Sequence[str], *, are_things: bool = True) -> str | None:
    """Compose a sentence from the names of the likeliest tags, best first; None if there are none.

    Args:
        names: names of assigned tags.
        are_things: whether every tag names a countable thing, and only the most special ones are to be named.
            Otherwise, as with RAM's actions and colours, the names are listed unchanged.
    """
    distinct = list(dict.fromkeys(most_special(names) if are_things else names))[:_MOST_TAGS]
    if not distinct:
        return None
    words = [_with_article(name) for name in distinct] if are_things else distinct
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"{_OF_THINGS} {listed}." if are_things else f"A picture tagged {listed}."


def composed_again(caption: str, names: Sequence[str]) -> str | None:
    """Compose a sentence from other tags in the style of ``caption``, which ``template_caption`` made."""
    return template_caption(names, are_things=caption.startswith(_OF_THINGS))


def _with_article(name: str) -> str:
    """Put "a" or "an" before a class name, as it is spoken, and nothing before a plural."""
    lowered = name.lower()
    if lowered in _PLURALS:
        return name
    spoken_vowel = lowered.startswith(("a", "e", "i", "o", "u", "hour")) and not lowered.startswith(("eu", "uni"))
    return f"{'an' if spoken_vowel else 'a'} {name}"
