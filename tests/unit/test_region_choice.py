"""Which of many candidates are regions: by hand, and as laws that hold for any boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ram_core.errors import ModelError
from ram_core.localization.boxes import Kept, Kinds, Rules, choose, iou, suppress
from ram_core.localization.parts import Candidates

TAGS = ["dog", "poodle", "animal", "shirt"]
KINDS = Kinds({"poodle": ["dog"], "dog": ["animal"]})
HERE = (0.1, 0.1, 0.5, 0.5)
NEARLY = (0.1, 0.1, 0.5, 0.52)
ELSEWHERE = (0.6, 0.6, 0.9, 0.9)


def candidates(*rows: tuple[str, float, tuple[float, ...]]) -> Candidates:
    return Candidates(
        np.array([box for _, _, box in rows], dtype=np.float32).reshape(-1, 4),
        np.array([TAGS.index(tag) for tag, _, _ in rows], dtype=np.int64),
        np.array([score for _, score, _ in rows], dtype=np.float32),
    )


def left(kept: Kept) -> list[tuple[str, float]]:
    return [(TAGS[tag], round(float(score), 2)) for tag, score in zip(kept.tags, kept.scores, strict=True)]


def test_the_overlap_of_two_boxes() -> None:
    boxes = np.array([HERE, (0.3, 0.1, 0.7, 0.5), ELSEWHERE, (0.2, 0.2, 0.3, 0.3)], dtype=np.float32)
    np.testing.assert_allclose(iou(boxes[0], boxes), [1, 1 / 3, 0, 1 / 16], atol=1e-6)


def test_of_two_boxes_of_one_tag_at_one_place_the_better_stays() -> None:
    found = candidates(("dog", 0.4, HERE), ("dog", 0.8, NEARLY), ("dog", 0.5, ELSEWHERE))
    assert left(choose(found, TAGS, Rules(), KINDS)) == [("dog", 0.8), ("dog", 0.5)]


def test_a_box_falls_only_for_one_that_stays() -> None:
    # The second overlaps the first, the third only the second: without the second it is free.
    chain = [(0.0, 0.0, 0.4, 0.4), (0.1, 0.0, 0.5, 0.4), (0.2, 0.0, 0.6, 0.4)]
    found = candidates(*(("dog", 0.9 - i / 10, box) for i, box in enumerate(chain)))
    assert left(choose(found, TAGS, Rules(), KINDS)) == [("dog", 0.9), ("dog", 0.7)]


def test_different_things_may_be_at_one_place() -> None:
    found = candidates(("dog", 0.4, HERE), ("shirt", 0.8, HERE))
    assert left(choose(found, TAGS, Rules(), KINDS)) == [("shirt", 0.8), ("dog", 0.4)]


@pytest.mark.parametrize("scores", [(0.3, 0.9), (0.9, 0.3)])
def test_of_a_kind_and_the_more_general_tag_the_special_one_stays(scores: tuple[float, float]) -> None:
    special, general = scores
    found = candidates(("dog", general, HERE), ("poodle", special, NEARLY), ("dog", 0.5, ELSEWHERE))
    assert sorted(left(choose(found, TAGS, Rules(), KINDS))) == [("dog", 0.5), ("poodle", special)]


def test_kinds_of_kinds_count() -> None:
    found = candidates(("animal", 0.9, HERE), ("poodle", 0.3, HERE))
    assert left(choose(found, TAGS, Rules(), KINDS)) == [("poodle", 0.3)]
    found = candidates(("animal", 0.9, HERE), ("poodle", 0.3, HERE), ("dog", 0.6, HERE))
    assert left(choose(found, TAGS, Rules(), KINDS)) == [("poodle", 0.3)]


def test_without_a_hierarchy_both_stay() -> None:
    found = candidates(("dog", 0.9, HERE), ("poodle", 0.3, HERE))
    assert len(left(choose(found, TAGS, Rules(), Kinds()))) == 2


def test_of_synonyms_the_better_stays() -> None:
    both = Kinds({"dog": ["poodle"], "poodle": ["dog"]})
    found = candidates(("dog", 0.9, HERE), ("poodle", 0.3, HERE))
    assert left(choose(found, TAGS, Rules(), both)) == [("dog", 0.9)]
    assert both.above("dog") == {"poodle"}


def test_limits_keep_the_best_and_say_so() -> None:
    places = [(x / 10, 0.0, x / 10 + 0.05, 0.1) for x in range(9)]
    found = candidates(*(("dog", 0.5 + i / 100, box) for i, box in enumerate(places)), ("shirt", 0.4, HERE))
    kept = choose(found, TAGS, Rules(per_tag=3), KINDS)
    assert left(kept) == [("dog", 0.58), ("dog", 0.57), ("dog", 0.56), ("shirt", 0.4)]
    assert kept.is_cut
    assert not choose(found, TAGS, Rules(per_tag=9), KINDS).is_cut
    kept = choose(found, TAGS, Rules(per_picture=2), KINDS)
    assert left(kept) == [("dog", 0.58), ("dog", 0.57)]
    assert kept.is_cut


def test_boxes_end_at_the_picture_and_those_outside_are_none() -> None:
    found = candidates(("dog", 0.9, (-0.2, 0.5, 1.3, 1.1)), ("dog", 0.8, (1.1, 0, 1.2, 1)), ("dog", 0.7, (0.3,) * 4))
    kept = choose(found, TAGS, Rules(), KINDS)
    np.testing.assert_allclose(kept.boxes, [[0, 0.5, 1, 1]])


def test_nothing_found_is_nothing() -> None:
    kept = choose(candidates(), TAGS, Rules(), KINDS)
    assert kept.boxes.shape == (0, 4)
    assert not kept.is_cut


@pytest.mark.parametrize(
    "wrong", [{"threshold": -0.1}, {"threshold": 1.5}, {"overlap": 2}, {"per_tag": 0}, {"per_picture": 0}]
)
def test_rules_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ModelError):
        Rules(**wrong)  # type: ignore[arg-type]


def test_rules_and_kinds_are_in_a_fingerprint() -> None:
    assert Rules().name != Rules(threshold=0.3).name != Rules(per_tag=5).name
    assert Kinds({"a": ["b"]}).name != Kinds({"a": ["c"]}).name != Kinds().name
    assert Kinds({"a": ["c", "b"], "d": ["e"]}).name == Kinds({"d": ["e"], "a": ["b", "c"]}).name


corner = st.floats(-0.5, 1.5, width=32)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1, width=32), corner, corner, corner, corner), max_size=60),
    st.integers(1, 5),
    st.integers(1, 12),
)
def test_laws_of_the_choice(rows: list[tuple[int, float, float, float, float, float]], tag: int, picture: int) -> None:
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    found = Candidates(table[:, 2:], table[:, 0].astype(np.int64), table[:, 1])
    kept = choose(found, TAGS, Rules(per_tag=tag, per_picture=picture), KINDS)
    assert len(kept.scores) <= picture
    assert max(np.bincount(kept.tags, minlength=1)) <= tag
    assert (np.diff(kept.scores) <= 0).all()
    assert ((kept.boxes >= 0) & (kept.boxes <= 1)).all()
    assert (kept.boxes[:, 2:] > kept.boxes[:, :2]).all()
    for i, box in enumerate(kept.boxes):
        others = kept.boxes[i + 1 :]
        same = kept.tags[i + 1 :] == kept.tags[i]
        assert (iou(box, others)[same] <= 0.5).all()
    for name, generals in {"poodle": ["dog", "animal"], "dog": ["animal"]}.items():
        for box in kept.boxes[kept.tags == TAGS.index(name)]:
            general = kept.boxes[np.isin(kept.tags, [TAGS.index(each) for each in generals])]
            assert (iou(box, general) <= 0.5).all()


@given(st.lists(st.tuples(corner, corner, corner, corner), max_size=40), st.integers(1, 40))
def test_stopping_early_keeps_the_same_first_boxes(rows: list[tuple[float, ...]], most: int) -> None:
    boxes = np.sort(np.array(rows, dtype=np.float32).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    everything, _ = suppress(boxes, 0.5, 1000)
    some, more = suppress(boxes, 0.5, most)
    assert some.tolist() == everything[:most].tolist()
    assert more == (len(everything) > most)
