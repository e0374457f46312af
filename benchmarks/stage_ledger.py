"""The stages of ``bench_stages`` that need a database: plan, write, index and all of them together."""

from __future__ import annotations

import itertools
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core import metadata, registry
from ram_core.metadata.facts import FileFacts
from ram_core.recognition import ModelSpec, Prediction
from ram_core.transforms import SquashTransform
from ram_core.vocabulary import TagVocabulary
from ramq.settings import Settings
from ramq.wiring import Services
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.builder import IndexBuilder
from storage.index.file_storage import open_storage
from storage.ledger import claims, shards
from storage.objects.base import S3Options
from storage.objects.folder import FolderStore
from storage.results import images
from storage.results.packing import pack_vectors
from workers.lifecycle import Worker
from workers.pipeline.decode import decode, decode_for_all
from workers.pipeline.decoders import Decoders, FileToDecode
from workers.pipeline.fitness import Fitness
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.steps import PipelineOptions
from workers.pipeline.work import Batch, Lease, Work
from workers.pipeline.write import write
from workers.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ram_core.pictures import Decoded
    from ram_core.recognition import Preprocessing

TAGS, KEPT, WIDTH = 4585, 25, 512  # as RAM++: tags known, kept per image, and numbers in a vector
SHARD_SIZE = 512
BATCHES = (32, 64)
_LEASE_SECONDS = 600.0
_MAX_BYTES = 1 << 30
_MAX_PIXELS = 1 << 28


