"""Heads on kept features: fitted, judged on held-out pictures, and applied."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from ram_core.teaching.copies import groups_of
from ram_core.teaching.fitting import NO, UNNAMED, YES, Examples, Fitted, TooFewError, fit
from ram_core.teaching.heads import Head, heads_sha256, own_logit, score_of_own_logit
from ram_core.teaching.logistic import folds_of
from ram_core.teaching.measures import average_precision, needed, share
from ram_core.teaching.suggesting import suggest
from ram_core.vocabulary import TagVocabulary
from ramq.services.lessons import lesson_of
from ramq.services.teach_views import Wanted
from storage.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH = 24


def pictures(yes: int, no: int, unnamed: int, *, hidden: float = 0.0, apart: float = 1.5, seed: int = 0) -> Any:
    """Inputs, labels, and whether each picture is of the kind: a cloud of its own, ``apart`` from the others."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.array([YES, NO, UNNAMED], dtype=np.int8), [yes, no, unnamed])
    is_kind = labels == YES
    is_kind[labels == UNNAMED] = random.random(unnamed) < hidden
    x = random.normal(size=(len(labels), WIDTH))
    x[is_kind, 0] += apart * np.sqrt(WIDTH)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), labels, is_kind


# Measures -----------------------------------------------------------------------------------------------------------


def test_the_interval_of_a_share_is_exact() -> None:
    five = share(5, 5)
    assert (five.value, round(five.low, 2), five.high) == (1.0, 0.48, 1.0)
    half = share(10, 20)
    assert (round(half.low, 3), round(half.high, 3)) == (0.272, 0.728)
    assert share(0, 0).value is None
    assert share(0, 4).low == 0.0


def test_as_many_pictures_are_asked_for_as_would_show_the_precision() -> None:
    assert share(needed(0.9), needed(0.9)).low >= 0.9 > share(needed(0.9) - 1, needed(0.9) - 1).low


def test_average_precision_gives_equal_scores_no_credit() -> None:
    assert average_precision(np.array([True, False]), np.array([0.5, 0.5], dtype=np.float32)) == 0.5
    assert average_precision(np.array([True, False]), np.array([0.6, 0.5], dtype=np.float32)) == 1.0


# Fitting ------------------------------------------------------------------------------------------------------------


def test_five_pictures_teach_what_is_clearly_different() -> None:
    x, labels, _ = pictures(5, 0, 400, apart=3)
    fitted = fit(Examples(x, labels), precision=0.9, tag_id=7)
    assert (fitted.head.method, fitted.head.tag_id, fitted.threshold, fitted.is_reached) == ("head", 7, 0.5, True)
    assert fitted.after.precision.value == 1.0
    assert fitted.advice.startswith("5 pictures: the precision is between 0.48 and 1.00; label ")
    assert fitted.helps
    new, _, is_kind = pictures(50, 0, 2000, apart=3, seed=1)
    passed = fitted.head.logits(new, np.zeros(len(new), dtype=np.float32)) > 0
    assert passed[is_kind].mean() > 0.8
    assert is_kind[passed].mean() > 0.8


@pytest.mark.parametrize("asked", [0.7, 0.95])
def test_the_threshold_has_the_precision_that_was_asked_for(asked: float) -> None:
    found, right = 0, 0
    for seed in range(6):
        x, labels, _ = pictures(40, 0, 600, hidden=0.03, apart=0.7, seed=seed)
        head = fit(Examples(x, labels), precision=asked, tag_id=0).head
        # The archive has as many of the kind as the pictures at hand suggest.
        new, _, is_kind = pictures(300, 0, 4500, apart=0.7, seed=100 + seed)
        passed = head.logits(new, np.zeros(len(new), dtype=np.float32)) > 0
        found, right = found + int(passed.sum()), right + int(passed[is_kind].sum())
    assert right / found > asked - 0.08


