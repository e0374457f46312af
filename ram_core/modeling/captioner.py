"""Captions from image tokens and tags: the lower half of Tag2Text's figure, plus its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tokenizers import BertWordPieceTokenizer

from ram_core.errors import CheckpointError
from ram_core.modeling.beam_search import SearchOptions, search

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ram_core.modeling.tag_encoder import TagEncoder
    from ram_core.modeling.text_decoder import DecoderState, TextDecoder

# bert-base-uncased plus a first token and a task token, which the authors of BLIP (arXiv:2201.12086) added.
PAD, UNKNOWN, CLASS, SEPARATOR, MASK = 0, 100, 101, 102, 103
BERT_WORDS = 30522
DECODE, ENCODE = 30522, 30523
SPECIAL = frozenset({PAD, UNKNOWN, CLASS, SEPARATOR, MASK, DECODE, ENCODE})
PROMPT = "a picture of "
TAGS_LENGTH = 40  # tokens of the tags; further ones are cut off. Source: official ``tag2text.py``
CAPTION_LENGTH = 40  # likewise, of a caption in training
# The reference's tokenizer does this after joining words: transformers' ``clean_up_tokenization``.
_TIGHTEN = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"))
_TIGHTEN_MORE = ((" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))


class CaptionWords:
    """Converts tags to token ids, and token ids to a sentence.

    Args:
        vocabulary: ``vocab.txt`` of bert-base-uncased.

    Raises:
        CheckpointError: the file is missing or has another vocabulary.
    """

    def __init__(self, vocabulary: Path) -> None:
        if not vocabulary.is_file():
            raise CheckpointError(f"{vocabulary} is missing; run `ramq models pull tag2text`")
        self._tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        if self._tokenizer.get_vocab_size() != BERT_WORDS:
            raise CheckpointError(
                f"{vocabulary} has {self._tokenizer.get_vocab_size()} words, but bert-base-uncased has {BERT_WORDS}; "
                "run `ramq models pull tag2text`"
            )
        self.prompt = [DECODE, *self._tokenizer.encode(PROMPT).ids[1:-1]]

    def encode(self, tags: Sequence[Sequence[str]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode the tags of B images.

        Returns:
            (B, 40) int64 token ids and (B, 40) bool, False for padding.
        """
        rows = torch.full((len(tags), TAGS_LENGTH), PAD)
        for row, names in zip(rows, tags, strict=True):
            ids = self._tokenizer.encode(" | ".join(names), add_special_tokens=False).ids[: TAGS_LENGTH - 2]
            row[: len(ids) + 2] = torch.tensor([ENCODE, *ids, SEPARATOR])
        return rows, rows != PAD

    def encode_captions(self, captions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode B captions for training.

        Returns:
            (B, L) int64 token ids, L at most 40, and (B, L) bool, True for the words that the decoder learns.
            As in the official code, these are not the first ones, as many as the prompt has, though no prompt is there.
        """
        longest = CAPTION_LENGTH - 2
        encoded = [self._tokenizer.encode(each, add_special_tokens=False).ids[:longest] for each in captions]
        rows = torch.full((len(captions), max(map(len, encoded), default=0) + 2), PAD)
        learned = torch.zeros(rows.shape, dtype=torch.bool)
        for row, mask, ids in zip(rows, learned, encoded, strict=True):
            row[: len(ids) + 2] = torch.tensor([DECODE, *ids, SEPARATOR])
            mask[len(self.prompt) : len(ids) + 2] = True
        return rows, learned

    def decode(self, ids: Sequence[int]) -> str:
        """Return the sentence, without the prompt."""
        words = [self._tokenizer.id_to_token(each) for each in ids if each not in SPECIAL]
        sentence = " ".join(words).replace(" ##", "").strip()
        for loose, tight in (*_TIGHTEN, *_TIGHTEN_MORE):
            sentence = sentence.replace(loose, tight)
        return sentence[len(PROMPT) :]


class _Reader:
    """A text decoder and its state."""

    def __init__(self, decoder: TextDecoder, state: DecoderState) -> None:
        self.decoder = decoder
        self.state = state

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.decoder(ids, self.state)
        return logits

    def reorder(self, rows: torch.Tensor) -> None:
        self.state.reorder(rows)


@torch.inference_mode()
def caption_ids(
    modules: tuple[TagEncoder, TextDecoder],
    words: CaptionWords,
    tokens: torch.Tensor,
    tags: Sequence[Sequence[str]],
    options: SearchOptions,
) -> list[list[int]]:
    """Write captions.

    Args:
        modules: tag encoder and text decoder.
        words: their vocabulary.
        tokens: (B, 1 + N, E) image tokens.
        tags: names of the tags of each image; an image without tags is captioned from its content alone.
        options: options of the search.

    Returns:
        Token ids of B captions.
    """
    encoder, decoder = modules
    ids, real = (each.to(tokens.device) for each in words.encode(tags))
    encoded = encoder(ids, real, tokens)  # (B, 40, H)
    state = decoder.start(encoded, options.num_beams, options.max_length)
    return search(_Reader(decoder, state), words.prompt, len(tags), SEPARATOR, options, tokens.device)
