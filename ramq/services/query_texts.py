"""The text encoders of a process that searches."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from ram_core.embeddings import cached_embeddings
from ram_core.hierarchy.wordnet import shipped_hierarchy
from storage.results.tag_names import spread
from storage.search.ranking import SAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.recognition import TextEncoder
    from storage.results.tags import Names

REMEMBERED_TEXTS = 256
"""The number of recent query texts whose vectors are kept. Each page of hits, and its facets, need the same one."""


class QueryTexts:
    """One text encoder, loaded at its first use. Thread-safe.

    Args:
        load: loads the encoder. Every method raises its errors.
        cache_path: the folder for vectors of names.
    """

    def __init__(self, load: Callable[[], TextEncoder], cache_path: Path) -> None:
        self._load = load
        self._cache_path = cache_path
        self._lock = threading.Lock()
        self._loaded: TextEncoder | None = None
        self._texts: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._waiting: dict[str, None] = {}
        self._texts_lock = threading.Lock()
        self._names: dict[int, NDArray[np.float32]] = {}

    def encode(self, text: str) -> NDArray[np.float32]:
        """Return the vector (D,) of a text.

        While one text is encoded, others wait. The next thread encodes all of them at once, which takes much less time
        than one by one. A text that is remembered waits for nobody.
        """
        if (vector := self._recent(text)) is not None:
            return vector
        with self._texts_lock:
            self._waiting[text] = None
        with self._lock:
            if (vector := self._recent(text)) is not None:
                return vector
            with self._texts_lock:
                texts = list(self._waiting | {text: None})
                self._waiting.clear()
            # If this fails, those who wait try again, each with its own text.
            vectors = self._encoder().encode(texts)
            with self._texts_lock:
                self._texts.update(zip(texts, vectors, strict=True))
                while len(self._texts) > max(REMEMBERED_TEXTS, len(texts)):
                    self._texts.popitem(last=False)
            found: NDArray[np.float32] = vectors[texts.index(text)]
            return found

    @property
    def waiting(self) -> tuple[str, ...]:
        """The texts that wait until the one before them is encoded."""
        with self._texts_lock:
            return tuple(self._waiting)

    def _recent(self, text: str) -> NDArray[np.float32] | None:
        with self._texts_lock:
            vector = self._texts.get(text)
            if vector is not None:
                self._texts.move_to_end(text)
            return vector

    def encode_names(self, vocabulary: Names) -> NDArray[np.float32]:
        """Return the vectors (M, D) of some names of a vocabulary. Each machine computes them once and caches them."""
        with self._lock:
            key = vocabulary.vocabulary_id
            if key not in self._names:
                # Tags above classes have short, general names that are nearer to any text: the cutoff would rise.
                known = shipped_hierarchy().classes_of(vocabulary.names)
                names = [known[i] for i in spread(len(known), SAMPLE)]
                self._names[key] = cached_embeddings(self._encoder(), names, self._cache_path)
            return self._names[key]

    def sha256(self) -> str:
        """Return the hash of the encoder's weights."""
        with self._lock:
            return self._encoder().sha256

    def _encoder(self) -> TextEncoder:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded
