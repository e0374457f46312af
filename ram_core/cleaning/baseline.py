"""A baseline model for tags that no model here knows: a head that is asked only about labels it has not seen.

The paper's baseline was trained on the very labels that it judges, on 14 million images. With few images, a head learns
its labels by heart, wrong ones too, and contradicts none. So each label is judged by a head that was fitted without it.

The probabilities of such heads depend on how many images they were taught by, so no threshold of theirs suits all tags.
Images without the tag are judged in the same way instead, and a score says how many of them an image surpasses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.cleaning.scale import FeatureScale, unscaled
from ram_core.errors import CleaningError
from ram_core.threads import one_thread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ram_core.cleaning.settings import CleaningSettings

_REGULARISATION = 1.0  # scikit-learn's C, for rows of unit length
_STEPS = 300


def out_of_fold_scores(
    having: Iterable[NDArray[np.floating[Any]]],
    count: int,
    others: NDArray[np.floating[Any]],
    settings: CleaningSettings,
    scale: FeatureScale | None = None,
) -> NDArray[np.float32]:
    """Return how much each image that has a tag looks as if it had it, in comparison with images without it.

    Args:
        having: (n, D) features of the images with the tag, N rows together. Iterated over twice, so no iterator.
        count: N.
        others: (O, D) features of images without the tag: a random sample of some thousand is enough.
        settings: ``folds``, ``seed``; ``sample`` images at most teach a head.
        scale: as for ``measure_regions``.

    Returns:
        (N,) float32 in 0..1: the share of the others that look less as if they had the tag, to a logistic regression
        (scikit-learn) that was fitted without them and without the image. Below 0.5, most images without the tag look
        more like it. All NaN, which says nothing, if there are fewer others than ``settings.folds``, or fewer images
        with the tag than ``settings.min_regions``.

    Raises:
        CleaningError: the blocks have another number of rows, differ in width or are not finite.
    """
    if iter(having) is having:
        raise CleaningError("blocks are read twice: give a list, or an object whose __iter__ begins anew")
    scores = np.full(count, np.nan, np.float32)
    if count < max(settings.min_regions, settings.folds) or len(others) < settings.folds:
        return scores
    prepare = unscaled if scale is None else scale.apply
    random = np.random.default_rng(settings.seed)
    fold = random.permutation(count) % settings.folds
    teaches = np.zeros(count, np.bool_)
    teaches[random.permutation(count)[: settings.sample]] = True
    known: list[NDArray[np.float32]] = []
    at = 0
    for block in having:
        end = at + len(block)
        if end > count:
            raise CleaningError(f"the blocks have more rows than the {count:,} images")
        if teaches[at:end].any():
            known.append(prepare(block[teaches[at:end]]))
        at = end
    if at != count:
        raise CleaningError(f"the blocks have {at:,} rows for {count:,} images")
    rows, without, basis = _in_their_span(np.concatenate(known), prepare(others))
    del known
    fold_of_others = random.permutation(len(without)) % settings.folds
    directions = np.zeros((settings.folds, len(without[0]) if basis is None else len(basis)), np.float32)
    offsets = np.zeros(settings.folds, np.float32)
    of_others = np.zeros(len(without), np.float32)
    for held_out in range(settings.folds):
        is_out = fold_of_others == held_out
        direction, offset = _fit(rows[fold[teaches] != held_out], without[~is_out])
        of_others[is_out] = without[is_out] @ direction + offset
        directions[held_out] = direction if basis is None else basis @ direction
        offsets[held_out] = offset
    of_others.sort()
    at = 0
    for block in having:
        end = at + len(block)
        logits = prepare(block) @ directions.T + offsets  # (n, folds)
        own = np.take_along_axis(logits, fold[at:end, None], axis=1)[:, 0]
        scores[at:end] = np.searchsorted(of_others, own) / len(of_others)
        at = end
    return scores


def _in_their_span(
    having: NDArray[np.float32], others: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the rows in fewer numbers, if there are fewer rows than features, and the (D, rows) basis of these.

    The direction of a head is a sum of rows, so it lies in their span: it is the same head, sooner.
    """
    if len(having) + len(others) >= others.shape[1]:
        return having, others, None
    basis = np.linalg.qr(np.concatenate([having, others]).T)[0]
    return having @ basis, others @ basis, basis


def _fit(having: NDArray[np.float32], others: NDArray[np.float32]) -> tuple[NDArray[np.float32], np.float32]:
    """Return direction (D,) and offset of the head: its logit is their product with a row, plus the offset."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (slow to load)

    rows = np.concatenate([having, others])
    labels = np.arange(len(rows)) < len(having)
    with one_thread():
        head = LogisticRegression(C=_REGULARISATION, class_weight="balanced", max_iter=_STEPS).fit(rows, labels)
    return head.coef_[0].astype(np.float32), np.float32(head.intercept_[0])
