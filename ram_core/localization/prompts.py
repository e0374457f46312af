"""From tags to prompts, and back from tokens to tags.

Grounding DINO reads a text of phrases, each ended by a full stop, of at most 256 tokens. Here every tag knows its
tokens. So no answer must be matched with words, and no tag is cut off: tags that do not fit into one prompt go into
several.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import VocabularyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

Tokens = tuple[int, ...]

_TAGS_KNOWN = 100_000  # texts of people come and go; the tags of a vocabulary stay below this
# The model takes these as ends of a phrase, also in the middle of a tag ("st. bernard").
_ENDS = re.compile(r"[.?]")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text.

    Attributes:
        phrases: the tokens of each phrase, without its full stop. Tags that read the same share one.
        spans: tag -> range of its tokens in the text.
    """

    phrases: tuple[Tokens, ...]
    spans: dict[str, range]

    @property
    def length(self) -> int:
        """Number of tokens: a start, every phrase with its full stop, an end."""
        return 2 + sum(len(phrase) + 1 for phrase in self.phrases)


def phrase(tag: str) -> str:
    """Return the words of a tag as the model reads them: small letters, single spaces, nothing that ends a phrase."""
    return " ".join(_ENDS.sub(" ", tag.lower()).split())


class Packer:
    """Packs tags into as few prompts as needed.

    Args:
        tokenize: from words to token ids, without start and end.
        unknown: id of the token for what the tokenizer does not know.
        most: tokens of a prompt at most.
    """

    def __init__(self, tokenize: Callable[[str], Sequence[int]], unknown: int | None, most: int) -> None:
        self._tokenize = tokenize
        self._unknown = unknown
        self._room = most - 2
        self._known: dict[str, Tokens] = {}

    def tokens(self, tag: str) -> Tokens:
        """Return the tokens of a tag."""
        if (found := self._known.get(tag)) is None:
            if len(self._known) >= _TAGS_KNOWN:
                self._known.clear()
            found = self._known[tag] = tuple(self._tokenize(phrase(tag)))
        return found

    def refused(self, tags: Iterable[str]) -> dict[str, str]:
        """Return the tags that no prompt can hold, each with the reason."""
        reasons = ((tag, self._reason(self.tokens(tag))) for tag in tags)
        return {tag: reason for tag, reason in reasons if reason is not None}

    def pack(self, tags: Sequence[str]) -> list[Prompt]:
        """Return prompts that have every tag once. The same tags in another order give the same prompts.

        Longest first, each into the first prompt with room (first-fit decreasing): at most 11/9 of the least possible
        number (Johnson 1973), and with tags as short as real ones nearly always just that.

        Raises:
            VocabularyError: a tag has no words, only unknown ones, or too many.
        """
        if refused := self.refused(tags):
            raise VocabularyError("; ".join(f"tag {tag!r} {reason}" for tag, reason in refused.items()))
        different = sorted({self.tokens(tag) for tag in tags}, key=lambda tokens: (-len(tokens), tokens))
        contents: list[list[Tokens]] = []
        rooms: list[int] = []
        for tokens in different:
            needed = len(tokens) + 1
            place = next((i for i, room in enumerate(rooms) if room >= needed), None)
            if place is None:
                contents.append([])
                rooms.append(self._room)
                place = len(rooms) - 1
            contents[place].append(tokens)
            rooms[place] -= needed
        return [self._prompt(phrases, tags) for phrases in contents]

    def _prompt(self, phrases: Sequence[Tokens], tags: Sequence[str]) -> Prompt:
        places: dict[Tokens, range] = {}
        start = 1
        for tokens in phrases:
            places[tokens] = range(start, start + len(tokens))
            start += len(tokens) + 1
        spans = {tag: places[tokens] for tag in tags if (tokens := self.tokens(tag)) in places}
        return Prompt(tuple(phrases), spans)

    def _reason(self, tokens: Tokens) -> str | None:
        if not tokens:
            return "has no words"
        if self._unknown is not None and set(tokens) == {self._unknown}:
            return "has no word that the detector knows"
        if len(tokens) + 1 > self._room:
            return f"has {len(tokens)} tokens, but a prompt takes {self._room - 1}"
        return None


def span_scores(scores: NDArray[np.float32], spans: Sequence[range]) -> NDArray[np.float32]:
    """Return the score of each query for each tag: the maximum over the tag's tokens.

    Args:
        scores: (Q, tokens) after the sigmoid.
        spans: T ranges of tokens.

    Returns:
        (Q, T).
    """
    if not spans:
        return np.empty((len(scores), 0), dtype=np.float32)
    return np.stack([scores[:, span.start : span.stop].max(axis=1) for span in spans], axis=1)
