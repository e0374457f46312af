"""Vectors on disk: what a search reads of them, and that it finds the same as in memory."""

from __future__ import annotations

import itertools
import mmap
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from storage.index import ann, by_lists
from storage.index import mapped as mapping
from storage.index import vectors as searching
from storage.index.by_lists import look_up
from storage.index.mapped import FEW_BYTES, GAP_PAGES, MANY_WARM, PAGE, MappedFile, pieces
from storage.index.vectors import COARSE_FILE, Vectors, build_vectors, faiss, open_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZE, ROWS = 48, 3_000


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    """Return unit vectors around 300 centres, rounded as the database rounds them."""
    centres = np.random.default_rng(1).standard_normal((300, SIZE))
    rng = np.random.default_rng([2, seed])
    vectors = centres[rng.integers(0, 300, count)] + 0.7 * rng.standard_normal((count, SIZE))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16).astype(np.float32)


def _written(stream: BinaryIO, data: bytes) -> None:
    assert stream.write(data) == len(data)


def on_disk(vectors: Vectors, folder: Path) -> Vectors:
    folder.mkdir()
    for name, produce in vectors.files().items():
        with (folder / name).open("wb") as stream:
            produce(partial(_written, stream))
    return open_vectors(folder, vectors.facts())


@pytest.fixture(scope="module")
def in_memory() -> list[Vectors]:
    """Three parts with lists, of different sizes."""
    sizes = (ROWS, ROWS // 2, 2 * ROWS)
    return [
        ann.with_lists(build_vectors(clustered(size, seed).astype(np.float16)), flat_rows=1000)
        for seed, size in enumerate(sizes)
    ]


@pytest.fixture(scope="module")
def parts(in_memory: list[Vectors], tmp_path_factory: pytest.TempPathFactory) -> list[Vectors]:
    """The same in files."""
    folder = tmp_path_factory.mktemp("parts")
    return [on_disk(vectors, folder / str(number)) for number, vectors in enumerate(in_memory)]


@pytest.fixture(autouse=True)
def never_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are here, but they are to be searched like many."""
    monkeypatch.setattr(searching, "GATHERED_ROWS", 0)
    monkeypatch.setattr(by_lists, "SCANNED_PER_CANDIDATE", 0)


# What is read


@given(st.lists(st.tuples(st.integers(0, 100 * PAGE), st.integers(1, 3 * PAGE)), min_size=1, max_size=40))
def test_pieces_are_whole_pages_that_hold_all_places_and_lie_apart(places: list[tuple[int, int]]) -> None:
    starts, lengths = np.array(places, dtype=np.int64).T
    found = pieces(starts, lengths)
    for start, length in places:
        assert any(piece <= start and start + length <= piece + size for piece, size in found)
    assert all(piece % PAGE == size % PAGE == 0 for piece, size in found)
    for (one, size), (other, _) in itertools.pairwise(found):
        assert other > one + size + GAP_PAGES * PAGE
    wanted = {page for start, length in places for page in range(start // PAGE, -(-(start + length) // PAGE))}
    read = sum(size for _, size in found) // PAGE
    assert read <= len(wanted) + GAP_PAGES * (len(wanted) - len(found))


def test_no_places_are_nopieces() -> None:
    assert pieces(np.empty(0, dtype=np.int64), 5) == []


def test_the_last_rows_of_a_file_are_its_last_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"head" + bytes(range(60)))
    file = MappedFile(tmp_path / "file")
    assert len(file) == 64
    assert file.last(20, 3).tobytes() == bytes(range(60))
    file.fetch(np.array([0, 63]), 1)
    with pytest.raises(ValueError, match="64 bytes, fewer than 22 rows of 3"):
        file.last(22, 3)


def test_a_file_that_is_missing_or_empty_is_not_mapped(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MappedFile(tmp_path / "file")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="empty"):
        MappedFile(tmp_path / "file")


def test_rows_and_lists_lie_where_they_are_read_ahead(in_memory: list[Vectors], parts: list[Vectors]) -> None:
    for built, opened in zip(in_memory, parts, strict=True):
        rows = np.array([len(built) - 1, 0, 7])
        np.testing.assert_array_equal(opened.codes(rows), built.codes(rows))
        assert opened.mapped is not None
        assert opened.mapped.coarse is not None
        assert opened.mapped.list_starts is not None
        starts = opened.mapped.list_starts
        file = opened.mapped.coarse.last(len(opened.mapped.coarse), 1)[:, 0]
        lists = faiss.downcast_index(faiss.extract_index_ivf(built.coarse)).invlists
        for number in range(len(starts) - 1):
            size = lists.list_size(number)
            here = file[starts[number] : starts[number + 1]]
            codes = faiss.rev_swig_ptr(lists.get_codes(number), size * lists.code_size)
            ids = faiss.rev_swig_ptr(lists.get_ids(number), size)
            assert here.tobytes() == codes.tobytes() + ids.tobytes()


def test_everything_is_asked_for_before_it_is_read(parts: list[Vectors], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[MappedFile, set[int]]] = []

    def note(file: MappedFile, starts: NDArray[np.int64], lengths: Any) -> None:
        ends = starts + lengths
        asked.append(
            (file, {byte for start, end in zip(starts.tolist(), ends.tolist(), strict=True) for byte in (start, end)})
        )

    monkeypatch.setattr(MappedFile, "fetch", note)
    found = look_up([(part, None) for part in parts], clustered(1, 9)[0], 10)
    assert found is not None
    mapped = [part.mapped for part in parts if part.mapped is not None]
    assert [file for file, _ in asked] == [each.coarse for each in mapped] + [each.exact for each in mapped]
    for part, (rows, _), (file, places) in zip(parts, found, asked[len(parts) :], strict=True):
        ends = [len(file) - (len(part) - 1 - row) * 2 * SIZE for row in rows.tolist()]
        assert set(ends) <= places


def test_a_scan_asks_for_all_vectors_at_once(parts: list[Vectors], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[MappedFile, list[int], int]] = []
    monkeypatch.setattr(MappedFile, "ask", lambda file, starts, lengths: asked.append((file, starts.tolist(), lengths)))
    parts[0].search(clustered(1, 9)[0], 10, by_lists=False)
    assert parts[0].mapped is not None
    assert asked == [(parts[0].mapped.exact, [0], len(parts[0].mapped.exact))]


def test_opening_asks_for_what_every_search_reads(
    in_memory: list[Vectors], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[int], int]] = []
    monkeypatch.setattr(MappedFile, "ask", lambda _, starts, lengths: asked.append((starts.tolist(), lengths)))
    opened = on_disk(in_memory[0], tmp_path / "part")
    assert opened.mapped is not None
    assert opened.mapped.list_starts is not None
    size = (tmp_path / "part" / COARSE_FILE).stat().st_size
    ((start, end),) = asked
    assert start == [0]
    # All that comes before the lists, but for a few numbers.
    before_lists = size - len(opened) * (faiss.extract_index_ivf(opened.coarse).code_size + 8)
    assert before_lists - 8 * 150 - 1_000 < end <= before_lists == opened.mapped.list_starts[0]


READ, NOTHING = 10**6, 0


@pytest.mark.parametrize(
    ("reads", "asked_after"),
    [
        ([READ, NOTHING], True),  # the same query twice
        ([READ] + [NOTHING] * (MANY_WARM - 1), True),
        ([READ] + [NOTHING] * MANY_WARM, False),
        ([READ] + [FEW_BYTES] * MANY_WARM, False),
        ([READ] + [NOTHING] * (MANY_WARM - 1) + [READ] + [NOTHING] * (MANY_WARM - 1), True),
        ([READ] + [NOTHING] * MANY_WARM + [READ], True),
        ([NOTHING] * 3 * MANY_WARM, True),  # a file system that does not count
    ],
)
def test_a_file_is_asked_for_until_many_searches_in_a_row_found_all_in_memory(
    reads: list[int], asked_after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[MappedFile] = []
    monkeypatch.setattr(MappedFile, "ask", lambda file, *_: asked.append(file))
    (tmp_path / "file").write_bytes(b"1")
    file = MappedFile(tmp_path / "file")
    for read in reads:
        file.learn(read)
    file.fetch(np.array([0]), 1)
    assert asked == [file] * asked_after


def test_searches_learn_from_both_files_what_they_read(parts: list[Vectors], monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[tuple[MappedFile, int]] = []
    counts = itertools.count(step=100)
    monkeypatch.setattr(MappedFile, "learn", lambda file, read: learned.append((file, read)))
    for module in (mapping, by_lists):
        monkeypatch.setattr(module, "disk_bytes", lambda: next(counts))
    monkeypatch.setattr(Vectors, "best_among", _scored)
    look_up([(parts[0], None)], clustered(1, 9)[0], 10)
    mapped = parts[0].mapped
    assert mapped is not None
    assert learned == [(mapped.coarse, 100), (mapped.exact, 100)]


def _scored(self: Vectors, rows: NDArray[Any], query: NDArray[np.float32], k: int, **_: bool) -> Any:
    return rows[:k], np.ones(len(rows[:k]), dtype=np.float32)


def test_a_system_that_takes_no_advice_is_searched_all_the_same(
    in_memory: list[Vectors], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(mmap, "MADV_RANDOM")
    monkeypatch.delattr(mmap, "MADV_WILLNEED")
    opened = on_disk(in_memory[1], tmp_path / "part")
    query = clustered(1, 9)[0]
    assert opened.search(query, 10)[0].tolist() == in_memory[1].search(query, 10)[0].tolist()


# What is found


@pytest.mark.parametrize("k", [1, 10, 60])
def test_files_give_the_same_rows_and_scores_as_memory(in_memory: list[Vectors], parts: list[Vectors], k: int) -> None:
    for query in clustered(10, 9):
        for selected in (None, BitMap(range(40)), BitMap(range(5, 1400))):
            for built, opened in zip(in_memory, parts, strict=True):
                one, other = built.search(query, k, selected), opened.search(query, k, selected)
                assert [column.tolist() for column in one] == [column.tolist() for column in other]
        built_parts, opened_parts = (look_up([(part, None) for part in some], query, k) for some in (in_memory, parts))
        assert _listed(built_parts) == _listed(opened_parts)


def test_parts_searched_together_find_the_best_of_all_of_them(parts: list[Vectors]) -> None:
    good = 0
    queries = clustered(40, 9)
    for query in queries:
        found = _listed(look_up([(part, None) for part in parts], query, 10))
        truth = _ranked(parts, query)
        scores = {(number, row): score for score, number, row in truth}
        assert all(score == scores[number, row] for score, number, row in found)
        good += len({place[1:] for place in found} & {place[1:] for place in truth[:10]})
    assert good >= 0.98 * 10 * len(queries)


def test_parts_searched_together_find_only_what_is_selected(parts: list[Vectors]) -> None:
    rng = np.random.default_rng(4)
    good = 0
    queries = clustered(20, 9)
    for query in queries:
        chosen = [
            BitMap(np.flatnonzero(rng.random(len(part)) < share))
            for part, share in zip(parts, (0.9, 0.5, 0.2), strict=True)
        ]
        found = _listed(look_up(list(zip(parts, chosen, strict=True)), query, 10))
        assert len(found) == 10
        assert all(row in chosen[number] for _, number, row in found)
        truth = _ranked(parts, query, chosen)
        good += len({place[1:] for place in found} & {place[1:] for place in truth[:10]})
    assert good >= 0.98 * 10 * len(queries)


def test_more_than_there_are_gives_all_of_them(parts: list[Vectors]) -> None:
    chosen = [BitMap([3, 5]), BitMap([8]), BitMap([0, 1])]
    found = _listed(look_up(list(zip(parts, chosen, strict=True)), clustered(1, 9)[0], 20))
    assert sorted(place[1:] for place in found) == [(0, 3), (0, 5), (1, 8), (2, 0), (2, 1)]


def test_a_part_by_itself_is_searched_with_its_own_effort(parts: list[Vectors]) -> None:
    """The number of candidates grows with the number of parts, from what was measured for one."""
    part = parts[0]
    assert part.tuning is not None
    asked: list[int] = []

    class Noted(Vectors):
        def fetch(self, rows: NDArray[Any]) -> None:
            asked.append(len(rows))

    noted = Noted(part.exact, part.coarse, replace(part.tuning, candidates=50), part.mapped)
    look_up([(noted, None)], clustered(1, 9)[0], 10)
    assert asked == [50]
    asked.clear()
    look_up([(noted, None)] * 4, clustered(1, 9)[0], 10)
    assert sum(asked) == int(50 * 4**by_lists.PARTS_POWER)


def _ranked(
    parts: list[Vectors], query: NDArray[np.float32], chosen: list[BitMap] | None = None
) -> list[tuple[float, int, int]]:
    """Return (score, part, row) of all rows, or all that are chosen, best first."""
    scanned = [part.search(query, len(part), by_lists=False) for part in parts]
    ranked = sorted(_listed(scanned), reverse=True)
    return ranked if chosen is None else [place for place in ranked if place[2] in chosen[place[1]]]


def _listed(found: list[tuple[NDArray[np.int64], NDArray[np.float32]]] | None) -> list[tuple[float, int, int]]:
    """Return (score, part, row)."""
    assert found is not None
    return [
        (score, number, row)
        for number, (rows, scores) in enumerate(found)
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
    ]
