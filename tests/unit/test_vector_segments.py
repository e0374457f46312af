from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import faiss
import numpy as np
import pytest
from pyroaring import BitMap

from storage.errors import ServiceUnavailableError, UsageError
from storage.index import segment as segments
from storage.index.ann import made_up_queries, recall, with_lists
from storage.index.file_storage import BucketStorage, FolderStorage, open_storage
from storage.index.manifest import DamagedError, Manifest, SegmentEntry, decode
from storage.index.part import Part, build_part
from storage.index.store import SegmentStore
from storage.index.vectors import COARSE_FILE, EXACT, EXACT_FILE, Vectors, build_vectors
from storage.results.packing import pack_vectors, unpack_vectors
from tests.plain_rows import PlainRow, raw

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SIZE = 16
UNITS = np.full(8, 1000, dtype=np.int32)


def unit_vectors(count: int, seed: int = 0, size: int = SIZE) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)
    rounded = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    return rounded.astype(np.float32)


def a_part(count: int = 200) -> Part:
    """Return a part of two chunks; image ids are 1, 4, 7, ..."""
    rows = [PlainRow(3 * n + 1, f"{n}.jpg".encode(), {n % 7: 9000, 7: 10 * n}, archive=n % 3) for n in range(count)]
    codes = unit_vectors(count).astype(np.float16)
    return build_part([(raw(rows[:90]), codes[:90]), (raw(rows[90:]), codes[90:])], SIZE, UNITS)


def a_part_with_lists() -> Part:
    part = a_part(500)
    return replace(part, vectors=with_lists(part.vectors, flat_rows=100))


def written(folder: Path, part: Part | None = None) -> str:
    folder.mkdir()
    return segments.write(part or a_part(), folder, generation_id=1, lo=5, hi=9)


# Packing


def test_a_packed_vector_comes_back_as_float16_rounded_it() -> None:
    vectors = unit_vectors(50)
    packed = pack_vectors(vectors)
    assert {len(row) for row in packed} == {2 * SIZE}
    np.testing.assert_array_equal(unpack_vectors(b"".join(packed), SIZE), vectors)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3.0])
def test_a_vector_that_is_not_finite_or_not_of_unit_length_is_refused_with_its_row(bad: float) -> None:
    vectors = unit_vectors(5)
    vectors[3, 2] = bad
    with pytest.raises(ValueError, match="vector 3 of 5"):
        pack_vectors(vectors)


def test_a_zero_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="length 0"):
        pack_vectors(np.zeros((1, SIZE), dtype=np.float32))


@pytest.mark.parametrize("shape", [(SIZE,), (2, 0), (1, 2, SIZE)])
def test_what_is_not_a_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        pack_vectors(np.zeros(shape, dtype=np.float32))


def test_bytes_that_are_not_whole_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        unpack_vectors(bytes(2 * SIZE + 2), SIZE)


# Segments


def test_a_segment_gives_the_same_answers_after_it_was_written_and_mapped(tmp_path: Path) -> None:
    name = written(tmp_path / "s")
    segments.check_files(tmp_path / "s", name)
    part = segments.open_segment(tmp_path / "s", name)
    assert part.rows.ids.tolist() == list(range(1, 601, 3))
    vectors = unit_vectors(200)
    for row in (0, 89, 90, 199):
        expected = np.argsort(-(vectors @ vectors[row]), kind="stable")[:7]
        rows, scores = part.nearest(vectors[row], 7)
        assert rows.tolist() == expected.tolist()
        np.testing.assert_array_equal(part.vector(row), vectors[row])
        np.testing.assert_allclose(scores, (vectors @ vectors[row])[expected], atol=1e-6)


def test_the_same_rows_have_the_same_name_and_other_rows_another(tmp_path: Path) -> None:
    assert written(tmp_path / "a") == written(tmp_path / "b")
    assert written(tmp_path / "c", a_part(199)) != written(tmp_path / "d")


def test_only_selected_rows_are_found(tmp_path: Path) -> None:
    part = a_part()
    query = unit_vectors(200)[0]
    rows, _ = part.nearest(query, 10, BitMap([4, 17, 120]))
    assert sorted(rows.tolist()) == [4, 17, 120]
    assert len(part.nearest(query, 10, BitMap())[0]) == 0
    less = part.without(np.array([13, 14, 361]))  # the images of the rows 4 and 120, and a stranger
    assert less.live_count == 198
    assert less.nearest(query, 10, BitMap([4, 17, 120]))[0].tolist() == [17]
    assert sorted(less.nearest(query, 200)[0].tolist()) == [row for row in range(200) if row not in (4, 120)]
    assert part.live_count == 200


