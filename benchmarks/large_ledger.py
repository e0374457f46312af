"""A database of 10^8 images and what was recognised in them, filled by PostgreSQL itself, for ``bench_large_ledger``.

What is real: the tables, their partitions, indexes and constraints, as migrations made them; 10^8 rows in ``image``
and as many in ``record``; the shards of the job that did those of the largest archive, and a thousandth of failures.
What is not: keys, tags and scores are made from the row's number; a record has 8 tags instead of some 25; vectors,
which are most of a database of this size, exist for the newest rows only.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text

from storage.database import driver_connection, unit_of_work
from storage.results import generations, partitions
from storage.results.generations import GenerationSpec
from storage.results.vocabularies import VocabularySpec
from tests.services.null_worker import TAGS, VECTOR_SIZE, NullModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

LARGEST_SHARE = 0.9
"""Of all images, those in one archive. The rest is in ten archives of the same size."""

OTHERS = 10
SHARD = 1_024
VECTORS = 1_000_000
FAILED_EVERY = 1_000
_STEP = 5_000_000

KEY = """'photos/' || lpad((n / 1000000)::text, 4, '0') || '/' || lpad((n / 1000 %% 1000)::text, 3, '0')
        || '/IMG_' || lpad((n %% 1000)::text, 4, '0') || '.jpg'"""
"""Of the n-th image: a thousand in a folder. Ids follow the order of keys, as a first listing gives them."""

_IMAGES = f"""
    INSERT INTO image (id, archive_id, key, version, size, modified_at) OVERRIDING SYSTEM VALUE
    SELECT n, %(first_archive)s + CASE WHEN n <= %(largest)s THEN 0 ELSE 1 + (n - %(largest)s - 1) / %(each)s END,
        {KEY}, md5(n::text), 200000 + n %% 3000000,
        timestamptz '2026-11-01' - make_interval(mins => (n %% 5000000)::int)
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
"""
_RECORDS = f"""
    INSERT INTO record (image_id, generation_id, job_id, version, tags, scores, captioner, width, height, sha256,
        precision)
    SELECT n, %(generation)s, %(job)s, md5(n::text),
        ARRAY[{", ".join(f"{k * TAGS // 8} + n / {7 ** (k % 4)} %% {TAGS // 8}" for k in range(8))}]::smallint[],
        ARRAY[{", ".join(f"{600 + 40 * k}" for k in range(8))}]::smallint[],
        'none', 4000, 3000, sha256(n::text::bytea), 0
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n WHERE n %% {FAILED_EVERY} <> 0
"""
_OTHERS = (
    f"""
    INSERT INTO shard (job_id, state, image_ids, outcomes, n_done, n_failed)
    SELECT %(job)s, 'done', array_agg(n),
        string_agg(CASE WHEN fails THEN '\\x02' ELSE '\\x01' END::bytea, '' ORDER BY n),
        count(*) FILTER (WHERE NOT fails), count(*) FILTER (WHERE fails)
    FROM (SELECT n, n %% {FAILED_EVERY} = 0 AS fails FROM generate_series(1, %(largest)s::bigint) AS n) AS image
    GROUP BY (n - 1) / {SHARD}
    """,
    f"""
    INSERT INTO failure (job_id, image_id, generation_id, version, error_class, about_content, detail, attempts)
    SELECT %(job)s, n, %(generation)s, md5(n::text), 'decode_error', true, 'the image is damaged', 1
    FROM generate_series({FAILED_EVERY}, %(largest)s::bigint, {FAILED_EVERY}) AS n
    """,
    f"""
    INSERT INTO vector (image_id, generation_id, v)
    SELECT n, %(generation)s, decode(replace(replace(translate(left(md5(n::text), {VECTOR_SIZE}), '0123456789abcdef',
        'xxxxxxxxyyyyyyyy'), 'x', '0034'), 'y', '00b4'), 'hex')  -- 0.25 and -0.25: together of length 1
    FROM generate_series(greatest(%(rows)s - {VECTORS}, 0) + 1, %(rows)s::bigint) AS n WHERE n %% {FAILED_EVERY} <> 0
    """,
    """
    UPDATE archive SET images = found.images FROM (
        SELECT a.id, CASE WHEN a.id = %(first_archive)s THEN %(largest)s ELSE %(each)s END AS images
        FROM archive AS a WHERE a.id BETWEEN %(first_archive)s AND %(first_archive)s + %(others)s
    ) AS found WHERE archive.id = found.id
    """,
    """
    UPDATE job SET listed = %(largest)s, done = %(largest)s - %(failed)s, failed = %(failed)s,
        generation_id = %(generation)s, listed_all_at = now(), started_at = now(), finished_at = now(), state = 'done'
    WHERE id = %(job)s
    """,
    "SELECT setval(pg_get_serial_sequence('image', 'id'), %(rows)s)",
)


@dataclass(frozen=True, slots=True)
class Filled:
    """What the numbers of the made-up rows are, and how long each table took to fill."""

    rows: int
    job_id: int
    generation_id: int
    archives: list[str]
    seconds: dict[str, float]


def fill(engine: Engine, rows: int, uris: list[str]) -> Filled:
    """Fill an empty database of the current schema. ``uris`` are those of the archives, the largest first.

    The server should run with ``wal_level=minimal``, and the role must be its owner: rows are not checked against other
    tables, and what they count is set afterwards.
    """
    with unit_of_work(engine) as session:
        spec, vocabulary = NullModel.spec, NullModel.vocabulary
        generation_id = generations.ensure(
            session,
            GenerationSpec(
                spec.fingerprint, spec.model, spec.weights_sha256, spec.preprocessing, spec.vector_kind, VECTOR_SIZE
            ),
            VocabularySpec(
                vocabulary.sha256,
                vocabulary.name,
                vocabulary.names,
                vocabulary.names_zh,
                [float(threshold) for threshold in vocabulary.thresholds],
            ),
        )
        partitions.ensure(session, generation_id)
        connection = driver_connection(session)
        archive_ids = [
            connection.execute("INSERT INTO archive (uri) VALUES (%s) RETURNING id", (uri,)).fetchall()[0][0]
            for uri in uris
        ]
        ((job_id,),) = connection.execute(
            """INSERT INTO job (archive_id, source, prefix, model, captioner, priority)
               VALUES (%s, %s, '', 'lite', 'none', 0) RETURNING id""",
            (archive_ids[0], uris[0]),
        ).fetchall()
    each = round(rows * (1 - LARGEST_SHARE)) // OTHERS
    values = {
        "rows": rows,
        "first_archive": archive_ids[0],
        "others": OTHERS,
        "each": each,
        "largest": rows - OTHERS * each,
        "job": job_id,
        "generation": generation_id,
        "failed": (rows - OTHERS * each) // FAILED_EVERY,
    }
    with ThreadPoolExecutor(2) as pool:
        images = pool.submit(_fill_images, engine, values)
        records = pool.submit(_fill_records, engine, values)
        seconds = {"image": images.result(), "record": records.result()}
    began = time.monotonic()
    with _unchecked(engine) as unchecked:
        for statement in _OTHERS:
            unchecked.exec_driver_sql(statement, values)
    seconds["others"] = time.monotonic() - began
    began = time.monotonic()
    with create_engine(engine.url, isolation_level="AUTOCOMMIT").connect() as plain:
        plain.exec_driver_sql("VACUUM (ANALYZE, FREEZE)")
    seconds["vacuum"] = time.monotonic() - began
    return Filled(rows, job_id, generation_id, uris, {name: round(took, 1) for name, took in seconds.items()})


class _unchecked:  # noqa: N801  (used as a function)
    """A transaction without triggers and foreign keys."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> Connection:
        self._open = self._engine.begin()
        connection = self._open.__enter__()
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
        return connection

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(*error)  # type: ignore[arg-type]  # the same three


def _fill_images(engine: Engine, values: dict[str, int]) -> float:
    began = time.monotonic()
    with _unchecked(engine) as connection:
        # New files in this transaction: with wal_level=minimal, what is written into them is not logged.
        connection.exec_driver_sql("CLUSTER image USING pk_image")
        for first, last in _steps(values["rows"]):
            connection.exec_driver_sql(_IMAGES, {**values, "first": first, "last": last})
            print(f"image {last:,} {time.monotonic() - began:.0f} s", flush=True)
    return time.monotonic() - began


def _fill_records(engine: Engine, values: dict[str, int]) -> float:
    began = time.monotonic()
    with _unchecked(engine) as connection:
        connection.execute(text(f"TRUNCATE {partitions.partition('record', values['generation'])}"))
        for first, last in _steps(values["rows"]):
            connection.exec_driver_sql(_RECORDS, {**values, "first": first, "last": last})
            print(f"record {last:,} {time.monotonic() - began:.0f} s", flush=True)
    return time.monotonic() - began


def _steps(rows: int) -> Iterator[tuple[int, int]]:
    for first in range(1, rows + 1, _STEP):
        yield first, min(rows, first + _STEP - 1)
