"""Fit a tag on a few pictures: try every way to score it on pictures that were held out, and take the best.

Pictures that nobody named are taken as a weak no. Some of them do show the thing. Those that a first head finds as
likely as the pictures named yes are *likely*: heads are not fitted on them (learning from positive and unlabelled
pictures; the first step is that of Liu et al., ICDM 2003). What they count as where they get the tag: see ``judging``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.errors import ModelError
from ram_core.teaching.heads import THRESHOLD, Head, score_of_own_logit
from ram_core.teaching.judging import calibrate, measure, weight_of
from ram_core.teaching.logistic import NO, UNNAMED, YES, folds_of, regress
from ram_core.teaching.measures import Measure, advice, average_precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ram_core.teaching.heads import Method

LEAST = 5
"""Pictures named yes that a tag needs."""

FOLDS = 5
_LIKELY_SHARE = 0.25
"""An unnamed picture is likely if it scores above this share of the pictures named yes…"""
_MOST_LIKELY = 0.1
"""…and is among this share of the unnamed ones."""
_BETTER = 0.01
"""A less simple way is taken if its average precision is higher by this."""
_LEAST_TO_TELL = 10
"""With fewer pictures named yes, more of them always help."""
_HALVES = 3
_GAIN = 0.01
"""More pictures help if the last half of them raised the average precision by this."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """N pictures of which a tag is learnt.

    Attributes:
        x: (N, F) float32, see ``inputs``.
        labels: (N,) int8: ``YES``, ``NO`` or ``UNNAMED``.
        own: (N,) float32, scaled logits of the scores that the tag has now (``own_logit``); None for a new tag.
        is_own: whether these are the model's own scores. Those of a former head only tell what was before.
        described: (N,) float32 scores of the tag's name as an open set, NaN where nobody asked; None: not tried.
        seen: (N,) whether a former head was made from this picture; None: from none of them.
        others: the images of the archive that nobody named, of which the unnamed ones are a random sample; None: they
            are all of them.
        groups: (N,) the same number for copies, which are held out together, and count once in intervals; None: there
            are no copies. See ``copies``.
    """

    x: NDArray[np.float32]
    labels: NDArray[np.int8]
    own: NDArray[np.float32] | None = None
    is_own: bool = True
    described: NDArray[np.float32] | None = None
    seen: NDArray[np.bool_] | None = None
    others: int | None = None
    groups: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to score the tag, and what it does on held-out pictures."""

    method: Method
    measure: Measure


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """How a tag is scored from now on.

    Attributes:
        head: the chosen way. Its ``tag_id`` is the caller's.
        threshold: above which its score assigns the tag.
        is_reached: whether it has the precision by the estimate. If not, it has the highest that there is.
        before: what the present score and threshold do; None for a new tag, and for one whose former head was made
            from these pictures.
        after: what the chosen way does, on pictures that neither its head nor its threshold was made from. It is
            measured on the same pictures as ``before``.
        candidates: every way that was tried, the simplest first.
        gain: how much of the average precision is due to the last half of the pictures named yes; None: too few.
        helps: whether more pictures would help.
        advice: one line for people.
    """

    head: Head
    threshold: float
    is_reached: bool
    before: Measure | None
    after: Measure
    candidates: tuple[Candidate, ...]
    gain: float | None
    helps: bool
    advice: str


class TooFewError(ModelError):
    """There are too few pictures to fit and to judge a head."""


@dataclass(frozen=True, slots=True, eq=False)
class _Way:
    """Held-out scores of one way, and how to make its head. ``known``: where it has scores."""

    method: Method
    scores: NDArray[np.float32]
    known: NDArray[np.bool_]
    finish: Callable[[float], tuple[Head, float]]


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """A way, what it does, where its thresholds gave the tag, and for how many images an unnamed picture stands."""

    way: _Way
    measure: Measure
    passed: NDArray[np.bool_]
    weight: float


