"""Logistic regression on pictures that are named yes or no, and on others of which most are no."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ram_core.threads import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

YES, NO, UNNAMED = 1, 0, -1
"""Labels of pictures: as a person named them; or taken from the archive at random, where most are no."""

_STRENGTH = 3.0
"""Inverse of the regularisation. See benchmarks/bench_teach.py: 3 is a little better than 1, 10 and 30."""
_NO_COUNTS = 10.0
"""How many unnamed pictures a picture counts as that a person said is not of this kind."""


def regress(x: NDArray[np.float32], labels: NDArray[np.int8]) -> NDArray[np.float32]:
    """Return (F + 1,) float32: the weights, and the bias behind them.

    Args:
        x: (N, F) inputs.
        labels: (N,) ``YES``, ``NO`` or ``UNNAMED``, which is a weak no. There must be a yes and one of the others.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (slow to load)

    is_yes = labels == YES
    weights = np.where(labels == NO, _NO_COUNTS, 1.0)
    weights[is_yes] = weights[~is_yes].sum() / is_yes.sum()  # a few pictures weigh as much as all the others
    weights *= len(labels) / weights.sum()
    model = LogisticRegression(C=_STRENGTH, max_iter=300, tol=1e-3)
    with one_thread():  # with more threads, small products take many times longer
        model.fit(x, is_yes, sample_weight=weights)
    return np.concatenate([model.coef_[0], model.intercept_]).astype(np.float32)


def folds_of(
    labels: NDArray[np.int8], count: int, groups: NDArray[np.int64] | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Return (N,) the fold of each picture, 0 to ``count`` - 1. Each fold has its part of every label.

    Pictures of one of the (N,) ``groups`` are in one fold.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    random, fold_of = np.random.default_rng(seed), np.full(int(groups.max(initial=-1)) + 1, -1, dtype=np.int64)
    for label in (YES, NO, UNNAMED):
        own = np.unique(groups[labels == label])
        own = own[fold_of[own] < 0]
        fold_of[random.permutation(own)] = np.arange(len(own)) % count
    folds: NDArray[np.int64] = fold_of[groups]
    return folds
