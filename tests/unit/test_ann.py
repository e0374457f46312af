"""The vectors of a part: exact where few, measured where many."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyroaring import BitMap

from storage.index import ann, by_lists
from storage.index import vectors as searching
from storage.index.bitmaps import bitmap_where, packed
from storage.index.vectors import EXACT_FILE, GATHERED_ROWS, Tuning, Vectors, build_vectors, in_one_thread, open_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = 48
ROWS = 14_000


def clustered(count: int, seed: int = 0, size: int = SIZE) -> NDArray[np.float32]:
    """Return unit vectors around 300 centres, rounded as the database rounds them."""
    centres = np.random.default_rng(1).standard_normal((300, size))
    rng = np.random.default_rng([2, seed])
    vectors = centres[rng.integers(0, 300, count)] + 0.7 * rng.standard_normal((count, size))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16).astype(np.float32)


def built(rows: NDArray[np.float32], flat_rows: int = ann.FLAT_ROWS) -> Vectors:
    return ann.with_lists(build_vectors(rows.astype(np.float16)), flat_rows=flat_rows)


@pytest.fixture(scope="module")
def many() -> Vectors:
    return built(np.concatenate([clustered(ROWS // 2, seed) for seed in (0, 1)]), flat_rows=10_000)


@pytest.fixture
def never_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists have to find everything, however long a scan would be the faster way."""
    monkeypatch.setattr(searching, "GATHERED_ROWS", 0)
    monkeypatch.setattr(searching, "GATHERED_SHARE", ROWS)
    monkeypatch.setattr(by_lists, "SCANNED_PER_CANDIDATE", 0)


def few(count: int = 500) -> Vectors:
    return built(clustered(count))


def by_hand(vectors: NDArray[np.float32], query: NDArray[np.float32], k: int, rows: list[int]) -> list[int]:
    scores = vectors[rows] @ query
    return [rows[place] for place in np.argsort(-scores, kind="stable")[:k]]


# Which index


def test_few_rows_are_scanned_and_many_are_looked_up() -> None:
    assert ann.choose(0).lists == 0
    assert ann.choose(ann.FLAT_ROWS).lists == 0
    assert ann.choose(ann.FLAT_ROWS + 1).lists > 0
    assert few().coarse is None


@pytest.mark.parametrize("rows", [20_001, 10**5, 10**6, 2 * 10**6, 10**8])
def test_lists_grow_with_the_root_of_the_rows_and_are_learnt_from_a_bounded_sample(rows: int) -> None:
    plan = ann.choose(rows)
    assert plan.lists <= 4 * rows**0.5
    assert plan.training_rows <= rows
    assert plan.training_rows >= 40 * plan.lists
    assert plan.training_rows <= 160 * rows**0.5


def test_the_number_from_which_rows_get_lists_can_be_lowered() -> None:
    vectors = built(clustered(400), flat_rows=100)
    assert vectors.tuning is not None
    assert vectors.tuning.lists == 10


# Exact


def test_few_vectors_are_found_as_by_hand() -> None:
    vectors = few()
    for query in clustered(20, seed=9):
        rows, scores = vectors.search(query, 12)
        assert rows.tolist() == by_hand(clustered(500), query, 12, list(range(500)))
        np.testing.assert_allclose(scores, clustered(500)[rows] @ query, atol=1e-6)


def test_a_search_among_none_and_for_more_than_there_are_is_answered() -> None:
    query = clustered(1, seed=9)[0]
    assert len(built(np.empty((0, SIZE), dtype=np.float32)).search(query, 3)[0]) == 0
    assert len(few().search(query, 3, BitMap())[0]) == 0
    assert len(few().search(query, 10_000)[0]) == 500
    assert sorted(few().search(query, 10_000, BitMap([3, 7]))[0].tolist()) == [3, 7]