def fit(examples: Examples, *, precision: float, tag_id: int, own_threshold: float | None = None) -> Fitted:
    """Fit a tag.

    Args:
        examples: of which ``LEAST`` are named yes.
        precision: the share, of the images that get the tag, that shall be right; above 0, below 1.
        tag_id: for the head.
        own_threshold: the present threshold of the model's own score, as a scaled logit; None for a new tag.

    Raises:
        TooFewError: fewer pictures are named yes, or there are none that are not.
    """
    labels = examples.labels
    yes = int((labels == YES).sum())
    if yes < LEAST:
        raise TooFewError(f"a tag needs {LEAST} pictures, and {yes} are named; name {LEAST - yes} more (--yes)")
    if (labels != YES).sum() < LEAST:
        raise TooFewError("too few other pictures are recorded to tell the tag from; recognise more, or name some --no")
    groups = np.arange(len(labels)) if examples.groups is None else examples.groups
    differing = len(np.unique(groups[labels == YES]))
    folds = folds_of(labels, FOLDS, groups)
    if not _teach(labels, folds):  # nearly all look alike: the interval says so, since they count as a few
        folds = folds_of(labels, FOLDS)
    first = _held_out(examples.x, labels, folds, np.ones(len(labels), dtype=np.bool_))
    used = ~_likely(first, labels)
    scored = _held_out(examples.x, labels, folds, used)
    judged = [
        _judge(way, labels, folds, groups, precision, examples.others)
        for way in _ways(examples, folds, used, scored, tag_id)
    ]
    chosen = _best(judged, labels)
    way, known = chosen.way, chosen.way.known
    level, is_reached = calibrate(way.scores[known], labels[known], precision, chosen.weight)
    head, threshold = way.finish(level)
    weight = weight_of(labels, examples.others)
    # How many images get the tag depends on the one threshold that is kept, not on those by which it was judged.
    at_level = measure(way.scores > level, way.scores, labels, chosen.weight, known, groups)
    counts: dict[str, Any] = {"images": at_level.images, "images_most": at_level.images_most, "known": at_level.known}
    whole = replace(chosen.measure, **counts)
    before, after, since = None, whole, None
    if own_threshold is not None and examples.own is not None:
        unseen = np.ones(len(labels), dtype=np.bool_) if examples.seen is None else ~examples.seen
        since = int((unseen & (labels == YES)).sum())
        if since >= LEAST:
            before = measure(examples.own > own_threshold, examples.own, labels, weight, unseen, groups)
            after = replace(measure(chosen.passed, way.scores, labels, weight, unseen, groups), **counts)
    gain = _gain(examples.x, labels, folds, used, scored) if yes >= _LEAST_TO_TELL else None
    told = advice(whole, yes, precision, differing=differing, is_reached=is_reached)
    if since is not None and since < yes:
        told += (
            f"; the table is of the {since} pictures that were named since the tag was taught before"
            if before is not None
            else "; before is not comparable, since the former head was made from these pictures"
        )
    return Fitted(
        head,
        threshold,
        is_reached,
        before,
        after,
        tuple(Candidate(each.way.method, each.measure) for each in judged),
        gain,
        gain is None or gain > _GAIN or not is_reached,
        told,
    )


def _teach(labels: NDArray[np.int8], folds: NDArray[np.int64]) -> bool:
    """Return whether the other folds of each fold have pictures named yes, and others."""
    is_yes = labels == YES
    return all((is_yes & (folds != fold)).any() and (~is_yes & (folds != fold)).any() for fold in range(FOLDS))


