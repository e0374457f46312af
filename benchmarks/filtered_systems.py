"""The systems that answer filtered searches: ramq, pgvector, and Milvus Lite, over the same made-up images."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import psycopg
from pymilvus import DataType, MilvusClient

from benchmarks.bench_load import serving
from benchmarks.filtered_data import LIMIT, SHARES, Filter, directory_bytes
from benchmarks.search_data import load, prepare
from ramq.embedded import embedded
from ramq.embedded.layout import Layout
from ramq.embedded.postgres import Postgres
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.builder import MAX_SEGMENT_ROWS, IndexBuilder
from storage.index.file_storage import FolderStorage
from storage.index.index import VectorIndex
from storage.index.selection import Selection
from storage.migrate import upgrade
from storage.remembered import read_only
from storage.results.spaces import TEXT
from storage.search.compared import Compared
from storage.search.query import resolve
from storage.search.search import Search
from storage.search.views import SearchQuery
from storage.tables import Archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from benchmarks.filtered_data import Images

GRAPH = {"m": 16, "ef_construction": 64}
"""pgvector's own defaults; Milvus Lite gets the same graph."""

EFFORTS = (40, 100, 250, 500, 1000)
"""Values of ``hnsw.ef_search``, least first; 1000 is pgvector's greatest."""

MILVUS_EFFORTS = (40, 160, 640, 2560, 10_240)
"""Values of ``ef`` in Milvus, least first."""


class System(Protocol):
    """What can be asked."""

    def ask(self, asked: Filter, query: NDArray[np.float32]) -> list[int]:
        """Return the ids of the nearest images that meet a filter."""