def test_rows_are_found_by_image_and_strangers_are_not() -> None:
    part = a_part()
    assert part.rows_of(np.array([0, 1, 2, 4, 598, 599, 10**12])).tolist() == [0, 1, 199]
    empty = build_part([], SIZE, UNITS)
    assert len(empty.rows_of(np.array([1]))) == 0
    assert len(empty.nearest(unit_vectors(1)[0], 3)[0]) == 0
    assert empty.without(np.array([1])).live_count == 0


@pytest.mark.parametrize("file", [EXACT_FILE, COARSE_FILE, segments.COLUMNS_FILE, segments.DESCRIPTION_FILE])
def test_a_flipped_byte_anywhere_is_noticed(tmp_path: Path, file: str) -> None:
    name = written(tmp_path / "s", a_part_with_lists())
    path = tmp_path / "s" / file
    intact = path.read_bytes()
    for position in np.linspace(0, len(intact) - 1, num=15, dtype=int):
        damaged = bytearray(intact)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match=file):
            segments.check_files(tmp_path / "s", name)
    path.write_bytes(intact)
    segments.check_files(tmp_path / "s", name)


@pytest.mark.parametrize("file", [EXACT_FILE, COARSE_FILE, segments.COLUMNS_FILE, segments.DESCRIPTION_FILE])
@pytest.mark.parametrize("missing", [1, 4096, None])
def test_a_file_that_is_cut_short_or_gone_is_noticed(tmp_path: Path, file: str, missing: int | None) -> None:
    name = written(tmp_path / "s", a_part_with_lists())
    path = tmp_path / "s" / file
    if missing is None:
        path.unlink()
    else:
        os.truncate(path, max(0, path.stat().st_size - missing))
    with pytest.raises(DamagedError, match=file):
        segments.check_files(tmp_path / "s", name)


def test_faiss_itself_notices_neither_so_that_the_checks_are_needed(tmp_path: Path) -> None:
    written(tmp_path / "s")
    path = tmp_path / "s" / EXACT_FILE
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 0x10
    path.write_bytes(damaged)
    assert faiss.read_index(str(path)).ntotal == 200


def test_an_index_that_gives_wrong_answers_is_not_written(tmp_path: Path) -> None:
    wrong = faiss.index_factory(SIZE, EXACT, faiss.METRIC_L2)  # best is lowest there
    wrong.add(unit_vectors(200))
    with pytest.raises(DamagedError, match="was not found by its own vector"):
        written(tmp_path / "s", Part(a_part().rows, Vectors(wrong)))


def test_lists_that_lead_elsewhere_are_not_written(tmp_path: Path) -> None:
    part = a_part_with_lists()
    others = with_lists(build_vectors(unit_vectors(500, seed=5).astype(np.float16)), flat_rows=100)
    assert others.tuning is not None
    mixed = Vectors(part.vectors.exact, others.coarse, replace(others.tuning, probes=1, candidates=10))
    with pytest.raises(DamagedError, match="by the lists"):
        written(tmp_path / "s", replace(part, vectors=mixed))


def test_a_segment_says_how_it_was_built_and_what_its_lists_were_measured_to_find(tmp_path: Path) -> None:
    part = a_part_with_lists()
    name = written(tmp_path / "s", part)
    coarse = segments.described(tmp_path / "s", name)["coarse"]
    assert coarse == part.vectors.facts()
    assert coarse["kind"] == "RR16,IVF12,RaBitQ"
    assert coarse["recall"] == round(recall(part.vectors, made_up_queries(part.vectors)), 4)
    assert segments.open_segment(tmp_path / "s", name).vectors.tuning == part.vectors.tuning
    assert segments.described(tmp_path / "t", written(tmp_path / "t"))["coarse"] is None


def test_a_damaged_file_is_refused_before_faiss_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, name = a_store(tmp_path, a_part_with_lists())
    path = tmp_path / "place" / "generation-1" / name / COARSE_FILE
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    read: list[str] = []
    monkeypatch.setattr(faiss, "read_index", lambda path, _flags: read.append(path))
    with pytest.raises(DamagedError, match=COARSE_FILE):
        store.segment(1, name)
    assert read == []