def _ways(
    examples: Examples,
    folds: NDArray[np.int64],
    used: NDArray[np.bool_],
    scored: NDArray[np.float32],
    tag_id: int,
) -> list[_Way]:
    """Return the ways to score the tag, the simplest first."""
    labels, everywhere = examples.labels, np.ones(len(examples.labels), dtype=np.bool_)
    nothing = np.empty(0, dtype=np.float32)
    ways = []
    if examples.own is not None and examples.is_own:
        own = Head(tag_id, "threshold", nothing)
        ways.append(_Way("threshold", examples.own, everywhere, lambda level: (own, score_of_own_logit(level))))
    if examples.described is not None:
        known = ~np.isnan(examples.described)
        named = Head(tag_id, "description", nothing)
        ways.append(_Way("description", examples.described, known, lambda level: (named, min(max(level, 0.0), 1.0))))
    if examples.own is not None and examples.is_own:
        both = np.column_stack([examples.x, examples.own])
        found = _held_out(both, labels, folds, used)

        def finish_both(level: float) -> tuple[Head, float]:
            made = regress(both[used], labels[used])
            return Head(tag_id, "own+head", made[:-2], float(made[-2]), float(made[-1]) - level), THRESHOLD

        ways.append(_Way("own+head", found, everywhere, finish_both))

    def finish(level: float) -> tuple[Head, float]:
        made = regress(examples.x[used], labels[used])
        return Head(tag_id, "head", made[:-1], 0.0, float(made[-1]) - level), THRESHOLD

    ways.append(_Way("head", scored, everywhere, finish))
    return ways


def _held_out(
    x: NDArray[np.float32], labels: NDArray[np.int8], folds: NDArray[np.int64], used: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return (N,) the logit of each picture by a head that was fitted on the ``used`` ones of the other folds."""
    scores = np.empty(len(labels), dtype=np.float32)
    for fold in range(FOLDS):
        inside, held = used & (folds != fold), folds == fold
        made = regress(x[inside], labels[inside])
        scores[held] = x[held] @ made[:-1] + made[-1]
    return scores


def _likely(scores: NDArray[np.float32], labels: NDArray[np.int8]) -> NDArray[np.bool_]:
    unnamed = labels == UNNAMED
    if not unnamed.any():
        return np.asarray(unnamed)
    level = max(np.quantile(scores[labels == YES], _LIKELY_SHARE), np.quantile(scores[unnamed], 1 - _MOST_LIKELY))
    return np.asarray(unnamed & (scores > level))


def _judge(
    way: _Way,
    labels: NDArray[np.int8],
    folds: NDArray[np.int64],
    groups: NDArray[np.int64],
    precision: float,
    others: int | None,
) -> _Judged:
    """Measure a way on each fold with the threshold that the others give."""
    weight = weight_of(labels[way.known], others)
    passed = np.zeros(len(labels), dtype=np.bool_)
    for fold in range(FOLDS):
        rest, held = way.known & (folds != fold), way.known & (folds == fold)
        level, _ = calibrate(way.scores[rest], labels[rest], precision, weight)
        passed[held] = way.scores[held] > level
    return _Judged(way, measure(passed, way.scores, labels, weight, way.known, groups), passed, weight)


def _best(judged: list[_Judged], labels: NDArray[np.int8]) -> _Judged:
    """Return the way with the highest average precision. Of nearly equal ones, the simplest.

    All are compared on the pictures that all of them scored.
    """
    common = np.logical_and.reduce([each.way.known for each in judged])
    is_yes = labels[common] == YES
    best, most = judged[0], -1.0
    for each in judged:
        found = average_precision(is_yes, each.way.scores[common])
        if found > most + _BETTER:
            best, most = each, found
    return best


def _gain(
    x: NDArray[np.float32],
    labels: NDArray[np.int8],
    folds: NDArray[np.int64],
    used: NDArray[np.bool_],
    scored: NDArray[np.float32],
) -> float:
    """Return by how much the average precision falls if heads are fitted on half of the pictures named yes.

    It is the mean over some halves, since with few pictures one half may be better than the other.
    """
    is_yes, falls = labels == YES, []
    whole, random = average_precision(is_yes, scored), np.random.default_rng(0)
    for _ in range(_HALVES):
        half = used.copy()
        for fold in range(FOLDS):
            own = random.permutation(np.flatnonzero(is_yes & (folds == fold)))
            half[own[: len(own) // 2]] = False
        falls.append(whole - average_precision(is_yes, _held_out(x, labels, folds, half)))
    return round(float(np.mean(falls)), 4)


__all__ = ["LEAST", "NO", "UNNAMED", "YES", "Candidate", "Examples", "Fitted", "TooFewError", "fit"]
