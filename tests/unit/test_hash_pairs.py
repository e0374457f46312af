"""Pairs of hashes that differ in few bits, and groups of near copies around the largest picture."""

from __future__ import annotations

import numpy as np
import pytest

from storage.index import hash_pairs
from storage.index.hash_pairs import HashPairs, near_pairs
from storage.index.near_groups import Stars, stars
from tests.photographs import photographs

ONE = np.uint64(1)


def made_up(count: int, seed: int = 0) -> np.ndarray:
    """Random hashes, half of them like another one but for 0 to 10 bits."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    for n in range(0, count, 2):
        bits = rng.choice(64, rng.integers(0, 11), replace=False).astype(np.uint64)
        hashes[n] = hashes[n + 1] ^ np.bitwise_or.reduce(ONE << bits, initial=np.uint64(0))
    return np.unique(hashes)


@pytest.mark.parametrize("distance", range(8))
def test_all_pairs_up_to_seven_bits_are_found_once(distance: int) -> None:
    hashes = made_up(800)
    found = near_pairs(hashes, distance)
    left, right = np.nonzero(np.triu(np.bitwise_count(hashes[:, None] ^ hashes) <= distance, 1))
    assert sorted(zip(found.left.tolist(), found.right.tolist(), strict=True)) == list(
        zip(left.tolist(), right.tolist(), strict=True)
    )
    assert not found.is_common.any()


def test_most_pairs_of_eight_bits_are_found() -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2**64, 2_000, dtype=np.uint64)
    flips = [np.bitwise_or.reduce(ONE << rng.choice(64, 8, replace=False).astype(np.uint64)) for _ in base]
    hashes = np.unique(np.concatenate([base, base ^ np.array(flips)]))
    assert 0.93 < len(near_pairs(hashes, 8).left) / len(base) < 0.98


def test_hashes_with_too_many_neighbours_are_given_up_and_said() -> None:
    rng = np.random.default_rng(2)
    crowd = np.unique(rng.integers(0, 2**8, 200, dtype=np.uint64))
    pair = np.array([0xFFFF_0000_FFFF_0000, 0xFFFF_0000_FFFF_0001], dtype=np.uint64)
    hashes = np.concatenate([crowd, pair])
    found = near_pairs(hashes, 8, most=50)
    assert found.is_common[: len(crowd)].all()
    assert (found.left.tolist(), found.right.tolist()) == ([len(crowd)], [len(crowd) + 1])


def test_pairs_are_bounded_by_the_number_of_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_pairs, "PAIRS_EACH", 2)
    hashes = np.arange(3_000, dtype=np.uint64)
    found = near_pairs(hashes, 8, most=200)
    assert len(found.left) <= 2 * len(hashes)
    assert found.is_common.any()


def test_nothing_and_one_have_no_pairs() -> None:
    for hashes in ([], [5]):
        assert len(near_pairs(np.array(hashes, dtype=np.uint64), 8).left) == 0


def test_the_search_can_be_ended() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        near_pairs(made_up(100), 8, between=stop)


def grouped(hashes: np.ndarray, vectors: np.ndarray, cosine: float = 0.75, distance: int = 8) -> Stars:
    """Group images whose ids are 10, 11, …, the first one the largest."""
    values = np.unique(hashes)
    ids = np.arange(len(hashes)) + 10
    pairs = (values, near_pairs(values, distance))
    return stars(ids, hashes, np.arange(len(hashes)), vectors.astype(np.float16), pairs, cosine)


def chain(count: int, step: int) -> np.ndarray:
    """Hashes each of which differs from the one before in ``step`` more bits."""
    lengths = [min(64, n * step) for n in range(count)]
    return np.array([(1 << length) - 1 for length in lengths], dtype=np.uint64)


def test_a_chain_of_slight_changes_does_not_join_its_ends() -> None:
    hashes = chain(16, 4)
    found = grouped(hashes, np.ones((16, 1)))
    assert len(np.unique(found.groups)) >= 5
    for image, group in zip(found.ids - 10, found.groups - 10, strict=True):
        assert np.bitwise_count(hashes[image] ^ hashes[group]) <= 8


def test_thousands_of_unlike_pictures_that_are_linked_step_by_step_stay_apart() -> None:
    rng = np.random.default_rng(3)
    hashes = [rng.integers(0, 2**64, dtype=np.uint64)]
    for _ in range(3_000):
        bits = rng.choice(64, 3, replace=False).astype(np.uint64)
        hashes.append(hashes[-1] ^ np.bitwise_or.reduce(ONE << bits))
    found = grouped(np.array(hashes), np.ones((len(hashes), 1)))
    assert np.unique(found.groups, return_counts=True)[1].max() < 12
    assert (found.distances <= 8).all()


def test_vectors_decide_between_pictures_of_the_same_hash() -> None:
    hashes = np.full(4, 0xABCD, dtype=np.uint64)
    vectors = np.array([[1, 0], [0, 1], [0.96, 0.28], [0.28, 0.96]])
    found = grouped(hashes, vectors)
    assert (found.ids.tolist(), found.groups.tolist()) == ([10, 11, 12, 13], [10, 11, 10, 11])
    assert found.cosines.tolist() == pytest.approx([1, 1, 0.96, 0.96], abs=0.001)


def test_the_first_in_order_is_the_middle() -> None:
    hashes = np.array([0b0011, 0b0111, 0b1111], dtype=np.uint64)
    values = np.unique(hashes)
    found = stars(
        np.array([4, 5, 6]),
        hashes,
        np.array([2, 0, 1]),
        np.ones((3, 1), dtype=np.float16),
        (values, near_pairs(values, 8)),
        0.75,
    )
    assert (found.groups.tolist(), found.distances.tolist()) == ([6, 6, 6], [2, 1, 0])


def test_many_equal_pictures_are_one_group_and_many_unlike_ones_of_a_hash_end() -> None:
    same = grouped(np.full(20_000, 7, dtype=np.uint64), np.ones((20_000, 1)))
    assert np.unique(same.groups).tolist() == [10]
    rng = np.random.default_rng(4)
    unlike = rng.standard_normal((3_000, 64))
    unlike /= np.linalg.norm(unlike, axis=1, keepdims=True)
    found = grouped(np.full(3_000, 7, dtype=np.uint64), unlike)
    assert found.common > 2_000
    assert len(found.ids) == 0


def test_photographs_that_differ_have_hashes_that_differ() -> None:
    from PIL import Image  # noqa: PLC0415

    from ram_core.picture_hashes import shape_of  # noqa: PLC0415

    shapes = []
    for path in photographs(40)[:40]:
        with Image.open(path) as opened:
            shapes.append(shape_of(np.asarray(opened.convert("RGB").resize((260, 260)))))
    hashes = np.unique(np.array(shapes, dtype=np.int64).view(np.uint64))
    assert len(near_pairs(hashes, 8).left) <= 1


def test_pairs_are_in_order() -> None:
    found = near_pairs(made_up(500), 6)
    assert isinstance(found, HashPairs)
    assert (found.left < found.right).all()