def test_a_row_gives_its_vector_back(many: Vectors) -> None:
    np.testing.assert_array_equal(many.vector(ROWS - 1), clustered(ROWS // 2, 1)[-1])


def test_all_ways_to_search_give_a_row_the_same_score_bit_by_bit(many: Vectors) -> None:
    exact = Vectors(many.exact)
    for query in clustered(20, seed=9):
        scanned = dict(zip(*(column.tolist() for column in exact.search(query, ROWS)), strict=True))
        for rows, scores in (
            many.search(query, 25),
            many.search(query, 25, BitMap(range(7, 3000, 3))),
            many.search(query, 25, BitMap(range(3, ROWS))),
        ):
            assert scores.tolist() == [scanned[row] for row in rows.tolist()]


# Measured


def test_the_recall_that_is_stored_is_the_recall_that_is_measured_and_is_enough(many: Vectors) -> None:
    assert many.tuning is not None
    assert many.tuning.recall == round(ann.recall(many, ann.made_up_queries(many)), 4)
    assert many.tuning.recall >= ann.ENOUGH_RECALL


def test_recall_counts_what_was_missed(many: Vectors) -> None:
    queries = clustered(64, seed=9)
    assert many.tuning is not None
    blind = Vectors(many.exact, many.coarse, Tuning("", many.tuning.lists, 1, 10, 0.0, 0, 0.0))
    truth = [set(Vectors(many.exact).search(query, 10)[0].tolist()) for query in queries]
    found = [set(blind.search(query, 10)[0].tolist()) for query in queries]
    expected = np.mean([len(one & other) for one, other in zip(truth, found, strict=True)]) / 10
    assert ann.recall(blind, queries) == pytest.approx(expected)
    assert expected < 0.95


@pytest.mark.usefixtures("never_scanned")
@pytest.mark.parametrize("k", [10, 100, 400])
def test_vectors_that_were_held_out_find_nearly_all_their_neighbours(many: Vectors, k: int) -> None:
    assert ann.recall(many, clustered(64, seed=9), k) >= 0.98


def test_data_without_neighbourhoods_get_more_effort_than_data_with_them(many: Vectors) -> None:
    noise = np.random.default_rng(5).standard_normal((ROWS, SIZE)).astype(np.float32)
    shapeless = built(noise / np.linalg.norm(noise, axis=1, keepdims=True), flat_rows=10_000)
    assert shapeless.tuning is not None
    assert many.tuning is not None
    assert shapeless.tuning.probes > many.tuning.probes
    assert shapeless.tuning.recall >= 0.95


def test_many_equal_pictures_are_as_good_as_each_other() -> None:
    same = np.repeat(clustered(50), 60, axis=0)
    vectors = built(same, flat_rows=1000)
    assert vectors.tuning is not None
    assert vectors.tuning.recall >= ann.ENOUGH_RECALL


@pytest.mark.parametrize("kinds", [64, 1000])
def test_pictures_that_are_kept_many_times_are_found_and_crowd_out_nothing(kinds: int) -> None:
    """Centroids lie on them, up to the last digits, where FAISS' rounding breaks down."""
    some = np.random.default_rng(3).standard_normal((kinds, 64))
    rows = np.tile(some / np.linalg.norm(some, axis=1, keepdims=True), (24_000 // kinds, 1)).astype(np.float32)
    vectors = built(rows)
    assert vectors.tuning is not None
    assert vectors.tuning.recall >= ann.ENOUGH_RECALL
    for row in range(0, len(rows), 97):
        assert vectors.search(rows[row], 1)[1][0] == pytest.approx(1, abs=2e-3)


def test_lists_that_find_too_little_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "EFFORTS", ((1, 10),))
    shapeless = np.random.default_rng(4).standard_normal((4_000, SIZE))
    vectors = built(shapeless / np.linalg.norm(shapeless, axis=1, keepdims=True), flat_rows=1_000)
    assert (vectors.coarse, vectors.tuning) == (None, None)


def test_made_up_queries_are_unit_vectors_and_none_of_the_rows(many: Vectors) -> None:
    queries = ann.made_up_queries(many)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1.0, atol=1e-5)
    assert max(Vectors(many.exact).search(query, 1)[1][0] for query in queries) < 0.99
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]], dtype=np.float32)
    assert np.all(np.isfinite(ann.made_up_queries(built(opposite))))


