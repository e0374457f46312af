"""Custom tags: names, or names with sentences about them, as label embeddings.

RAM takes one embedding per tag: here the mean over many prompts (arXiv:2103.00020, section 3.1.4, "prompt ensembling").
RAM++ takes several and weights them by the image (arXiv:2310.15200). Tags may have different numbers of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ram_core.embeddings import cached_embeddings
from ram_core.errors import VocabularyError
from ram_core.vocabulary import TagVocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ram_core.recognition import TextEncoder

# The official open-set code assigns above this: tags outside the training set score lower than those in it.
OPEN_THRESHOLD = 0.5

# Possible captions of an image of a thing: plain, and by number, size, light, medium and place. This is our own list,
# not the official one. Any variety of contexts works, since their differences average out.
PROMPTS = (
    "a photo of {}.",
    "a picture of {}.",
    "an image of {}.",
    "a snapshot that shows {}.",
    "a photograph with {} in it.",
    "a close-up of {}.",
    "a wide view of {}.",
    "a blurry photo of {}.",
    "a bright photo of {}.",
    "a dark photo of {}.",
    "a black and white photo of {}.",
    "a photo of several {}.",
    "a photo of small {}.",
    "a photo of large {}.",
    "a photo of {} indoors.",
    "a photo of {} outdoors.",
    "a photo of {} in the background.",
    "a drawing of {}.",
    "a painting of {}.",
    "{}.",
)


class LabelEmbeddings(NamedTuple):
    """The label embeddings that a network needs.

    Attributes:
        embeddings: (T, E) for RAM, (T, D, E) for RAM++; float32, rows of unit length.
        absent: (T, D) True if a tag has fewer than D descriptions; None if all have D.
    """

    embeddings: NDArray[np.float32]
    absent: NDArray[np.bool_] | None


def open_vocabulary(
    source: TagVocabulary | Sequence[str] | Mapping[str, Sequence[str]] | Path | str,
    threshold: float | Sequence[float] | None = None,
) -> TagVocabulary:
    """Build a vocabulary from any description of tags.

    Args:
        source: a vocabulary; names; names with sentences; or a ``.json`` file of the latter, as a list of
            ``{name: [sentences]}`` (the official form) or one object.
        threshold: for all tags, or one for each; default: the vocabulary's own, or 0.5.

    Raises:
        VocabularyError: nothing to read, no tags, a tag without description, thresholds that do not fit.
    """
    if isinstance(source, TagVocabulary):
        vocabulary = source
    else:
        name = "open"
        if isinstance(source, str | Path):
            name, source = Path(source).stem, _read_descriptions(Path(source))
        described = dict(source) if isinstance(source, Mapping) else None
        vocabulary = TagVocabulary.from_names(name, list(source), threshold=OPEN_THRESHOLD, descriptions=described)
    if threshold is None:
        return vocabulary
    values = [threshold] * len(vocabulary) if isinstance(threshold, int | float) else list(threshold)
    if len(values) != len(vocabulary):
        raise VocabularyError(f"{len(values)} thresholds for {len(vocabulary)} tags; give one for all, or one per tag")
    return vocabulary.with_thresholds(dict(enumerate(values)))


def embed_vocabulary(
    vocabulary: TagVocabulary, encoder: TextEncoder, *, plural: bool, cache_dir: Path | None = None
) -> LabelEmbeddings:
    """Embed every tag.

    Args:
        vocabulary: tags, with or without descriptions.
        encoder: CLIP's text encoder.
        plural: keep every description (RAM++) instead of their mean (RAM). A name alone gives one embedding either way.
        cache_dir: where embeddings are cached by the hash of texts and encoder; default: ``~/.cache/ramq``.
    """
    groups = vocabulary.descriptions or tuple(prompts(name) for name in vocabulary.names)
    keep_all = plural and vocabulary.descriptions is not None
    texts = [text for group in groups for text in group]
    vectors = cached_embeddings(encoder, texts, cache_dir)  # (sum of descriptions, E)
    longest = max(len(group) for group in groups) if keep_all else 1
    embeddings = np.zeros((len(groups), longest, vectors.shape[1]), dtype=np.float32)  # (T, D, E)
    absent = np.ones((len(groups), longest), dtype=np.bool_)
    start = 0
    for tag, group in enumerate(groups):
        own = vectors[start : start + len(group)]
        start += len(group)
        if not keep_all:
            mean = own.mean(axis=0, keepdims=True)
            own = mean / np.linalg.norm(mean)
        embeddings[tag, : len(own)] = own
        absent[tag, : len(own)] = False
    if not plural:
        return LabelEmbeddings(embeddings[:, 0], None)
    return LabelEmbeddings(embeddings, absent if absent.any() else None)


def prompts(name: str) -> tuple[str, ...]:
    """Return the sentences whose mean represents a tag that only has a name."""
    spoken = name.replace("_", " ").replace("/", " or ").strip().rstrip(".").lower()
    article = "an" if spoken[:1] in "aeiou" else "a"
    plain = [prompt.format(spoken) for prompt in PROMPTS]
    return (*plain, f"a photo of {article} {spoken}.", f"a photo of the {spoken}.")


def _read_descriptions(path: Path) -> dict[str, list[str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VocabularyError(f"{path} does not exist; give a JSON file of tags and descriptions") from error
    except (OSError, ValueError) as error:
        raise VocabularyError(f"{path} cannot be read as JSON ({error})") from error
    entries = [content] if isinstance(content, dict) else content
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise VocabularyError(f"{path} must contain a list of {{tag: [descriptions]}}")
    found: dict[str, list[str]] = {}
    for name, sentences in (pair for entry in entries for pair in entry.items()):
        if name in found:
            raise VocabularyError(f"{path} describes {name!r} twice; merge the two")
        if not isinstance(sentences, list) or not all(isinstance(each, str) and each.strip() for each in sentences):
            raise VocabularyError(f"{path}: the descriptions of {name!r} must be a list of sentences")
        found[name] = sentences
    return found
