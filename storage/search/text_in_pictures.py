"""The text in pictures, and what their files say, as a search finds it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from storage.results import generations, read_words, readings
from storage.results.moments import union
from storage.results.reading_search import Having
from storage.search.counted_regions import CountedRegions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from storage.results.metadata_search import Saying
    from storage.search.kept_images import KeptImages
    from storage.search.kept_regions import KeptRegions
    from storage.search.phrases import Phrase

MAX_MISREAD = 8
"""Words of a phrase for which misread ones are looked up. A phrase of more is found by its other words."""


class TextInPictures:
    """The text in pictures, as one transaction sees it, under the generation that serves search.

    Args:
        session: the transaction.
        kept: the images that this process keeps.
        kept_regions: the regions that it keeps.
    """

    def __init__(self, session: Session, kept: KeptImages, kept_regions: KeptRegions) -> None:
        self._session = session
        self._kept = kept
        self._kept_regions = kept_regions

    @cached_property
    def generation_id(self) -> int | None:
        """The generation of the stage that serves search; None as long as nothing can have been read."""
        serving = generations.default(self._session, readings.STAGE)
        return None if serving is None else serving.id

    @cached_property
    def regions(self) -> CountedRegions:
        """The regions of tags in the same pictures."""
        return CountedRegions(self._session, self._kept_regions)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read yet."""
        return self.generation_id is None or not readings.is_any(self._session, self.generation_id)

    def saying(self, asked: Iterable[Saying]) -> NDArray[np.int64]:
        """Return the ids, ascending, of the images of which any of this is said, by their files or by people."""
        return union([self._kept.matching(self._session, each) for each in asked])

    def having(self, phrase: Phrase) -> NDArray[np.int64]:
        """Return the ids, ascending, of the images in which a phrase stands."""
        if self.generation_id is None:
            return np.empty(0, dtype=np.int64)
        return self._kept.matching(self._session, Having(self.generation_id, phrase.query))

    def having_misread(self, phrase: Phrase, exact: Phrase) -> NDArray[np.int64]:
        """Return the ids, ascending, of the images in which a phrase stands that also accepts misread words.

        Args:
            phrase: what ``or_misread`` made of ``exact``.
            exact: the phrase without misread words.
        """
        if phrase == exact or not phrase.is_word:
            return self.having(phrase)
        # Images with a word as it is asked for are many and looked up anyway, those with a misread one are few.
        misread = phrase.without(exact)
        right = self.having(exact)
        return right if misread is None else np.union1d(right, self.having(misread))

    def or_misread(self, phrase: Phrase) -> Phrase:
        """Return the phrase that also accepts what readers made of its words."""
        words = sorted(phrase.words)[:MAX_MISREAD]
        if self.generation_id is None or not words:
            return phrase
        near = read_words.near(self._session, words)
        return phrase.or_misread(lambda word: near.get(word, ()))
