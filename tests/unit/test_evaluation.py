"""Evaluation on any data set: figures, their intervals, and thresholds for a precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ram_core.errors import TrainingError, VocabularyError
from ram_core.evaluation import Scored, calibrate, calibration_text, evaluate, evaluation_text, wilson
from ram_core.evaluation.calibration import LEAST_ASSIGNED, Outcome, lowest_threshold
from ram_core.evaluation.figures import Pool
from ram_core.metrics import measure
from ram_core.vocabulary import NEVER, TagVocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES, TAGS = 400, 6


def synthetic(seed: int = 0, images: int = IMAGES) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores that tell tags well but not perfectly. No image has the last tag, and two have the one before."""
    random = np.random.default_rng(seed)
    targets = random.random((images, TAGS)) < 0.3
    targets[:, -1] = False
    targets[:, -2] = np.arange(images) < 2
    scores = np.clip(0.25 * targets + random.normal(0.4, 0.12, targets.shape), 0, 1).astype(np.float32)
    return scores, targets


def scored(scores: NDArray[np.float32], targets: NDArray[np.bool_]) -> Scored:
    return Scored(scores, np.arange(len(scores)), (np.flatnonzero(row).tolist() for row in targets))


def vocabulary(thresholds: float | list[float] = 0.5) -> TagVocabulary:
    plain = TagVocabulary.from_names("v", [f"tag {number}" for number in range(TAGS)])
    values = thresholds if isinstance(thresholds, list) else [thresholds] * TAGS
    return plain.with_thresholds(dict(enumerate(values)))


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_are_those_of_the_literature(hits: int, total: int, low: float, high: float) -> None:
    assert wilson(hits, total) == pytest.approx((low, high), abs=5e-5)


def test_nothing_seen_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    for count in range(1, 60):
        assert wilson(count, count).high == 1.0
        assert wilson(0, count).low == 0.0


def test_figures_are_those_of_the_official_protocol_except_at_the_threshold_itself() -> None:
    scores, targets = synthetic()
    found = evaluate(scored(scores, targets), vocabulary())
    expected = measure(scores, targets, 0.5)
    for tag in found.tags[:-1]:
        assert tag.average_precision == pytest.approx(expected.classes.average_precision[tag.tag_id])
        assert tag.counts.precision == pytest.approx(expected.classes.precision[tag.tag_id])
        assert tag.counts.recall == pytest.approx(expected.classes.recall[tag.tag_id])
        assert tag.counts.f1 == pytest.approx(expected.classes.f1[tag.tag_id])
        assert tag.counts.images == expected.classes.positives[tag.tag_id]
    assert found.means.average_precision == pytest.approx(expected.mean_average_precision_present)
    only = measure(scores[:, :-1], targets[:, :-1], 0.5)
    assert found.together.precision == pytest.approx(only.overall_precision)
    assert found.together.recall == pytest.approx(only.overall_recall)
    assert found.together.f1 == pytest.approx(only.overall_f1)
    assert found.means.precision == pytest.approx(only.class_precision)


def test_a_score_at_the_threshold_is_not_assigned_as_in_recognition() -> None:
    scores = np.full((3, TAGS), 0.5, dtype=np.float32)
    found = evaluate(scored(scores, np.ones((3, TAGS), dtype=bool)), vocabulary())
    assert [tag.counts.assigned for tag in found.tags] == [0] * TAGS
    assert found.tags[0].counts.precision is None


def test_tags_that_no_image_has_are_in_no_mean_and_are_counted_apart() -> None:
    scores, targets = synthetic()
    found = evaluate(scored(scores, targets), vocabulary())
    assert found.tags[-1].counts.images == 0
    assert found.tags[-1].average_precision is None
    assert found.elsewhere == int((scores[:, -1] > 0.5).sum()) > 0
    assert (found.means.tags, found.firm.tags) == (TAGS - 1, TAGS - 2)
    text = evaluation_text(found)
    assert "Too few images to say anything of 1 tags (fewer than 10): tag 4" in text
    assert "No image has 1 tags" in text


def test_data_without_any_tag_of_the_vocabulary_is_refused() -> None:
    scores, targets = synthetic()
    with pytest.raises(TrainingError, match="no image has a tag of vocabulary 'v'"):
        evaluate(scored(scores, np.zeros_like(targets)), vocabulary())


def test_intervals_of_all_assignments_hold_the_truth_about_as_often_as_they_say() -> None:
    scores, targets = synthetic(99, images=20_000)
    truth = evaluate(scored(scores, targets), vocabulary()).together
    held = 0
    for part in range(50):
        rows = slice(400 * part, 400 * (part + 1))
        pool = Pool(400)
        for tag in range(TAGS - 2):
            pool.add(scores[rows, tag] > 0.5, targets[rows, tag])
        low, high = pool.together().recall_interval
        held += low <= truth.recall <= high
    assert 44 <= held <= 50


# Calibration --------------------------------------------------------------------------------------------------------


def by_force(scores: NDArray[np.float32], targets: NDArray[np.bool_], target: float) -> int:
    """Return the most images that a threshold between scores assigns with this precision; 0: none reaches it."""
    counts = []
    for threshold in [0.0, *np.unique(scores).tolist()]:
        assigned = scores > threshold
        if assigned.sum() >= LEAST_ASSIGNED and (assigned & targets).sum() >= target * assigned.sum():
            counts.append(int(assigned.sum()))
    return max(counts, default=0)


