"""Asks the tags that a model assigned to a region whether they say that it shows a thing."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from ram_core.hierarchy.wordnet import fold, shipped_hierarchy
from ram_core.vocabulary import NEVER
from workers.datasets.vocabulary import called

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ram_core.vocabulary import TagVocabulary

_UNSEEN = 0.5
"""Only assigned tags are stored. What is not among them has a score below the threshold: this share of it is put."""


@functools.cache
def _kinds() -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, general in shipped_hierarchy().more_general().items():
        for above in general:
            found.setdefault(above, []).append(name)
    return {name: tuple(sorted(below)) for name, below in found.items()}


def kinds_of(name: str) -> tuple[str, ...]:
    """Return the names of kinds of a thing, however many steps away, as the locators of workers know them."""
    return _kinds().get(name, ())


class Question(NamedTuple):
    """What is asked about the regions of a tag.

    Attributes:
        names: the names, in one form, that say that it is there: its own, and those of kinds of it.
        threshold: the score above which the model assigns them; the lowest, if there are several. Of regions to which
            none is assigned, the score counts as half of it.
    """

    names: frozenset[str]
    threshold: float

    def below(self, limit: float) -> Question:
        """Return the same, with a threshold that is at most this one."""
        return self._replace(threshold=min(self.threshold, limit))

    def score(self, tags: Sequence[tuple[str, float]]) -> float:
        """Return the score of the tag for a region with these tags, 0..1."""
        seen = [score for name, score in tags if fold(name) in self.names]
        return max(seen, default=_UNSEEN * self.threshold)


class Judge:
    """Knows which tags of a model's vocabulary mean a tag of a data set.

    Args:
        vocabulary: the model's.
    """

    def __init__(self, vocabulary: TagVocabulary) -> None:
        self._vocabulary = vocabulary
        others = vocabulary.synonyms or ((),) * len(vocabulary)
        named = [(name, *more) for name, more in zip(vocabulary.names, others, strict=True)]
        self._kinds = shipped_hierarchy().over(named)

    def about(self, name: str) -> Question | None:
        """Return what to ask about the regions of a tag; None: the model knows neither the tag nor kinds of it."""
        limits = self._vocabulary.thresholds
        meant = {*called(self._vocabulary, name), *self._kinds.named(name)}
        ids = [tag_id for tag_id in sorted(meant) if limits[tag_id] < NEVER]
        if not ids:
            return None
        names = frozenset(fold(self._vocabulary.names[i]) for i in ids)
        return Question(names, min(float(limits[i]) for i in ids))