class Ours:
    """ramq: in its own PostgreSQL, with the index in files.

    Args:
        folder: for the services, the index and its cache.
        url: of the database.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.engine = make_engine(url)
        self.place = FolderStorage(folder / "index")
        self._cache = folder / "cache"
        self.index = VectorIndex(self.place, self._cache)
        self.search = Search(lambda: self.index)

    def build(self, images: Images) -> dict[str, float]:
        """Store the images and publish the index; return seconds and bytes."""
        upgrade(self.engine)
        provenance = prepare(self.engine, "s3://made-up-1/", images.vectors.shape[1])
        with unit_of_work(self.engine) as session:
            session.add_all(Archive(uri=f"s3://made-up-{number}/") for number in range(2, len(SHARES) + 2))
        builder = IndexBuilder(self.engine, self.place, self._cache)
        took, processor, waiting = 0.0, 0.0, 0
        for chunk in images.chunks():
            load(self.engine, chunk, provenance)
            waiting += len(chunk.vectors)
            if waiting + len(chunk.vectors) > MAX_SEGMENT_ROWS or chunk.first + len(chunk.vectors) > len(
                images.vectors
            ):
                began = time.perf_counter(), time.process_time()
                builder.publish_new(provenance.generation_id, force=True)
                took, processor = took + time.perf_counter() - began[0], processor + time.process_time() - began[1]
                waiting = 0
        began = time.perf_counter(), time.process_time()
        while builder.compact(provenance.generation_id):
            pass
        took, processor = took + time.perf_counter() - began[0], processor + time.process_time() - began[1]
        with read_only(self.engine) as session:
            driver_connection(session).execute("ANALYZE")
            index_bytes = self.index.status(session, provenance.generation_id).bytes
        rows = len(images.vectors)
        return {
            "build_seconds": round(took, 1),
            "build_processor_seconds": round(processor, 1),
            "index_bytes_per_vector": round(index_bytes / rows, 1),
            "table_bytes_per_vector": round(_partitions(self.engine, "vector") / rows, 1),
        }

    def ask(self, asked: Filter, query: NDArray[np.float32]) -> list[int]:
        """Resolve the filter and ask the index, as ``Search`` does; read no content of hits."""
        with read_only(self.engine) as session:
            match = resolve(session, query_of(asked), self.search.vocabulary)
            assert match is not None
            found = Selection.of(self.index.view(session, match.generation.id), match.condition)
            ids: list[int] = found.nearest(query, LIMIT)[0].tolist()
            return ids

    def page(self, asked: Filter, query: NDArray[np.float32]) -> list[int]:
        """Return a page of hits with their content, as the web server makes it."""
        with read_only(self.engine) as session:
            page = self.search.page(session, query_of(asked), [Compared(TEXT, "text", query)])
        return [hit.image_id for hit in page.items]


def query_of(asked: Filter) -> SearchQuery:
    """Return the filter as a query of ramq, with a text that ranks all images."""
    query = SearchQuery(text="made up", limit=LIMIT, relevance=0)
    match asked.kind:
        case "archive":
            return SearchQuery(text=query.text, limit=LIMIT, relevance=0, archive=str(asked.archive))
        case "prefix":
            return SearchQuery(text=query.text, limit=LIMIT, relevance=0, prefix=asked.prefix)
        case "none":
            return query
        case _:
            return SearchQuery(text=query.text, limit=LIMIT, relevance=0, tags=(f"tag {asked.tag}",))


def address_of(asked: Filter, image_id: int) -> str:
    """Return the path of the API for the images like one that meet a filter."""
    narrowed = {
        "archive": f"&archive={asked.archive}",
        "prefix": f"&prefix={asked.prefix}",
        "none": "",
    }.get(asked.kind, f"&tag=tag%20{asked.tag}")
    return f"/v1/search?like={image_id}&limit={LIMIT}{narrowed}"


class TunedPostgres(Postgres):
    """The same PostgreSQL, with memory for a graph."""

    shared_buffers: ClassVar[str] = "6GB"


class Pgvector:
    """pgvector: vectors as halfvec in a graph (HNSW), filters in their usual indexes.

    Args:
        url: as psycopg takes it.
    """

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        # A plan for all parameters alike would know nothing of how many images the filter leaves.
        self.connection.execute("SET plan_cache_mode = force_custom_plan")
        self.connection.execute("SET hnsw.max_scan_tuples = 2147483647")
        self.connection.execute("SET hnsw.scan_mem_multiplier = 64")

    @property
    def version(self) -> str:
        """Of the extension."""
        return str(self._value("SELECT extversion FROM pg_extension WHERE extname = 'vector'"))

    def build(self, images: Images) -> dict[str, float]:
        """Store the images and build the indexes; return seconds and bytes."""
        execute, width = self.connection.execute, images.vectors.shape[1]
        execute(
            f"CREATE TABLE item (id bigint PRIMARY KEY, v halfvec({width}) NOT NULL, archive int NOT NULL, "
            'key text COLLATE "C" NOT NULL, tags smallint[] NOT NULL)'
        )
        for chunk in images.chunks():
            with self.connection.cursor() as cursor, cursor.copy("COPY item FROM STDIN") as copy:
                assert chunk.archives is not None
                rows = zip(
                    chunk.ids.tolist(), chunk.vectors.tolist(), chunk.archives.tolist(), chunk.first_folders,
                    chunk.tags.tolist(), strict=True,
                )  # fmt: skip
                for image_id, vector, archive, folder, tags in rows:
                    copy.write_row(
                        (image_id, str(vector), archive, f"{folder:02}/{image_id % 997:03}/{image_id:012}.jpg", tags)
                    )
        execute("SET maintenance_work_mem = '4GB'")
        execute("SET max_parallel_maintenance_workers = 1")  # with the leader, two processes
        began = time.perf_counter()
        execute(
            "CREATE INDEX item_v ON item USING hnsw (v halfvec_ip_ops) "
            f"WITH (m = {GRAPH['m']}, ef_construction = {GRAPH['ef_construction']})"
        )
        took = time.perf_counter() - began
        execute("CREATE INDEX ON item (archive)")
        execute("CREATE INDEX ON item (key)")
        execute("CREATE INDEX ON item USING gin (tags)")
        execute("VACUUM ANALYZE item")
        rows = len(images.vectors)
        return {
            "build_seconds": round(took, 1),
            "index_bytes_per_vector": round(self._value("SELECT pg_relation_size('item_v')") / rows, 1),
            "table_bytes_per_vector": round(self._value("SELECT pg_table_size('item')") / rows, 1),
        }

    def tune(self, mode: str, effort: int) -> None:
        """Set ``hnsw.iterative_scan`` and ``hnsw.ef_search``."""
        self.connection.execute(f"SET hnsw.iterative_scan = {mode}")
        self.connection.execute(f"SET hnsw.ef_search = {effort}")

    def ask(self, asked: Filter, query: NDArray[np.float32]) -> list[int]:
        """Return the ids of the nearest that meet a filter."""
        found = self.connection.execute(self._statement(asked), (str(query.tolist()),), prepare=True).fetchall()
        return [row[0] for row in found]

    def plan(self, asked: Filter, query: NDArray[np.float32]) -> str:
        """Return how the filter and the order are done: ``graph``, or the access by which all that match are sorted."""
        lines = self.connection.execute("EXPLAIN " + self._statement(asked), (str(query.tolist()),)).fetchall()
        text = "\n".join(line[0] for line in lines)
        if "item_v" in text:
            return "graph"
        return "sorted, of an index" if "Bitmap" in text or "Index" in text else "sorted, of the table"

    def _statement(self, asked: Filter) -> str:
        where = {
            "archive": f"WHERE archive = {asked.archive} ",
            "prefix": f"WHERE key LIKE '{asked.prefix}%%' ",
            "none": "",
        }.get(asked.kind, f"WHERE tags @> '{{{asked.tag}}}' ")
        return f"SELECT id FROM item {where}ORDER BY v <#> %s::halfvec LIMIT {LIMIT}"

    def _value(self, statement: str) -> Any:
        row = self.connection.execute(statement).fetchone()
        assert row is not None
        return row[0]


class MilvusLite:
    """Milvus Lite: a folder of files, searched by its own client.

    Tags are one text, in which a filter looks for a tag: ``array_contains`` takes longer still.

    Args:
        path: the folder.
        kind: ``HNSW``, the same graph as pgvector's, or ``FLAT``: scanned.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._path = path
        self._kind = kind
        self.client = MilvusClient(str(path))
        self.effort = MILVUS_EFFORTS[0]
        if self.client.has_collection("item"):
            self.client.load_collection("item")

    def build(self, images: Images) -> dict[str, float]:
        """Store the images and build the graph; return seconds and bytes. Includes storing: it cannot be told apart."""
        schema = self.client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("v", DataType.FLOAT_VECTOR, dim=images.vectors.shape[1])
        schema.add_field("archive", DataType.INT64)
        schema.add_field("key", DataType.VARCHAR, max_length=64)
        schema.add_field("tags", DataType.VARCHAR, max_length=256)
        indexes = self.client.prepare_index_params()
        indexes.add_index(
            "v", index_type=self._kind, metric_type="IP",
            params={"M": GRAPH["m"], "efConstruction": GRAPH["ef_construction"]} if self._kind == "HNSW" else {},
        )  # fmt: skip
        began = time.perf_counter()
        self.client.create_collection("item", schema=schema, index_params=indexes)
        for chunk in images.chunks():
            assert chunk.archives is not None
            rows = zip(
                chunk.ids.tolist(), chunk.vectors.astype("float32"), chunk.archives.tolist(), chunk.first_folders,
                chunk.tags.tolist(), strict=True,
            )  # fmt: skip
            entities = [
                {
                    "id": i,
                    "v": v,
                    "archive": a,
                    "key": f"{f:02}/{i % 997:03}/{i:012}.jpg",
                    "tags": f",{','.join(map(str, t))},",
                }
                for i, v, a, f, t in rows
            ]
            for start in range(0, len(entities), 2_000):
                self.client.insert("item", entities[start : start + 2_000])
        self.client.flush("item")
        self.client.load_collection("item")
        took = time.perf_counter() - began
        return {
            "build_seconds": round(took, 1),
            "index_bytes_per_vector": round(directory_bytes(self._path) / len(images.vectors), 1),
        }

    def ask(self, asked: Filter, query: NDArray[np.float32]) -> list[int]:
        """Return the ids of the nearest that meet a filter."""
        where = {
            "archive": f"archive == {asked.archive}",
            "prefix": f'key like "{asked.prefix}%"',
            "none": "",
        }.get(asked.kind, f'tags like "%,{asked.tag},%"')
        parameters = {"params": {"ef": self.effort}} if self._kind == "HNSW" else {}
        (hits,) = self.client.search("item", data=[query], filter=where, limit=LIMIT, search_params=parameters)
        return [hit["id"] for hit in hits]