@pytest.mark.parametrize("digits", [6, 2, 1])
@pytest.mark.parametrize("target", [0.3, 0.5, 0.8, 0.9, 1.0])
def test_the_lowest_threshold_is_found_also_with_equal_scores(target: float, digits: int) -> None:
    scores, targets = synthetic(digits)
    for tag in range(TAGS):
        column = scores[:, tag].round(digits)
        found = lowest_threshold(column, targets[:, tag], target)
        most = by_force(column, targets[:, tag], target)
        if found is None:
            assert most == 0
        else:
            assert (column > found).sum() == most
            # The protocol of the official evaluation assigns at the threshold too: no score is just there.
            assert digits != 6 or (column >= found).sum() == most


def test_neighbouring_scores_are_parted() -> None:
    above = np.nextafter(np.float32(0.5), np.float32(1))
    scores = np.array([above] * 5 + [0.5] * 50, dtype=np.float32)
    found = lowest_threshold(scores, np.arange(55) < 5, 0.9)
    assert found is not None
    assert (scores > found).sum() == 5


def test_no_threshold_is_below_the_floor_of_what_is_stored() -> None:
    scores = np.linspace(0.001, 0.1, 100, dtype=np.float32)
    found = lowest_threshold(scores, np.ones(100, dtype=bool), 0.9, floor=0.05)
    assert found == np.float32(0.05) or (found is not None and 0.05 <= found < 0.0521)
    assert lowest_threshold(scores, np.ones(100, dtype=bool), 0.9, floor=0.2) is None


def test_one_image_of_one_is_no_proof_of_a_precision() -> None:
    scores = np.linspace(1, 0, 100, dtype=np.float32)
    targets = np.zeros(100, dtype=bool)
    targets[0] = targets[50:70] = True
    assert lowest_threshold(scores, targets, 0.95) is None


def test_calibrated_tags_reach_the_precision_on_images_that_did_not_choose_it() -> None:
    scores, targets = synthetic(images=4000)
    found = calibrate(scored(scores, targets), vocabulary(0.3), 0.8)
    changed = [tag for tag in found.tags if tag.outcome is Outcome.CALIBRATED]
    assert [tag.tag_id for tag in changed] == [0, 1, 2, 3]
    assert found.before is not None
    assert found.after is not None
    assert found.before.precision < 0.5
    assert found.after.precision == pytest.approx(0.8, abs=0.02)
    for tag in changed:
        assert tag.before == pytest.approx(0.3)
        assert found.vocabulary.thresholds[tag.tag_id] == np.float32(tag.after)
        assert tag.counts_after is not None
        low, high = wilson(tag.counts_after.hits, tag.counts_after.assigned)
        assert low < 0.82
        assert high > 0.78
    # The same thresholds on images that nobody saw.
    fresh, truth = synthetic(7, images=4000)
    apart = evaluate(scored(fresh, truth), found.vocabulary)
    assert np.mean([tag.counts.precision for tag in apart.tags[:4]]) == pytest.approx(0.8, abs=0.03)


def test_scores_that_say_nothing_do_not_seem_to_reach_a_precision() -> None:
    random = np.random.default_rng(3)
    targets = random.random((300, TAGS)) < 0.5
    scores = random.random((300, TAGS)).astype(np.float32)
    found = calibrate(scored(scores, targets), vocabulary(), 0.6)
    assert found.after is not None
    assert found.after.precision < 0.6, "what was chosen on an image must not be measured on it"


def test_tags_keep_their_thresholds_where_images_are_few_none_reaches_it_or_they_are_off() -> None:
    scores, targets = synthetic()
    scores[:, 0] = 0.7  # the same for all images
    given = vocabulary([0.5, NEVER, 0.5, 0.5, 0.25, 0.5])
    found = calibrate(scored(scores, targets), given, 0.9)
    outcomes = [tag.outcome for tag in found.tags]
    assert outcomes == [
        Outcome.OUT_OF_REACH, Outcome.NEVER_ASSIGNED, Outcome.CALIBRATED, Outcome.CALIBRATED, Outcome.FEW_IMAGES,
        Outcome.FEW_IMAGES,
    ]  # fmt: skip
    kept = [0, 1, 4, 5]
    assert found.vocabulary.thresholds[kept].tolist() == given.thresholds[kept].tolist()
    text = calibration_text(found)
    assert "New thresholds of 2 tags, for a precision of 90 %" in text
    for outcome in (Outcome.OUT_OF_REACH, Outcome.NEVER_ASSIGNED, Outcome.FEW_IMAGES):
        assert outcome.value in text


def test_the_same_data_gives_the_same_thresholds_and_figures() -> None:
    scores, targets = synthetic()
    first, second = (calibrate(scored(scores, targets), vocabulary(), 0.7) for _ in range(2))
    assert first.tags == second.tags
    assert first.after == second.after


def test_nothing_to_calibrate_is_said() -> None:
    scores, targets = synthetic()
    found = calibrate(scored(scores, targets), vocabulary(), 0.9, enough=IMAGES)
    assert (found.before, found.after) == (None, None)
    assert "New thresholds of 0 tags" in calibration_text(found)


@pytest.mark.parametrize(("target", "folds"), [(0.0, 5), (1.1, 5), (float("nan"), 5), (0.9, 1), (0.9, 11)])
def test_what_cannot_be_calibrated_is_refused(target: float, folds: int) -> None:
    scores, targets = synthetic()
    with pytest.raises(VocabularyError, match="give"):
        calibrate(scored(scores, targets), vocabulary(), target, folds=folds)
