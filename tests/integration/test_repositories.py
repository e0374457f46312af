"""Keys, records, archives and generations, statement by statement on a real database."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from storage.database import unit_of_work
from storage.errors import NotFoundError, UsageError
from storage.ledger import failures
from storage.objects.base import MAX_KEY_BYTES
from storage.objects.source import parse_source
from storage.results import archives, erasures, features, generations, images, records
from storage.results.generations import GenerationSpec
from storage.results.records import FailureRow, Provenance, RecordRow
from storage.results.vocabularies import VocabularySpec
from tests.ledger import VECTOR, Ledger, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from storage.objects.base import ObjectInfo

pytestmark = pytest.mark.services


def rows(engine: Engine, statement: str) -> list[tuple[Any, ...]]:
    with unit_of_work(engine) as session:
        return [tuple(row) for row in session.execute(text(statement))]


# Keys --------------------------------------------------------------------------------------------------------------


def upsert(ledger: Ledger, page: Sequence[ObjectInfo], captioner: str = "none") -> list[str]:
    """Record a page and return the keys of it that want recognising."""
    with unit_of_work(ledger.engine) as session:
        images.upsert_page(session, ledger.archive.id, page)
        pending = images.pending_of_page(session, ledger.archive.id, ledger.generation_id, captioner)
        known = images.keys(session, pending)
        return [known[image_id].key for image_id in pending]


LONGEST = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=MAX_KEY_BYTES))
"""Not to be compressed, so that it needs all its room in the index."""

HOSTILE = [
    "a\tb",
    "new\nline",
    "back\\slash",
    r"\N",
    "\\.",
    "quote\"'",
    "\U0001f600",
    "\u00e9",
    "e\u0301",
    "%s :x {y}",
    LONGEST,
]


def test_any_key_is_kept_letter_by_letter_and_sorted_by_bytes(ledger: Ledger) -> None:
    assert upsert(ledger, listed(*HOSTILE)) == sorted(HOSTILE, key=str.encode)
    assert sorted(key for (key,) in rows(ledger.engine, "SELECT key FROM image")) == sorted(HOSTILE)


def test_a_page_that_comes_twice_adds_nothing_and_keeps_the_ids(ledger: Ledger) -> None:
    upsert(ledger, listed("a", "b"))
    before = rows(ledger.engine, "SELECT id, key, version, xmin::text FROM image ORDER BY id")
    assert upsert(ledger, listed("a", "b", "b")) == ["a", "b"]
    assert rows(ledger.engine, "SELECT id, key, version, xmin::text FROM image ORDER BY id") == before


def test_a_changed_version_is_noted_and_the_others_left_alone(ledger: Ledger) -> None:
    upsert(ledger, listed("a", "b"))
    upsert(ledger, listed("b", version="v2"))
    assert rows(ledger.engine, "SELECT key, version FROM image ORDER BY key") == [("a", "v1"), ("b", "v2")]


def test_the_same_key_in_two_archives_is_two_images(ledger: Ledger, engine: Engine) -> None:
    with unit_of_work(engine) as session:
        other, _ = archives.ensure(session, parse_source("s3://others"))
    upsert(ledger, listed("a"))
    upsert(Ledger(engine, ledger.generation_id, other), listed("a"))
    assert ledger.scalar("SELECT count(DISTINCT id) FROM image WHERE key = 'a'") == 2


def test_pages_of_two_planners_at_once_do_not_wait_for_each_other_in_a_ring(ledger: Ledger) -> None:
    names = [f"{number:04}" for number in range(500)]
    errors: list[BaseException] = []

    def run(page: list[ObjectInfo]) -> None:
        try:
            for _ in range(5):
                upsert(ledger, page)
        except BaseException as error:  # noqa: BLE001  (a thread's error would be lost)
            errors.append(error)

    pages = [listed(*names), listed(*reversed(names), version="v2"), listed(*names[::7], version="v3")]
    threads = [threading.Thread(target=run, args=(page,)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert ledger.scalar("SELECT count(*) FROM image") == 500


def test_images_that_are_gone_are_left_out(ledger: Ledger, engine: Engine) -> None:
    upsert(ledger, listed("a", "b"))
    first, second = (image_id for (image_id,) in rows(engine, "SELECT id FROM image ORDER BY key"))
    with unit_of_work(engine) as session:
        erasures.erase(session, [first])
        assert set(images.keys(session, [first, second, 10**12])) == {second}
        assert records.lock_existing(session, [first, second]) == {second: "v1"}


# Records -----------------------------------------------------------------------------------------------------------


def record(
    image_id: int, version: str = "v1", scores: Sequence[int] = (9000,), caption: str | None = None
) -> RecordRow:
    return RecordRow(image_id, version, list(range(len(scores))), list(scores), caption, 640, 480, VECTOR)


@pytest.fixture
def image_ids(ledger: Ledger) -> list[int]:
    upsert(ledger, listed("a", "b", "c"))
    return [image_id for (image_id,) in rows(ledger.engine, "SELECT id FROM image ORDER BY key")]


@pytest.fixture
def provenance(ledger: Ledger) -> Provenance:
    return Provenance(ledger.make_job(), ledger.generation_id, "none")


def test_writing_the_same_twice_changes_nothing(engine: Engine, image_ids: list[int], provenance: Provenance) -> None:
    statement = "SELECT r.xmin::text, v.xmin::text, v.xid::text FROM record r JOIN vector v USING (image_id)"
    batch = [record(image_id, caption="\u732b \U0001f600 \t\\N") for image_id in image_ids]
    with unit_of_work(engine) as session:
        records.write_records(session, batch, provenance)
    before = rows(engine, statement)
    with unit_of_work(engine) as session:
        records.write_records(session, batch, provenance)
    assert rows(engine, statement) == before
    assert rows(engine, "SELECT DISTINCT caption, width, height FROM record") == [("\u732b \U0001f600 \t\\N", 640, 480)]


def test_a_newer_result_takes_the_place_of_the_old(
    engine: Engine, image_ids: list[int], provenance: Provenance
) -> None:
    with unit_of_work(engine) as session:
        records.write_records(session, [record(image_ids[0])], provenance)
    with unit_of_work(engine) as session:
        records.write_records(session, [record(image_ids[0], "v2", (1, 2, 3))], provenance)
    assert rows(engine, "SELECT version, tags, scores FROM record") == [("v2", [0, 1, 2], [1, 2, 3])]


def test_an_image_gets_the_version_that_was_recorded(engine: Engine, image_ids: list[int]) -> None:
    first, second, third = image_ids
    with unit_of_work(engine) as session:
        listed_versions = records.lock_existing(session, [first, second])
        records.note_versions(session, listed_versions, {first: "v2", second: "v1", third: "v3"})
    assert rows(engine, "SELECT version FROM image ORDER BY key") == [("v2",), ("v1",), ("v1",)]


def test_two_batches_in_one_transaction_do_not_mix(
    engine: Engine, image_ids: list[int], provenance: Provenance
) -> None:
    with unit_of_work(engine) as session:
        records.write_records(session, [record(image_ids[0], scores=(1,))], provenance)
        records.write_records(session, [record(image_ids[1], scores=(2,))], provenance)
    assert rows(engine, "SELECT scores FROM record ORDER BY image_id") == [([1],), ([2],)]


def test_a_failure_counts_its_attempts_and_a_result_takes_it_away(
    engine: Engine, image_ids: list[int], provenance: Provenance
) -> None:
    for detail in ("first", "second \x00 " + "x" * 1000):
        with unit_of_work(engine) as session:
            rows_of_batch = [FailureRow(image_id, "v1", "corrupt", True, detail) for image_id in reversed(image_ids)]
            records.write_failures(session, rows_of_batch, provenance)
    with unit_of_work(engine) as session:
        page = failures.views(session, provenance.job_id, error_class="corrupt", limit=10, cursor=None)
    assert [item.attempts for item in page.items] == [2, 2, 2]
    assert page.items[0].detail.startswith("second \\0 x")
    assert len(page.items[0].detail) == 500
    with unit_of_work(engine) as session:
        records.write_records(session, [record(image_ids[0])], provenance)
    assert rows(engine, "SELECT image_id FROM failure ORDER BY 1") == [(image_id,) for image_id in image_ids[1:]]


def test_an_empty_batch_is_no_statement(engine: Engine, provenance: Provenance) -> None:
    with unit_of_work(engine) as session:
        records.write_records(session, [], provenance)
        records.write_failures(session, [], provenance)
    assert rows(engine, "SELECT 1 FROM record UNION ALL SELECT 1 FROM failure") == []


def test_a_cursor_that_is_no_number_is_the_users_mistake(engine: Engine, provenance: Provenance) -> None:
    with pytest.raises(UsageError, match="use next_cursor"), unit_of_work(engine) as session:
        failures.views(session, provenance.job_id, error_class=None, limit=1, cursor="x")


# Archives ----------------------------------------------------------------------------------------------------------


def ensure(engine: Engine, source: str) -> tuple[int, str]:
    with unit_of_work(engine) as session:
        archive, prefix = archives.ensure(session, parse_source(source))
        return archive.id, prefix


@pytest.mark.parametrize(
    ("whole", "part", "prefix"),
    [
        ("s3://photos", "s3://photos/2024/07", "2024/07"),
        ("s3://photos/2024", "s3://photos/2024/07", "2024/07"),
        ("/photos", "/photos/2024/07", "2024/07"),
        ("/photos/100% #1?", "/photos/100% #1?/a", "a"),
        ("/", "/photos", "photos"),
    ],
)
def test_a_part_of_a_known_archive_belongs_to_it(engine: Engine, whole: str, part: str, prefix: str) -> None:
    archive_id, _ = ensure(engine, whole)
    assert ensure(engine, part) == (archive_id, prefix)
    assert ensure(engine, whole)[0] == archive_id


def test_archives_that_only_begin_alike_are_different(engine: Engine) -> None:
    sources = ["s3://photos/a", "s3://photos/ab", "s3://photos2", "/photos", "/photos2", "/photos_", "/photos%"]
    assert len({ensure(engine, source)[0] for source in sources}) == len(sources)


def test_an_archive_is_meant_by_its_name_a_part_of_it_or_its_number(engine: Engine) -> None:
    archive_id, _ = ensure(engine, "s3://photos/2024")
    with unit_of_work(engine) as session:
        assert archives.resolve(session, "s3://photos/2024/") == (archive_id, "")
        assert archives.resolve(session, "s3://photos/2024/07") == (archive_id, "2024/07/")
        assert archives.resolve(session, str(archive_id)) == (archive_id, "")
        for unknown in ("999", "9" * 30, "s3://photos", "s3://other", "/photos"):
            with pytest.raises(NotFoundError, match="known archives: s3://photos/2024"):
                archives.resolve(session, unknown)


def test_the_same_archive_from_many_at_once_is_one(engine: Engine) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(ensure(engine, "s3://photos")[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_archives_are_listed_with_their_counts(
    ledger: Ledger, engine: Engine, image_ids: list[int], provenance: Provenance
) -> None:
    with unit_of_work(engine) as session:
        records.write_records(session, [record(image_ids[0])], provenance)
    ensure(engine, "s3://empty")
    with unit_of_work(engine) as session:
        listed_archives = [(view.uri, view.images, view.recorded) for view in archives.views(session, {1: 1})]
    assert listed_archives == [("s3://photos", 3, 1), ("s3://empty", 0, 0)]


# Generations -------------------------------------------------------------------------------------------------------


def spec(fingerprint: str) -> GenerationSpec:
    return GenerationSpec(fingerprint, "lite", "weights", "squash", "image", 24)


VOCABULARY = VocabularySpec("sha", "made up", ["cat", "dog"], ["\u732b", None], [0.5, 0.25])


def test_a_generation_is_registered_once_and_the_first_serves_search(engine: Engine) -> None:
    found: list[int] = []

    def register(fingerprint: str) -> None:
        with unit_of_work(engine) as session:
            found.append(generations.ensure(session, spec(fingerprint), VOCABULARY))

    threads = [threading.Thread(target=register, args=(name,)) for name in ("one", "one", "two", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 5
    assert len(set(found)) == 3
    assert len(rows(engine, "SELECT FROM vocabulary")) == 1
    assert rows(engine, "SELECT name, name_zh, threshold FROM tag ORDER BY id") == [
        ("cat", "\u732b", 0.5),
        ("dog", None, 0.25),
    ]
    with unit_of_work(engine) as session:
        default = generations.default(session)
        assert default is not None
        assert [view.id for view in generations.views(session) if view.is_default] == [default.id]
        assert generations.get(session, default.id).fingerprint == default.fingerprint
        with pytest.raises(NotFoundError, match="there is no generation 999"):
            generations.get(session, 999)


def test_before_anything_was_recorded_no_generation_serves_search(engine: Engine) -> None:
    with unit_of_work(engine) as session:
        assert generations.default(session) is None


def test_a_sample_is_whole_although_the_numbers_of_the_images_have_large_gaps(engine: Engine) -> None:
    ledger = Ledger.new(engine)
    count, apart = 400, 5_000
    ledger.execute(
        """INSERT INTO image (id, archive_id, key, version, size)
           SELECT n * :apart, :archive, n, 'v1', 1 FROM generate_series(1, :count) AS n""",
        apart=apart,
        archive=ledger.archive.id,
        count=count,
    )
    ids = [n * apart for n in range(1, count + 1)]
    with unit_of_work(engine) as session:
        job = ledger.make_job()
        records.write_records(
            session,
            [RecordRow(one, "v1", [1], [9000], None, 4, 3, VECTOR) for one in ids],
            Provenance(job, ledger.generation_id, "none"),
        )
    with unit_of_work(engine) as session:
        found = features.sample(session, ledger.generation_id, 200)
        assert (len(found), len(set(found) & set(ids)), found) == (200, 200, sorted(found))
        assert features.sample(session, ledger.generation_id, 200) == found
        # From all over it: neither end is left out.
        assert sum(one <= ids[count // 2] for one in found) == pytest.approx(100, abs=40)
        assert features.sample(session, ledger.generation_id, 1_000) == ids
