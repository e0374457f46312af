"""Thresholds for a precision: for each tag the lowest one that reaches it, tried on images that did not choose it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from ram_core.errors import VocabularyError
from ram_core.evaluation.figures import ENOUGH, Counts, Pool
from ram_core.vocabulary import NEVER

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ram_core.evaluation.figures import Together
    from ram_core.evaluation.scoring import Scored
    from ram_core.vocabulary import TagVocabulary

FOLDS = 5
LEAST_ASSIGNED = 5
"""Images to which a threshold assigns its tag, so that its precision is believed: one of one proves nothing."""


class Outcome(StrEnum):
    """What became of a tag's threshold."""

    CALIBRATED = "calibrated"
    FEW_IMAGES = "kept: too few images have the tag"
    NEVER_ASSIGNED = "kept: the tag is switched off"
    OUT_OF_REACH = "kept: no threshold reaches the precision"


@dataclass(frozen=True, slots=True)
class CalibratedTag:
    """A tag before and after.

    Attributes:
        tag_id: its id.
        name: its name.
        outcome: whether it has a new threshold, or why not.
        before: its threshold so far.
        after: its new threshold; the same if it is kept.
        counts_before: with its threshold so far.
        counts_after: with thresholds that were chosen without the images on which they are counted; None if it is
            kept.
    """

    tag_id: int
    name: str
    outcome: Outcome
    before: float
    after: float
    counts_before: Counts
    counts_after: Counts | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """New thresholds.

    Attributes:
        target: the precision that was wanted.
        folds: parts of the images.
        enough: images that a tag needed.
        vocabulary: the tags with the new thresholds.
        tags: each tag, by id.
        before: figures of the calibrated tags together, with their thresholds so far; None if there are none.
        after: likewise with new ones, on images that did not choose them.
    """

    target: float
    folds: int
    enough: int
    vocabulary: TagVocabulary
    tags: tuple[CalibratedTag, ...]
    before: Together | None
    after: Together | None


def calibrate(  # noqa: PLR0913  (two things, and one knob each)
    scored: Scored,
    vocabulary: TagVocabulary,
    target: float,
    *,
    folds: int = FOLDS,
    enough: int = ENOUGH,
    floor: float = 0.0,
    seed: int = 0,
) -> Calibration:
    """Find for each tag the lowest threshold that reaches a precision.

    The new threshold is from all images. What it is worth is measured by cross-validation: for each part of the images
    a threshold is chosen on the others, and applied to this part.

    Args:
        scored: images with scores and tags.
        vocabulary: the tags with their thresholds so far.
        target: the precision, above 0 and at most 1.
        folds: parts of the images, at least 2.
        enough: images that must have a tag; one that fewer have keeps its threshold. At least ``folds``.
        floor: no threshold is below it: scores below it are not stored.
        seed: of the parts.

    Raises:
        VocabularyError: an argument is out of range.
    """
    if not 0 < target <= 1:
        raise VocabularyError(f"a precision of {target:g} cannot be reached; give one above 0 and up to 1")
    if not 2 <= folds <= enough:
        raise VocabularyError(
            f"{folds} folds do not fit tags with {enough} images; give 2 or more, and as many images as folds or more"
        )
    tags, thresholds = [], {}
    before, after = Pool(len(scored)), Pool(len(scored))
    for tag_id, scores, targets in scored.columns():
        current = vocabulary.thresholds[tag_id]
        assigned = scores > current
        outcome, found, held_out = _outcome(int(targets.sum()), current, enough), None, None
        if outcome is Outcome.CALIBRATED:
            found = lowest_threshold(scores, targets, target, floor)
            outcome = Outcome.OUT_OF_REACH if found is None else outcome
        if found is not None:
            held_out = _held_out(scores, targets, target, floor, current, _parts(targets, folds, seed))
            before.add(assigned, targets)
            after.add(held_out, targets)
            thresholds[tag_id] = float(found)
        tags.append(
            CalibratedTag(
                tag_id,
                vocabulary.names[tag_id],
                outcome,
                _shortest(current),
                _shortest(current if found is None else found),
                Counts.of(assigned, targets),
                None if held_out is None else Counts.of(held_out, targets),
            )
        )
    return Calibration(
        target,
        folds,
        enough,
        vocabulary.with_thresholds(thresholds),
        tuple(tags),
        before.together() if thresholds else None,
        after.together() if thresholds else None,
    )


def lowest_threshold(
    scores: NDArray[np.float32], targets: NDArray[np.bool_], target: float, floor: float = 0.0
) -> np.float32 | None:
    """Return the lowest threshold that reaches a precision, in the middle between two scores; None: there is none.

    Args:
        scores: (N,) of the images.
        targets: (N,) True for images that have the tag.
        target: the precision.
        floor: no threshold is below it.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_step = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # equal scores are assigned together
    hits, assigned = np.cumsum(targets[order])[last_of_step], last_of_step + 1
    # Counts are compared, so that 9 of 10 reach 0.9 whatever the rounding.
    reached = (hits + 1e-9 >= target * assigned) & (assigned >= LEAST_ASSIGNED) & (ranked[last_of_step] > floor)
    if not reached.any():
        return None
    last = int(last_of_step[np.flatnonzero(reached)[-1]])
    lowest = ranked[last]
    below = max(ranked[last + 1] if last + 1 < len(ranked) else np.float32(0), np.float32(floor))
    middle = np.float32((float(lowest) + float(below)) / 2)
    return middle if middle < lowest else np.float32(below)  # between neighbours there is no other number


def _outcome(images: int, threshold: np.float32, enough: int) -> Outcome:
    if threshold >= NEVER:
        return Outcome.NEVER_ASSIGNED
    return Outcome.FEW_IMAGES if images < enough else Outcome.CALIBRATED


def _held_out(
    scores: NDArray[np.float32],
    targets: NDArray[np.bool_],
    target: float,
    floor: float,
    current: np.float32,
    parts: NDArray[np.intp],
) -> NDArray[np.bool_]:
    """Return (N,) whether a tag is assigned to each image by the threshold that the other parts choose.

    Where these choose none, the current threshold stays, as it would if they were all the images.
    """
    assigned = np.zeros(len(scores), dtype=np.bool_)
    for part in range(int(parts.max()) + 1):
        here = parts == part
        found = lowest_threshold(scores[~here], targets[~here], target, floor)
        assigned[here] = scores[here] > (current if found is None else found)
    return assigned


def _parts(targets: NDArray[np.bool_], folds: int, seed: int) -> NDArray[np.intp]:
    """Return (N,) the part of each image. Images with the tag are spread over the parts evenly, and so are others."""
    random = np.random.default_rng(seed)
    parts = np.empty(len(targets), dtype=np.intp)
    for group in (targets, ~targets):
        places = random.permutation(np.flatnonzero(group))
        parts[places] = np.arange(len(places)) % folds
    return parts


def _shortest(threshold: np.float32) -> float:
    """Return the number with the fewest digits that is this float32."""
    return float(str(threshold))
