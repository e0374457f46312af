"""Beam search, scored like the released captions.

The score of a finished sentence is ``sum of log-probabilities, end token included, / length^penalty``. The length is
that of prompt and words without the end token. This is the rule of transformers 4.25.1, with which Tag2Text was
released. Later versions divide by the generated words only, which selects other captions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

# Score of the beams that do not exist yet when the first word is chosen. The first beam starts at 0.
_NO_BEAM = -1e9


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of the caption search. The defaults are those of Tag2Text's inference.

    Attributes:
        num_beams: sentences kept per image; 1 is greedy search.
        max_length: maximum tokens of a caption, prompt included.
        min_length: minimum tokens before the end token, prompt included.
        length_penalty: exponent of the length that scores are divided by.
        repetition_penalty: divides the probability of words that occurred before; 1 has no effect (arXiv:1909.05858).
    """

    num_beams: int = 3
    max_length: int = 50
    min_length: int = 10
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0


class Decoder(Protocol):
    """Reads tokens, predicts the next one, and remembers what it has read."""

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """Return (rows, V) float32 logits of the next token for (rows, l) token ids."""

    def reorder(self, rows: torch.Tensor) -> None:
        """Make row i continue from the tokens that row ``rows[i]`` has read."""


@dataclass
class _Finished:
    """The best finished sentences of one image."""

    room: int
    penalty: float
    sentences: list[tuple[float, list[int]]] = field(default_factory=list)
    closed: bool = False

    def add(self, ids: list[int], log_probability: float) -> None:
        score = log_probability / len(ids) ** self.penalty
        if len(self.sentences) < self.room or score > self.worst:
            self.sentences.append((score, ids))
            if len(self.sentences) > self.room:
                self.sentences.remove(min(self.sentences, key=lambda each: each[0]))

    @property
    def worst(self) -> float:
        return min((score for score, _ in self.sentences), default=float("inf"))

    def close_if_unbeatable(self, best_log_probability: float, length: int) -> None:
        """Stop if the best unfinished sentence would not be good enough even if it ended here."""
        full = len(self.sentences) >= self.room
        self.closed = full and self.worst >= best_log_probability / length**self.penalty


@torch.inference_mode()
def search(
    decoder: Decoder, prompt: Sequence[int], images: int, end: int, options: SearchOptions, device: torch.device
) -> list[list[int]]:
    """Write one caption for each image.

    Args:
        decoder: predicts words for ``images * options.num_beams`` rows; the beams of an image are adjacent.
        prompt: token ids that every caption starts with.
        images: number of images.
        end: id of the token that ends a caption.
        options: options of the search.
        device: device of the decoder.

    Returns:
        Token ids of each caption, with the prompt, and with the end token unless the caption was cut off.
    """
    if options.num_beams == 1:
        return _greedy(decoder, prompt, images, end, options, device)
    beams = options.num_beams
    ids = torch.tensor([list(prompt)], device=device).repeat(images * beams, 1)
    totals = torch.full((images, beams), _NO_BEAM, device=device)
    totals[:, 0] = 0
    finished = [_Finished(beams, options.length_penalty) for _ in range(images)]
    fresh = ids
    while ids.shape[1] < options.max_length and not all(each.closed for each in finished):
        scores = decoder.read(fresh).log_softmax(dim=-1)
        scores = _adjusted(scores, ids, end, options).view(images, beams, -1) + totals[:, :, None]
        words = scores.shape[-1]
        best, places = scores.flatten(1).topk(2 * beams, dim=1)  # (images, 2 * beams), best first
        rows, tokens, totals = _advance(best, places, words, ids, end, finished)
        fresh = tokens.view(-1, 1)
        ids = torch.cat([ids[rows], fresh], dim=1)
        decoder.reorder(rows)
    for image, sentences in enumerate(finished):
        if not sentences.closed:
            for beam in range(beams):
                sentences.add(ids[image * beams + beam].tolist(), float(totals[image, beam]))
    best_ids = [max(reversed(each.sentences), key=lambda sentence: sentence[0])[1] for each in finished]
    return [[*each, end] if len(each) < options.max_length else each for each in best_ids]


def _advance(
    best: torch.Tensor, places: torch.Tensor, words: int, ids: torch.Tensor, end: int, finished: list[_Finished]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sort candidates into finished sentences and beams that continue.

    Returns:
        (images * beams,) rows to continue from, (images, beams) tokens to continue with, (images, beams) their totals.
    """
    beams = best.shape[1] // 2
    rows: list[int] = []
    tokens: list[list[int]] = []
    totals: list[list[float]] = []
    for image, (values, found) in enumerate(zip(best.tolist(), places.tolist(), strict=True)):
        going: list[tuple[int, int, float]] = []
        for rank, (value, place) in enumerate(zip(values, found, strict=True)):
            beam, token = divmod(place, words)
            row = image * beams + beam
            if token != end:
                going.append((row, token, value))
            elif rank < beams and not finished[image].closed:
                finished[image].add(ids[row].tolist(), value)
            if len(going) == beams:
                break
        if not finished[image].closed:
            finished[image].close_if_unbeatable(values[0], ids.shape[1])
        rows.extend(row for row, _, _ in going)
        tokens.append([token for _, token, _ in going])
        totals.append([value for _, _, value in going])
    device = best.device
    return torch.tensor(rows, device=device), torch.tensor(tokens, device=device), torch.tensor(totals, device=device)


def _greedy(
    decoder: Decoder, prompt: Sequence[int], images: int, end: int, options: SearchOptions, device: torch.device
) -> list[list[int]]:
    """Choose the most probable word each time."""
    ids = torch.tensor([list(prompt)], device=device).repeat(images, 1)
    done = torch.zeros(images, dtype=torch.bool, device=device)
    fresh = ids
    while ids.shape[1] < options.max_length and not bool(done.all()):
        tokens = _adjusted(decoder.read(fresh), ids, end, options).argmax(dim=-1).masked_fill(done, end)
        fresh = tokens[:, None]
        ids = torch.cat([ids, fresh], dim=1)
        done |= tokens == end
    start = len(prompt)
    captions = ids.tolist()
    return [each[: each.index(end, start) + 1] if end in each[start:] else each for each in captions]


def _adjusted(scores: torch.Tensor, ids: torch.Tensor, end: int, options: SearchOptions) -> torch.Tensor:
    """Apply repetition penalty and minimum length to (rows, V) scores of the next token."""
    if options.repetition_penalty != 1.0:
        used = scores.gather(1, ids)
        used = torch.where(used < 0, used * options.repetition_penalty, used / options.repetition_penalty)
        scores = scores.scatter(1, ids, used)
    if ids.shape[1] < options.min_length:
        scores[:, end] = -float("inf")
    return scores