class NullModel:
    """A recognizer that computes nothing: the same tags for every image, and one of a few vectors."""

    score_floor = 0.1
    preprocessing = SquashTransform(384)
    vocabulary = TagVocabulary.from_names("null", [f"tag {number}" for number in range(TAGS)])
    spec = ModelSpec("lite", "0" * 64, vocabulary.sha256, "null", "tags", WIDTH)

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        vectors = random.standard_normal((64, WIDTH)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        scores = random.uniform(0.3, 1.0, KEPT).astype(np.float32)
        tag_ids = np.sort(random.choice(TAGS, KEPT, replace=False)).astype(np.int32)
        self._answers = itertools.cycle([Prediction(tag_ids, scores, vector) for vector in vectors])

    def predict(
        self, pixels: NDArray[np.uint8], *, caption: bool = False, features: str | None = None
    ) -> list[Prediction]:
        """Answer at once."""
        del caption, features
        return [next(self._answers) for _ in pixels]


def load_null(**_options: object) -> NullModel:
    """Stand in for the loader of ``lite``."""
    return NullModel()


class InThreads(Decoders):
    """Decodes as workers did before they had children for it: what the children are measured against."""

    def __init__(self) -> None:
        super().__init__(0, _MAX_PIXELS)

    def _read(
        self, file: FileToDecode, preparations: Sequence[Preprocessing], *, wants_facts: bool
    ) -> tuple[list[Decoded], FileFacts]:
        facts = metadata.read(memoryview(file.body)) if wants_facts else FileFacts()
        return decode_for_all(file.body, preparations, _MAX_PIXELS, page=file.page), facts


class Ledger:
    """A database with the parts of a worker around it.

    Args:
        url: a migrated database without rows.
        data_dir: an empty folder.
    """

    def __init__(self, url: str, data_dir: Path) -> None:
        registry._MODELS["lite"] = f"{__name__}:load_null"  # noqa: SLF001  (no public way to add a model, on purpose)
        settings = Settings(data_dir=data_dir)
        self._engine = make_engine(url)
        self._services = Services(settings, self._engine, None, is_reachable=False)
        self._models = ModelHolder(
            self._engine,
            ModelOptions(device="cpu", models_dir=settings.models_path, cache_dir=settings.cache_path),
            None,
        )
        self._builder = IndexBuilder(self._engine, open_storage(settings.index_location), settings.cache_path / "index")
        self._index_folder = settings.data_dir / "index"
        self._written = 0

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def measure_plan(self, folder: Path, count: int) -> dict[str, Any]:
        """List a folder and cut it into shards, against listing it alone."""
        for number in range(count):
            (folder / f"{number:06}.jpg").touch()
        self._services.jobs.create(str(folder), caption=False)
        self._models.get("lite")
        began = time.perf_counter()
        listed = sum(len(page) for page in FolderStore(folder).pages("", None))
        baseline = time.perf_counter() - began
        began = time.perf_counter()
        self._plan()
        ours = time.perf_counter() - began
        return {"plan, keys (baseline: list the folder)": _rates(listed / ours, listed / baseline)}

    def measure_write(self) -> dict[str, Any]:
        """Commit batches, against COPY of the same bytes into a table without an index."""
        with unit_of_work(self._engine) as session:
            driver_connection(session).execute(
                "CREATE TABLE bench (image_id bigint, tags smallint[], scores smallint[], v bytea)"
            )
        taken: dict[tuple[str, int], list[float]] = {}
        model = self._models.get("lite")
        while (lease := self._claim()) is not None:
            sizes = itertools.cycle(BATCHES)
            works = self._works(lease, model.recognizer)
            while batch := list(itertools.islice(works, size := next(sizes))):
                for name, call in (
                    ("ours", lambda: write(self._engine, Batch(lease, batch), model.thresholds, _LEASE_SECONDS)),
                    ("baseline", lambda: self._copy(batch)),
                ):
                    began = time.perf_counter()
                    call()
                    if len(batch) == size:
                        taken.setdefault((name, size), []).append(time.perf_counter() - began)
                self._written += len(batch)
            with unit_of_work(self._engine) as session:
                shards.close(session, lease.shard.id, lease.shard.epoch, {})
        return {
            f"write, batches of {size} (baseline: COPY)": _rates(
                *(size / statistics.median(taken[name, size]) for name in ("ours", "baseline"))
            )
            for size in BATCHES
        }

    def measure_publish(self) -> dict[str, Any]:
        """Build and publish a segment of all that was written, against reading the rows."""
        with unit_of_work(self._engine) as session:
            generation_id = self._models.register(session, "lite")
        began = time.perf_counter()
        with unit_of_work(self._engine) as session:
            driver_connection(session).execute("SELECT image_id, v FROM vector").fetchall()
        baseline = time.perf_counter() - began
        began = time.perf_counter()
        self._builder.publish_new(generation_id, force=True)
        ours = time.perf_counter() - began
        return {"index, vectors (baseline: read the rows)": _rates(self._written / ours, self._written / baseline)}

    def measure_bytes(self) -> dict[str, float]:
        """Return the bytes that an image takes in each table, with its indexes, and in the files of the index."""
        with unit_of_work(self._engine) as session:
            sizes = driver_connection(session).execute(
                """SELECT name, pg_total_relation_size(name::regclass) + coalesce(
                       (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(name::regclass)), 0)
                   FROM unnest(%s::text[]) AS name""",
                (["image", "record", "vector", "shard"],),
            )
            found = {name: int(size) for name, size in sizes}
        found["index files"] = sum(path.stat().st_size for path in self._index_folder.rglob("*") if path.is_file())
        return {name: round(size / self._written, 1) for name, size in found.items()}

    def measure_end_to_end(self, folder: Path, rounds: int) -> dict[str, Any]:
        """Run a job with one worker in this process, against the same with decoding in its threads, and alone."""
        paths = sorted(folder.iterdir())
        began = time.perf_counter()
        for path in paths:
            decode(path.read_bytes(), NullModel.preprocessing, _MAX_PIXELS)
        alone = time.perf_counter() - began
        taken: dict[str, list[float]] = {"children": [], "threads": []}
        for number in range(rounds):
            for name, decoders in (("children", None), ("threads", InThreads())):
                copy = folder.with_name(f"{folder.name}-{name}-{number}")
                shutil.copytree(folder, copy)
                for path in copy.iterdir():  # equal bytes would not be recognised again
                    with path.open("ab") as file:
                        file.write(f"{copy.name}/{path.name}".encode())
                taken[name].append(self._run_job(copy, decoders))
        children, threads = (len(paths) / statistics.median(seconds) for seconds in taken.values())
        return {
            "end to end, 0.3 Mpx (baseline: read and decode)": _rates(children, len(paths) / alone),
            "end to end, 0.3 Mpx (baseline: decode in threads)": _rates(children, threads),
        }

    def _run_job(self, folder: Path, decoders: InThreads | None) -> float:
        """Recognise a folder's pictures and return the seconds it took, the start of the children not counted."""
        job = self._services.jobs.create(str(folder), caption=False)
        worker = Worker(
            self._engine,
            self._models,
            PipelineOptions(32, 8, 2, _LEASE_SECONDS, _MAX_BYTES, _MAX_PIXELS),
            builder=self._builder,
            wake=lambda _model, _wanted: None,
            shard_size=SHARD_SIZE,
            s3=S3Options(),
        )
        if decoders is not None:
            worker._decoders = decoders  # noqa: SLF001  (a worker has no such choice)
        first = min(folder.iterdir()).read_bytes()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: worker._decoders.decode(first, NullModel.preprocessing), range(4)))  # noqa: SLF001
        began = time.perf_counter()
        self._plan()  # a worker lists in a thread of its own, which is not started here
        while not self._services.jobs.get(job.id).is_over:
            worker.work()
        seconds = time.perf_counter() - began
        worker.leave()
        view = self._services.jobs.get(job.id)
        if view.done != view.listed:
            raise RuntimeError(f"{view.done} of {view.listed} images were recognised: the figures mean nothing")
        return seconds

    def _plan(self) -> None:
        planner = Planner(self._engine, self._models, fitness=Fitness(), shard_size=SHARD_SIZE, s3=S3Options())
        while planner.begin(lambda: False) or planner.go_on(lambda: False):
            pass

    def _claim(self) -> Lease | None:
        with unit_of_work(self._engine) as session:
            shard = claims.claim(session, owner="bench", lease_seconds=_LEASE_SECONDS)
        return None if shard is None else Lease(shard, FolderStore(Path("/")))

    def _works(self, lease: Lease, model: Any) -> Iterator[Work]:
        with unit_of_work(self._engine) as session:
            known = images.keys(session, lease.shard.image_ids)
        for position in lease.pending:
            image = known[lease.shard.image_ids[position]]
            work = Work(lease, position, image, image.version, width=640, height=480)
            (work.prediction,) = model.predict([None])
            yield work

    def _copy(self, batch: list[Work]) -> None:
        predictions = [work.prediction for work in batch if work.prediction is not None]
        packed = pack_vectors(np.stack([prediction.vector for prediction in predictions]))
        with (
            unit_of_work(self._engine) as session,
            driver_connection(session).cursor() as cursor,
            cursor.copy("COPY bench FROM STDIN (FORMAT binary)") as copy,
        ):
            copy.set_types(["int8", "int2[]", "int2[]", "bytea"])
            for work, prediction, vector in zip(batch, predictions, packed, strict=True):
                scores = (prediction.scores * 1000).astype(np.int16).tolist()
                copy.write_row((work.image.id, prediction.tag_ids.tolist(), scores, vector))


def _rates(ours: float, baseline: float) -> dict[str, float]:
    return {
        "ours_per_second": round(ours, 2),
        "baseline_per_second": round(baseline, 2),
        "ratio": round(ours / baseline, 3),
    }
