"""What heads take: the kept features of an image as one vector, whose parts are at unit length.

With ``lite``, these are the 1,280 features from which its classes are computed, and the means of the last two groups of
blocks (208 and 352), which tell more of how a picture looks. The latter teach better on few pictures, both together on
more (``benchmarks/bench_teach.py``). With RAM and RAM++, they are the global token and the mean of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ram_core.errors import FeaturesError
from ram_core.features import unpack_pooled, unpack_tokens
from ram_core.lite.network import SIZES

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["pooled", "tokens"]


def inputs(rows: NDArray[np.uint8], kind: Kind, vector_size: int) -> NDArray[np.float32]:
    """Return (B, F) float32 of (B, R) packed features.

    Args:
        rows: as a model's ``predict(…, features=kind)`` packed them.
        kind: ``pooled`` of ``lite``, or ``tokens`` of RAM and RAM++.
        vector_size: width of the tokens.

    Raises:
        FeaturesError: they are of another kind or model.
    """
    try:
        if kind == "pooled":
            parts = unpack_pooled(rows, SIZES)
        else:
            tokens = unpack_tokens(rows, vector_size).numpy()  # (B, 1 + N, E)
            parts = [tokens[:, 0], tokens[:, 1:].mean(axis=1)]
    except ValueError as error:
        raise FeaturesError(str(error)) from error
    return np.concatenate([_unit(part) for part in parts], axis=1).astype(np.float32)


def _unit(part: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows at unit length. A row of nothing stays nothing."""
    lengths = np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-30)
    rows: NDArray[np.float32] = (part / lengths).astype(np.float32)
    return rows
