"""Near copies: by lists as by comparing every pair."""

from __future__ import annotations

import numpy as np

from storage.index.near_copies import connected, groups


def planted(count: int, copies: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((count, 64)).astype(np.float32)
    near = vectors[:copies] + 0.05 * rng.standard_normal((copies, 64)).astype(np.float32)
    vectors = np.concatenate([vectors, near])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def test_lists_find_the_same_groups_as_comparing_all_pairs() -> None:
    vectors = planted(4000, 500)
    exact = groups(vectors, 0.97)
    assert exact[4000:].tolist() == list(range(500))
    assert groups(vectors, 0.97, exact_rows=100).tolist() == exact.tolist()


def test_a_chain_of_near_copies_is_one_group_and_many_copies_of_one_picture_too() -> None:
    angles = np.concatenate([np.arange(5) * 0.2, np.full(3000, 2.0)])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    assert groups(vectors, 0.97).tolist() == [0] * 5 + [5] * 3000


def test_rows_are_connected_through_others() -> None:
    edges = np.array([[9, 8], [8, 7], [3, 9], [0, 1]])
    assert connected(10, edges).tolist() == [0, 0, 2, 3, 4, 5, 6, 3, 3, 3]