def in_archive(count: int, share: float, apart: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Inputs of an archive in which some images are of the kind, and which these are."""
    x, _, is_kind = pictures(0, 0, count, hidden=share, apart=apart, seed=seed)
    return x, is_kind


def taught_in(
    x: NDArray[np.float32], is_kind: NDArray[np.bool_], yes: int, seed: int
) -> tuple[Fitted, int, NDArray[np.bool_]]:
    """Teach on some images of an archive. Return what was fitted, on how many that get the tag, and which these are."""
    random = np.random.default_rng(seed)
    named = random.choice(np.flatnonzero(is_kind), yes, replace=False)
    rest = np.setdiff1d(np.arange(len(x)), named)
    at = np.concatenate([named, random.choice(rest, 2000, replace=False)])
    labels = np.repeat(np.array([YES, UNNAMED], dtype=np.int8), [yes, 2000])
    fitted = fit(Examples(x[at], labels, others=len(rest)), precision=0.9, tag_id=0)
    passed = fitted.head.logits(x, np.zeros(len(x), dtype=np.float32)) > 0
    return fitted, int(passed.sum()), passed


@pytest.mark.parametrize("seed", range(3))
def test_nothing_false_is_claimed_of_a_rare_tag_in_a_large_archive(seed: int) -> None:
    x, is_kind = in_archive(200_000, 0.0002, 0.8, seed)
    fitted, count, passed = taught_in(x, is_kind, 20, seed)
    true = is_kind[passed].mean()
    assert true < 0.5  # most of what the sample does not show is wrong
    assert not fitted.is_reached
    after = fitted.after
    assert after.precision.low <= true <= after.precision.high
    assert after.precision.value is not None
    assert after.precision.value < 0.5
    assert after.archive == 200_000
    assert count <= 1.3 * after.images_most  # of held-out heads; the one that is kept was made from more
    assert "of 200,000 images would get the tag" in fitted.advice
    assert "look at some of the others (--suggest)" in fitted.advice


@pytest.mark.parametrize("seed", range(3))
def test_a_common_tag_has_the_precision_in_a_large_archive(seed: int) -> None:
    x, is_kind = in_archive(50_000, 0.15, 1.5, seed)
    fitted, count, passed = taught_in(x, is_kind, 40, seed)
    assert fitted.is_reached
    assert is_kind[passed].mean() >= 0.9
    assert fitted.after.images / 2 < count < 2 * fitted.after.images


def test_a_former_head_is_measured_on_pictures_that_it_has_not_seen() -> None:
    x, labels, is_kind = pictures(20, 0, 400)
    own = np.where(is_kind, 1.0, -1.0).astype(np.float32)
    seen = np.zeros(len(x), dtype=np.bool_)
    seen[:10] = True
    own[10:20] = -1.0  # it knows its own pictures, and nothing else
    examples = Examples(x, labels, own, is_own=False, seen=seen)
    fitted = fit(examples, precision=0.9, tag_id=0, own_threshold=0.0)
    assert fitted.before is not None
    assert fitted.before.recall.value == 0.0
    assert "the 10 pictures that were named since" in fitted.advice
    seen[:20] = True
    again = fit(Examples(x, labels, own, is_own=False, seen=seen), precision=0.9, tag_id=0, own_threshold=0.0)
    assert again.before is None
    assert "before is not comparable" in again.advice


def test_a_higher_precision_finds_less() -> None:
    x, labels, _ = pictures(40, 10, 600, apart=0.6)
    low, high = (fit(Examples(x, labels), precision=asked, tag_id=0).after.recall.value for asked in (0.6, 0.95))
    assert low is not None
    assert high is not None
    assert low > high


def test_unnamed_pictures_that_show_the_thing_are_not_learnt_as_something_else() -> None:
    x, labels, is_kind = pictures(8, 0, 500, hidden=0.08, apart=1.2)
    head = fit(Examples(x, labels), precision=0.9, tag_id=0).head
    hidden = is_kind & (labels == UNNAMED)
    logits = head.logits(x, np.zeros(len(x), dtype=np.float32))
    assert average_precision(is_kind, logits) > 0.9
    assert np.median(logits[hidden]) > np.quantile(logits[~is_kind], 0.99)


def test_too_few_pictures_are_refused() -> None:
    x, labels, _ = pictures(4, 0, 100)
    with pytest.raises(TooFewError, match="name 1 more"):
        fit(Examples(x, labels), precision=0.9, tag_id=0)
    x, labels, _ = pictures(8, 0, 2)
    with pytest.raises(TooFewError, match="too few other pictures"):
        fit(Examples(x, labels), precision=0.9, tag_id=0)


def test_the_models_own_score_is_kept_where_it_is_as_good() -> None:
    x, labels, is_kind = pictures(20, 0, 400, apart=0.4)
    own = own_logit(np.where(is_kind, 0.3, 0.05).astype(np.float32), 0.01)
    now = float(own_logit(np.array([0.5], dtype=np.float32), 0.01)[0])
    fitted = fit(Examples(x, labels, own), precision=0.9, tag_id=3, own_threshold=now)
    assert fitted.head.method == "threshold"
    assert 0.05 < fitted.threshold < 0.3
    assert fitted.before is not None
    assert (fitted.before.recall.value, fitted.after.recall.value) == (0.0, 1.0)
    assert [each.method for each in fitted.candidates] == ["threshold", "own+head", "head"]


def test_a_score_that_tells_nothing_is_replaced() -> None:
    x, labels, _ = pictures(20, 5, 400, apart=2)
    own = own_logit(np.random.default_rng(0).random(len(x)).astype(np.float32), 0.01)
    fitted = fit(Examples(x, labels, own), precision=0.9, tag_id=3, own_threshold=0.0)
    assert fitted.head.is_linear
    assert fitted.before is not None
    assert fitted.after.average_precision > fitted.before.average_precision


def test_a_tags_name_is_compared_on_the_pictures_that_it_scored() -> None:
    x, labels, is_kind = pictures(10, 5, 400, apart=0.3)
    described = np.full(len(x), np.nan, dtype=np.float32)
    described[:40] = np.where(is_kind[:40], 0.8, 0.4)
    fitted = fit(Examples(x, labels, described=described), precision=0.9, tag_id=3)
    assert fitted.head.method == "description"
    assert 0.4 < fitted.threshold < 0.8
    described[:40] = 0.0  # equal scores, all below what is stored
    worst = fit(Examples(x[:40], labels[:40], described=described[:40]), precision=0.9, tag_id=3)
    assert 0 <= worst.threshold <= 1
    assert fit(Examples(x, labels, described=described), precision=0.9, tag_id=3).head.method == "head"


def test_more_pictures_help_until_nothing_is_gained() -> None:
    x, labels, _ = pictures(60, 0, 600, apart=3)
    enough = fit(Examples(x, labels), precision=0.9, tag_id=0)
    assert enough.gain is not None
    assert enough.gain < 0.01
    assert not enough.helps
    x, labels, _ = pictures(12, 0, 600, apart=0.8)
    few = fit(Examples(x, labels), precision=0.9, tag_id=0)
    assert few.helps


def test_the_same_pictures_teach_the_same() -> None:
    x, labels, _ = pictures(9, 3, 300)
    one, two = (fit(Examples(x, labels), precision=0.9, tag_id=0).head for _ in range(2))
    assert heads_sha256([one]) == heads_sha256([two])


def copied(times: int) -> tuple[NDArray[np.float32], NDArray[np.int8], list[bytes | None]]:
    """Six pictures that have nothing in common, each so many times and nearly the same, and 300 others."""
    random = np.random.default_rng(3)
    x = random.normal(size=(306, 500)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x = np.concatenate([np.repeat(x[:6], times, axis=0), x[6:]])
    x += random.normal(scale=1e-4, size=x.shape).astype(np.float32)
    return x, np.repeat(np.array([YES, UNNAMED], np.int8), [6 * times, 300]), [None] * len(x)


def test_copies_are_found_by_their_bytes_and_by_their_content() -> None:
    x, _, hashes = copied(3)
    groups = groups_of(x, hashes, 0.99)
    assert [len(set(groups[at : at + 3].tolist())) for at in range(0, 18, 3)] == [1] * 6
    assert len(set(groups.tolist())) == 306
    hashes[0] = hashes[305] = b"same"
    assert (groups_of(x, hashes, 0.99)[[0, 2]] == groups_of(x, hashes, 0.99)[305]).all()
    assert len(set(groups_of(np.zeros((4, 3), np.float32), [None] * 4, 0.9).tolist())) == 4


def test_copies_are_held_out_together_and_count_once() -> None:
    x, labels, hashes = copied(4)
    groups = groups_of(x, hashes, 0.99)
    folds = folds_of(labels, 5, groups)
    assert all(len(set(folds[groups == group].tolist())) == 1 for group in range(groups.max() + 1))
    assert [(labels[folds == fold] == YES).any() for fold in range(5)] == [True] * 5
    fooled = fit(Examples(x, labels), precision=0.9, tag_id=0)
    honest = fit(Examples(x, labels, groups=groups), precision=0.9, tag_id=0)
    assert fooled.after.average_precision > 0.9
    assert honest.after.average_precision < 0.5
    assert "24 pictures, 6 without copies" in honest.advice
    # What copies get right is no surer than what one of them does.
    x, labels, _ = pictures(6, 0, 300, apart=3)
    one = fit(Examples(x, labels), precision=0.9, tag_id=0).after
    x, labels = np.concatenate([x[:6]] * 4 + [x[6:]]), np.concatenate([labels[:6]] * 4 + [labels[6:]])
    many = fit(Examples(x, labels, groups=groups_of(x, [None] * len(x), 0.999)), precision=0.9, tag_id=0).after
    assert (one.precision.low, one.recall.low) == pytest.approx((many.precision.low, many.recall.low))


def test_pictures_that_are_all_copies_show_next_to_nothing() -> None:
    x, labels, _ = pictures(1, 0, 300, apart=3)
    x, labels = np.concatenate([x[:1]] * 5 + [x[1:]]), np.concatenate([labels[:1]] * 5 + [labels[1:]])
    fitted = fit(Examples(x, labels, groups=groups_of(x, [None] * len(x), 0.999)), precision=0.9, tag_id=0)
    assert fitted.after.precision.low < 0.05
    assert fitted.advice.startswith("5 pictures, 1 without copies: the precision is between 0.0")


# Heads and inputs ---------------------------------------------------------------------------------------------------


def test_scores_and_their_logits_belong_together() -> None:
    logit = own_logit(np.array([0.001, 0.3, 1.0], dtype=np.float32), 0.01)
    assert [round(score_of_own_logit(float(each)), 3) for each in logit] == [0.01, 0.3, 1.0]


def test_the_hash_of_heads_tells_them_apart_whatever_their_order() -> None:
    one, two = Head(1, "head", np.ones(3, np.float32), 0.0, 0.5), Head(2, "head", np.ones(3, np.float32), 0.0, 0.5)
    assert heads_sha256([one, two]) == heads_sha256([two, one])
    assert heads_sha256([one]) != heads_sha256([Head(1, "head", np.ones(3, np.float32), 0.0, 0.6)])
    plain = TagVocabulary.from_names("a", ["a"])
    taught = TagVocabulary("a", plain.names, plain.names_zh, plain.thresholds, taught="x")
    assert plain.sha256 != taught.sha256
    assert taught.with_thresholds({0: 0.5}).taught == "x"


def test_suggested_pictures_are_unsure_and_differ() -> None:
    random = np.random.default_rng(0)
    # Two tight groups at the threshold, and many pictures that are clear.
    x = np.zeros((1000, 3), dtype=np.float32)
    x[:40, 0], x[40:44, 1], x[44:, 2] = 1, 1, 1
    x += random.normal(scale=0.01, size=x.shape).astype(np.float32)
    logits = np.full(1000, 5.0, dtype=np.float32)
    logits[:44] = random.normal(scale=0.1, size=44)
    ids = np.arange(1000, dtype=np.int64) + 5
    blocks = [(ids[at : at + 100], x[at : at + 100], logits[at : at + 100]) for at in range(0, 1000, 100)]
    found = suggest(blocks, np.zeros((1, 3), dtype=np.float32) + x[999], 6)
    numbers = [one.image_id - 5 for one in found]
    assert len(set(numbers)) == 6
    assert sum(number < 40 for number in numbers) >= 1
    assert sum(40 <= number < 44 for number in numbers) >= 1
    doubts = [abs(one.score - 0.5) for one in found]
    assert doubts == sorted(doubts)
    assert suggest([], x[:1], 6) == []


@pytest.mark.parametrize(
    "name",
    [
        "cat\u200b",
        "c\u00adat",
        "cat\ufe0f",
        "#12",
        "*",
        "count:",
        "count:cat>2",
        "NOT",
        "-cat",
        "cat>0.5",
        "tag:cat",
        "a OR b",
    ],
)
def test_names_that_deceive_are_refused(name: str) -> None:
    names = SimpleNamespace(ids=lambda _: (), names=())
    with pytest.raises(UsageError, match=r"cannot be typed or seen|read as something else"):
        lesson_of(cast("Any", None), cast("Any", names), Wanted(name), 0)


@pytest.mark.parametrize("name", ["cafe\u0301  cr\u00e8me", "caf\u00e9 cr\u00e8me"])
def test_a_name_is_the_same_however_its_letters_are_written(name: str) -> None:
    asked: list[str] = []
    names = SimpleNamespace(ids=lambda given: (asked.append(given), (0, 1))[1], names=())
    with pytest.raises(UsageError, match="2 tags are called"):
        lesson_of(cast("Any", None), cast("Any", names), Wanted(name), 0)
    assert asked == ["caf\u00e9 cr\u00e8me"]
