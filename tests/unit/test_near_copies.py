"""Near copies: by lists as by comparing every pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from storage.index import near_copies
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


def test_what_is_joined_already_is_not_compared_again_and_only_chosen_rows_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(near_copies, "TILE", 64)
    compared: list[int] = []

    def counting(*given: Any) -> np.ndarray:
        compared.append(len(given[0]) * len(given[1]))
        return own(*given)

    own = near_copies._near
    monkeypatch.setattr(near_copies, "_near", counting)
    vectors = planted(640, 0)
    vectors[100:] = vectors[100]
    vectors[500] = vectors[3]
    expected = [*range(100), *[100] * 400, 3, *[100] * 139]
    assert groups(vectors, 0.97).tolist() == expected
    assert sum(compared) < 640 * 640 / 2
    compared.clear()
    every_tenth = np.arange(0, 640, 10)
    assert groups(vectors, 0.97, rows=every_tenth).tolist() == [
        expected[row] if row in every_tenth and expected[row] in every_tenth else row for row in range(640)
    ]
    assert sum(compared) == 64 * 64


def test_long_work_can_be_ended() -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        groups(planted(100, 0), 0.97, between=stop)