@pytest.mark.parametrize("room", ["half", "last bytes"])
def test_a_disk_that_is_full_is_an_error_and_not_a_short_file(tmp_path: Path, room: str) -> None:
    written(tmp_path / "whole")
    size = (tmp_path / "whole" / EXACT_FILE).stat().st_size
    limit = size // 2 if room == "half" else size - 3
    script = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from storage.index import part, segment
        from tests.plain_rows import PlainRow, raw
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        vectors = np.eye(16, dtype=np.float16)[np.arange(200) % 16]
        rows = [PlainRow(n, b"key", {0: 1}) for n in range(200)]
        built = part.build_part([(raw(rows), vectors)], 16, np.zeros(1, dtype=np.int32))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
        try:
            segment.write(built, Path(sys.argv[1]), generation_id=1, lo=0, hi=1)
        except OSError as error:
            sys.exit(3)
        """
    )
    (tmp_path / "s").mkdir()
    child = subprocess.run([sys.executable, "-c", script, tmp_path / "s", str(limit)], check=False)
    assert child.returncode == 3


# Store


def a_store(tmp_path: Path, part: Part | None = None) -> tuple[SegmentStore, str]:
    place = FolderStorage(tmp_path / "place")
    with place.staging("generation-1") as staged:
        name = segments.write(part or a_part(), staged, generation_id=1, lo=5, hi=9)
        place.add(staged, f"generation-1/{name}")
    return SegmentStore(place, tmp_path / "cache"), name


def test_staging_leaves_nothing_behind(tmp_path: Path) -> None:
    store, name = a_store(tmp_path)
    with store.place.staging("generation-1") as staged:
        (staged / "file").write_bytes(b"x")
    assert list(store.place.names("generation-1")) == [name]


def test_a_second_process_does_not_hash_again_what_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, name = a_store(tmp_path)
    store.segment(1, name)
    hashed: list[str] = []
    monkeypatch.setattr("storage.index.store.check_files", lambda _folder, name: hashed.append(name))
    SegmentStore(store.place, store.cache_dir).segment(1, name)
    assert hashed == []


def test_a_file_that_was_touched_after_its_check_is_checked_again(tmp_path: Path) -> None:
    store, name = a_store(tmp_path)
    store.segment(1, name)
    path = tmp_path / "place" / "generation-1" / name / EXACT_FILE
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DamagedError, match=EXACT_FILE):
        SegmentStore(store.place, store.cache_dir).segment(1, name)


def test_dead_rows_come_back_and_a_changed_file_of_them_is_noticed(tmp_path: Path) -> None:
    store, name = a_store(tmp_path)
    dead = np.array([1, 7, 10**12], dtype=np.int64)
    entry = SegmentEntry(name, 5, 9, 200, 1, dead=store.write_dead(1, dead), dead_rows=3)
    np.testing.assert_array_equal(store.dead(1, entry), dead)
    path = tmp_path / "place" / "generation-1" / str(entry.dead)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DamagedError):
        store.dead(1, entry)


# Places


def test_a_place_creates_a_name_once(tmp_path: Path) -> None:
    place = FolderStorage(tmp_path / "place")
    assert place.create("generation-1/manifest", b"one")
    assert not place.create("generation-1/manifest", b"two")
    assert place.read("generation-1/manifest") == b"one"


def test_a_place_without_permission_says_which_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = FolderStorage(tmp_path / "file")
    with pytest.raises(ServiceUnavailableError, match=str(tmp_path / "file")):
        place.create("generation-1/manifest", b"one")


def test_deleting_what_is_not_there_is_fine(tmp_path: Path) -> None:
    place = FolderStorage(tmp_path)
    place.delete("generation-1/nothing")
    assert place.names("generation-1") == {}


def test_the_place_follows_from_the_url(tmp_path: Path) -> None:
    folder = open_storage((tmp_path / "a b").as_uri())
    assert isinstance(folder, FolderStorage)
    assert folder.root == tmp_path / "a b"
    bucket = open_storage("s3://pictures/index/")
    assert isinstance(bucket, BucketStorage)
    assert (bucket.bucket, bucket.prefix) == ("pictures", "index")


@pytest.mark.parametrize("url", ["ftp://host/x", "/plain/path", "s3:///x", "file://host/x", ""])
def test_another_kind_of_url_is_refused_with_the_variable_to_set(url: str) -> None:
    with pytest.raises(UsageError, match="RAMQ_INDEX_URL"):
        open_storage(url)


# Manifests


def a_manifest() -> Manifest:
    entries = (SegmentEntry("segment-a", 0, 7, 10, 100), SegmentEntry("segment-b", 7, 9, 5, 50, "dead-x.npy", 2))
    return Manifest(3, 12, 9, "7710475368283116377", 384, entries)


def test_a_manifest_comes_back_as_it_was() -> None:
    assert decode(a_manifest().encoded()) == a_manifest()


def test_any_change_to_a_manifest_is_noticed() -> None:
    data = a_manifest().encoded()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x01
        with pytest.raises(DamagedError):
            decode(bytes(damaged))
    with pytest.raises(DamagedError):
        decode(data[:-1])


def test_a_manifest_of_another_format_is_refused() -> None:
    file = json.loads(a_manifest().encoded())
    file["manifest"]["format"] = 1
    body = json.dumps(file["manifest"], sort_keys=True, separators=(",", ":")).encode()
    file["sha256"] = sha256(body).hexdigest()
    with pytest.raises(DamagedError, match="another version"):
        decode(json.dumps(file).encode())