@contextmanager
def ours(folder: Path, *, with_web: bool = False) -> Iterator[tuple[Ours, str]]:
    """Open ramq on a folder; with its web server, yield that server's address too."""
    with embedded(folder / "services") as services:
        system = Ours(folder, services.database_url)
        try:
            if with_web:
                (folder / "web.log").unlink(missing_ok=True)  # the address of the last one
                with serving(services, folder) as (url, _):
                    yield system, url
            else:
                yield system, ""
        finally:
            system.engine.dispose()


@contextmanager
def pgvector(folder: Path) -> Iterator[Pgvector]:
    """Open pgvector on a folder."""
    server = TunedPostgres(Layout.create(folder))
    server.prepare()
    shutil.rmtree(server.layout.sockets, ignore_errors=True)
    server.layout.sockets.mkdir(mode=0o700)
    if server.owner:
        os.chown(server.layout.sockets, server.owner.uid, server.owner.gid)
    server.start()
    try:
        system = Pgvector(server.url.replace("postgresql+psycopg", "postgresql"))
        try:
            yield system
        finally:
            system.connection.close()
    finally:
        server.stop()
        shutil.rmtree(server.layout.sockets, ignore_errors=True)


def _listed(tags: list[int]) -> str:
    return f",{','.join(map(str, tags))},"


def _partitions(engine: Any, table: str) -> int:
    statement = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(%s)"
    with unit_of_work(engine) as session:
        row = driver_connection(session).execute(statement, (table,)).fetchone()
    assert row is not None
    return int(row[0])