# Among some


@pytest.mark.parametrize("count", [1, 9, 200, GATHERED_ROWS])
def test_a_narrow_selection_is_searched_exactly(many: Vectors, count: int) -> None:
    everything = np.concatenate([clustered(ROWS // 2, seed) for seed in (0, 1)])
    selected = np.sort(np.random.default_rng(count).choice(ROWS, count, replace=False)).tolist()
    for query in clustered(5, seed=9):
        rows, _ = many.search(query, 10, BitMap(selected))
        expected = by_hand(everything, query, 10, selected)
        np.testing.assert_allclose(everything[rows] @ query, everything[expected] @ query, atol=1e-6)
        assert set(rows.tolist()) <= set(selected)


@pytest.mark.usefixtures("never_scanned")
@pytest.mark.parametrize("share", [0.999, 0.75, 0.3, 0.05])
def test_a_selection_at_random_finds_nearly_all_of_its_best(many: Vectors, share: float) -> None:
    selected = BitMap(np.flatnonzero(np.random.default_rng(3).random(ROWS) < share).astype(np.uint32))
    assert _share_found(many, clustered(32, seed=9), [selected] * 32) >= 0.99


@pytest.mark.parametrize("scanned_per_candidate", [0, by_lists.SCANNED_PER_CANDIDATE])
@pytest.mark.parametrize("left_out", [20, 200, 700, 7000, ROWS - 3000])
def test_a_selection_that_leaves_out_just_the_nearest_finds_the_next(
    many: Vectors, never_scanned: None, monkeypatch: pytest.MonkeyPatch, left_out: int, scanned_per_candidate: int
) -> None:
    """As "dog -dog" does, of which most pictures are no dogs; or a filter by what the query has nothing to do with."""
    monkeypatch.setattr(by_lists, "SCANNED_PER_CANDIDATE", scanned_per_candidate)
    queries = clustered(16, seed=9)
    ranked = [Vectors(many.exact).search(query, ROWS)[0] for query in queries]
    assert _share_found(many, queries, [BitMap(rows[left_out:].tolist()) for rows in ranked]) >= 0.95


def _share_found(vectors: Vectors, queries: NDArray[np.float32], selections: list[BitMap]) -> float:
    """Return the share of the best ten of each selection that are found; nothing but what is selected may be."""
    shares = []
    for query, selected in zip(queries, selections, strict=True):
        found, _ = vectors.search(query, 10, selected)
        assert set(found.tolist()) <= set(selected)
        truth, _ = Vectors(vectors.exact).search(query, 10, selected)
        assert len(found) == len(truth) == 10
        shares.append(len(np.intersect1d(found, truth)) / 10)
    return float(np.mean(shares))


@given(
    st.sets(st.integers(0, 200_000), max_size=300), st.sets(st.tuples(st.integers(0, 190_000), st.integers(1, 9000)))
)
@example(set(), {(0, 65_536), (70_000, 5000), (131_072, 4096), (196_608, 4097)})
@example(set(), {(0, 200_001)})
def test_bits_say_the_same_as_the_set(members: set[int], runs: set[tuple[int, int]]) -> None:
    selected = BitMap(members)
    for start, length in runs:
        selected.add_range(start, min(start + length, 200_001))
    expected = np.zeros(200_001, dtype=np.bool_)
    expected[np.array(selected.to_array(), dtype=np.int64)] = True
    np.testing.assert_array_equal(packed(selected, 200_001), np.packbits(expected, bitorder="little"))
    assert bitmap_where(expected) == selected
    selected.run_optimize()
    np.testing.assert_array_equal(packed(selected, 200_001), np.packbits(expected, bitorder="little"))


def test_scattered_dense_and_listed_members_become_bits() -> None:
    for share in (0, 0.001, 0.03, 0.0625, 0.5, 0.97, 1):
        is_member = np.random.default_rng(0).random(300_007) < share
        selected = BitMap(np.flatnonzero(is_member).astype(np.uint32))
        np.testing.assert_array_equal(packed(selected, 300_007), np.packbits(is_member, bitorder="little"))
        assert bitmap_where(is_member) == selected


# Files, threads, devices


def stored(vectors: Vectors, folder: Path) -> Any:
    for name, produce in vectors.files().items():
        written: list[bytes] = []
        produce(written.append)
        (folder / name).write_bytes(b"".join(written))
    return json.loads(json.dumps(vectors.facts()))


def test_mapped_files_give_the_same_answers(many: Vectors, tmp_path: Path) -> None:
    mapped = open_vectors(tmp_path, stored(many, tmp_path))
    assert mapped.tuning == many.tuning
    for query in clustered(20, seed=9):
        for selected in (None, BitMap(range(50)), BitMap(range(ROWS - 3))):
            for one, other in zip(mapped.search(query, 10, selected), many.search(query, 10, selected), strict=True):
                np.testing.assert_array_equal(one, other)


def test_few_vectors_have_one_file(tmp_path: Path) -> None:
    assert stored(few(), tmp_path) is None
    assert [file.name for file in tmp_path.iterdir()] == [EXACT_FILE]
    assert open_vectors(tmp_path, None).coarse is None


def test_files_of_different_parts_are_not_opened_together(many: Vectors, tmp_path: Path) -> None:
    tuning = stored(many, tmp_path)
    stored(few(), tmp_path)
    with pytest.raises(ValueError, match="14000 rows"):
        open_vectors(tmp_path, tuning)


def test_threads_with_different_efforts_do_not_disturb_each_other(many: Vectors) -> None:
    queries = clustered(60, seed=9)
    wishes = [(1, None), (10, None), (300, None), (10, BitMap(range(0, ROWS, 2))), (10, BitMap(range(900)))]
    alone = [[many.search(query, k, selected)[0].tolist() for query in queries] for k, selected in wishes]
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            together = [
                [threads.submit(many.search, query, k, selected) for query in queries] for k, selected in wishes
            ]
            assert [[search.result()[0].tolist() for search in row] for row in together] == alone


def test_a_search_leaves_the_number_of_threads_as_it_was(many: Vectors) -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        many.search(clustered(1)[0], 10)
        assert faiss.omp_get_max_threads() == 3
        with in_one_thread(), ThreadPoolExecutor(1) as other:
            assert faiss.omp_get_max_threads() == 1
            assert other.submit(faiss.omp_get_max_threads).result() != 1 or before == 1
    finally:
        faiss.omp_set_num_threads(before)


def test_the_same_rows_give_the_same_index() -> None:
    one, other = (built(clustered(3000), flat_rows=1000) for _ in range(2))
    np.testing.assert_array_equal(faiss.serialize_index(one.exact), faiss.serialize_index(other.exact))
    np.testing.assert_array_equal(faiss.serialize_index(one.coarse), faiss.serialize_index(other.coarse))


def test_a_gpu_does_the_work_on_centroids_and_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    without = built(clustered(3000), flat_rows=1000)
    moved: list[int] = []

    def to_gpus(index: Any) -> Any:
        moved.append(index.ntotal)
        return faiss.clone_index(index)

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", to_gpus, raising=False)
    with_gpu = built(clustered(3000), flat_rows=1000)
    assert moved == [0, ann.choose(3000, flat_rows=1000).lists]
    np.testing.assert_array_equal(faiss.serialize_index(with_gpu.coarse), faiss.serialize_index(without.coarse))


def test_a_gpu_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def out_of_memory(index: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", out_of_memory, raising=False)
    assert built(clustered(3000), flat_rows=1000).coarse is not None
    assert "without the GPU" in caplog.text


def test_what_fails_without_a_gpu_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(exact: Any, plan: ann.Plan, moved: Any) -> Any:
        raise RuntimeError("no")

    monkeypatch.setattr(ann, "_coarse", broken)
    with pytest.raises(RuntimeError):
        built(clustered(3000), flat_rows=1000)
