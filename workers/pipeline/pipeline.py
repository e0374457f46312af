"""The pipeline of one worker: fetch, decode, infer and write run in parallel, with bounded queues between them.

Shards flow through it one after the other. The next one is claimed as soon as the last image of the previous one is in
the pipeline. This keeps the model busy between shards. At most two shards are leased at a time.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import structlog

from ram_core.errors import ModelError
from storage.database import unit_of_work
from storage.errors import FatalError, ServiceUnavailableError
from storage.ledger import shards
from storage.results import features, images
from workers.pipeline.batch import Batcher
from workers.pipeline.fetch import BytesBudget, fetch, load_features
from workers.pipeline.fitness import EVERYTHING, as_unfit_for, concerns_worker, of_archive, of_model
from workers.pipeline.infer import infer
from workers.pipeline.leases import HeldLeases
from workers.pipeline.retry import DeviceLostError, WorkerCrashedError, tries_allowed
from workers.pipeline.stage import Stage
from workers.pipeline.work import SUSPECT_DEATHS, ImageFailure, Lease, Work
from workers.pipeline.write import write

if TYPE_CHECKING:
    from types import TracebackType

    from sqlalchemy import Engine

    from storage.index.feature_files import FeatureFiles
    from storage.ledger.shards import ClaimedShard
    from workers.pipeline.decoders import Decoders
    from workers.pipeline.fitness import Fitness
    from workers.pipeline.metrics import WorkerMetrics
    from workers.pipeline.model_holder import LoadedModel, ModelHolder
    from workers.pipeline.work import Batch

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Sizes and limits of the stages."""

    batch_size: int
    fetch_threads: int
    decoders: int
    lease_seconds: float
    max_object_bytes: int
    max_pixels: int
    budget_bytes: int = 512 * 1024 * 1024


class Pipeline:
    """Runs claimed shards. Use as a context manager; ``feed`` from one thread."""

    def __init__(  # noqa: PLR0913  (built in one place, by keyword)
        self,
        engine: Engine,
        models: ModelHolder,
        options: PipelineOptions,
        *,
        decoders: Decoders,
        files: FeatureFiles,
        fitness: Fitness,
        metrics: WorkerMetrics,
    ) -> None:
        self._engine = engine
        self._fitness = fitness
        self._models = models
        self._decoders = decoders
        self._files = files
        self._options = options
        self._metrics = metrics
        self._budget = BytesBudget(options.budget_bytes)
        fetchers = options.fetch_threads
        self._fetching: Stage[Work] = Stage("fetch", fetchers, 2 * fetchers, metrics)
        self._decoding: Stage[Work] = Stage("decode", options.decoders, fetchers + 2 * options.decoders, metrics)
        self._inferring: Stage[Work] = Stage("infer", 1, 2 * options.batch_size, metrics)
        self._writing: Stage[Batch] = Stage("write", 1, 2, metrics)
        self._stages: tuple[Stage[Any], ...] = (self._fetching, self._decoding, self._inferring, self._writing)
        self._fatal: BaseException | None = None
        self._stopping = threading.Event()
        self.leases = HeldLeases(engine, options.lease_seconds, self._stopping)
        self._in_hand = 0
        self._lock = threading.Lock()
        self.settled = 0

    def __enter__(self) -> Self:
        loops = (self._fetch, self._decode, self._infer, self._write)
        for stage, loop in zip(self._stages, loops, strict=True):
            stage.start(loop, self._fail)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        # Finish the batch in hand: its images are nearly done.
        self.leases.wait_for(lambda: self._in_hand == 0 or self._fatal is not None)
        for lease in self.leases.held:
            if self._fatal is None or _is_orderly(self._fatal):
                self.leases.give_up(lease)
            else:
                self.leases.drop(lease)
        for stage in self._stages:  # upstream first: nothing may be put into a stage that is closed
            stage.close()

    # Used by the worker --------------------------------------------------------------------------------------------

    @property
    def depths(self) -> dict[str, int]:
        """Number of images that wait before each stage."""
        return {stage.name: stage.inbox.qsize() for stage in self._stages}

    @property
    def busy_seconds(self) -> dict[str, float]:
        """Seconds that each stage has worked, divided by the number of its threads."""
        return {stage.name: stage.busy_seconds for stage in self._stages if stage.busy_seconds}

    def feed(self, shard: ClaimedShard, lease: Lease) -> None:
        """Put the pending images of a shard into the pipeline. Blocks while the queues are full."""
        self.leases.add(lease)
        log.info("shard begun", **lease.labels, images=lease.left, attempts=shard.attempts)
        if lease.is_careful:
            # Isolate the image: if one of another shard kills the worker, this shard's must not be blamed.
            self.wait_until_at_most(1)
        self._raise_fatal()
        if not self._is_for_us(lease):
            return
        lease.begin()
        with unit_of_work(self._engine) as session:
            known = images.keys(session, shard.image_ids)
            source = shard.from_generation_id
            kept = {} if source is None else features.kept(session, source, shard.image_ids)
        pending = lease.pending
        if not pending:
            self.leases.finish(lease)
            return
        for position in self._suspects_first(lease, pending):
            if self._drops(lease):
                break
            image_id = shard.image_ids[position]
            key = known.get(image_id) or images.ImageKey(image_id, "", "", 0)
            work = Work(lease, position, key, key.version, kept.get(image_id))
            if image_id not in known:  # deleted meanwhile: the write stage finds no row and skips it
                work.failure = ImageFailure(is_transient=False, code="missing", about_content=False, detail="deleted")
                self._inferring.inbox.put(work)
            elif lease.is_careful:
                self._feed_alone(work)
            else:
                self._fetching.inbox.put(work)
        self._raise_fatal()

    def stop(self) -> None:
        """Take no more images. Images before the model are dropped, and the batch in hand is finished."""
        self._stopping.set()
        self.leases.notify()

    def wait_until_at_most(self, leases: int) -> None:
        """Wait until at most this many shards are held."""
        self.leases.wait_for(
            lambda: len(self.leases.held) <= leases or self._fatal is not None or self._stopping.is_set()
        )
        self._raise_fatal()

    def _is_for_us(self, lease: Lease) -> bool:
        """Return whether this worker can process the shard. If not, release it for others.

        It cannot if the model does not load here, or if the model has the same name but other weights.
        """
        shard = lease.shard
        try:
            if self._models.is_fit_for(shard):
                return True
        except Exception as error:  # noqa: BLE001  (raised again unless this worker is the cause)
            self._leave_to_others(lease, error)
            return False
        note = f"waiting for workers with the {shard.model} of generation {shard.generation_id}; others have another"
        log.warning("refused", **lease.labels, reason=note)
        self.leases.give_up(lease, note)
        return False

    def _leave_to_others(self, lease: Lease, error: Exception) -> None:
        """Release a shard if this worker is the cause of the error. Raise any other error."""
        unfit = as_unfit_for(lease, error)
        if unfit is None:
            raise error
        self._fitness.declare(unfit)
        self.leases.give_up(lease)

    # Feeding -------------------------------------------------------------------------------------------------------

    @staticmethod
    def _suspects_first(lease: Lease, pending: list[int]) -> list[int]:
        suspect = lease.shard.probe
        if suspect is None or suspect not in pending:
            return pending
        return [suspect, *(position for position in pending if position != suspect)]

    def _feed_alone(self, work: Work) -> None:
        """Send one image through an empty pipeline, after recording in the ledger that it is alone."""
        lease, shard = work.lease, work.lease.shard
        if work.position == shard.probe and shard.probe_deaths >= SUSPECT_DEATHS:
            work.failure = ImageFailure.of(
                WorkerCrashedError(f"{shard.probe_deaths} workers died while they processed only this image")
            )
            self._inferring.inbox.put(work)
        else:
            try:
                with unit_of_work(self._engine) as session:
                    shards.set_probe(session, shard.id, shard.epoch, work.position)
            except shards.FencedError:
                self.leases.drop(lease)
                return
            self._fetching.inbox.put(work)
        left = lease.left - 1
        while not lease.wait_until_left(left, 0.5) and not self._drops(lease):
            pass

    # Stages --------------------------------------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        """Keep the first error of a stage for the feeding thread. Stop waiting for the stage's batch in hand."""
        with self._lock:
            self._fatal = self._fatal or error
            self._in_hand = 0
        self.leases.notify()

    def _drops(self, lease: Lease) -> bool:
        """Return whether to discard the images of this lease."""
        return lease.is_over or self._stopping.is_set() or self._fatal is not None

    def _fetch(self) -> None:
        while (work := self._fetching.inbox.get()) is not None:
            if self._drops(work.lease):
                continue
            if work.lease.is_store_down:
                work.failure = ImageFailure(
                    is_transient=True,
                    code="store_unavailable",
                    about_content=False,
                    detail="postponed because other images failed",
                )
            else:
                if work.lease.store is not None:
                    work.reserved_bytes = self._budget.acquire(work.image.size_bytes)
                with self._fetching.timed(work.lease, key=work.image.key):
                    try:
                        self._get(work)
                    except Exception as error:  # noqa: BLE001  (the table of errors classifies it)
                        self._judge(work, error)
                work.lease.note_fetch(work.failure)
            if work.failure is not None or work.lease.is_over:
                self._release(work)
            (self._decoding.inbox if work.body is not None else self._inferring.inbox).put(work)

    def _get(self, work: Work) -> None:
        """Fetch an image's bytes, or load its stored features."""
        if work.lease.store is None:
            load_features(work, self._model_of(work.lease).retagger.retags_from, self._files)
        else:
            fetch(work, self._options.max_object_bytes)

    def _decode(self) -> None:
        while (work := self._decoding.inbox.get()) is not None:
            if not self._drops(work.lease):
                preprocessing = self._model_of(work.lease).recognizer.preprocessing
                assert work.body is not None
                with self._decoding.timed(work.lease, key=work.image.key):
                    try:
                        work.pixels, work.width, work.height = self._decoders.decode(work.body, preprocessing)
                    except Exception as error:  # noqa: BLE001
                        self._judge(work, error)
            self._release(work)
            if not self._drops(work.lease):
                self._inferring.inbox.put(work)

    def _infer(self) -> None:
        batcher = Batcher(self._options.batch_size)
        while True:
            for batch in batcher.overdue():
                self._infer_batch(batch)
            try:
                work = self._inferring.inbox.get(timeout=0.2)
            except queue.Empty:
                continue
            if work is None:
                return
            if self._drops(work.lease):
                continue
            full = batcher.add(work, is_last=work.lease.arrived() or work.lease.is_careful)
            if full is not None:
                self._infer_batch(full)

    def _infer_batch(self, batch: Batch) -> None:
        if self._drops(batch.lease):
            return
        with self._lock:
            self._in_hand += 1
        model = self._model_of(batch.lease)
        try:
            with self._inferring.timed(batch.lease):
                infer(batch, model, batch.lease.shard.captioner)
        except Exception as error:  # noqa: BLE001  (raised again unless this worker is the cause)
            self._leave_to_others(batch.lease, error)
        # Even if its lease is over: a batch stays in hand until it has passed the last stage.
        self._writing.inbox.put(batch)

    def _write(self) -> None:
        while (batch := self._writing.inbox.get()) is not None:
            if not batch.lease.is_over and self._fatal is None:
                try:
                    self._write_batch(batch)
                except Exception as error:  # noqa: BLE001  (raised again unless this worker is the cause)
                    self._leave_to_others(batch.lease, error)
            with self._lock:
                self._in_hand = max(0, self._in_hand - 1)
            self.leases.notify()

    def _write_batch(self, batch: Batch) -> None:
        lease = batch.lease
        thresholds = self._model_of(lease).thresholds
        self._finalise_old_failures(batch)
        with self._writing.timed(lease):
            state = self.leases.until_available(
                lease, lambda: write(self._engine, batch, thresholds, self._options.lease_seconds, self._files)
            )
        if state is None:
            return
        if batch.sound:
            proved = [EVERYTHING, of_model(lease.shard.model), of_model(lease.shard.captioner)]
            self._fitness.prove(*proved, *([of_archive(lease.shard.archive_uri)] if lease.store else []))
        lease.transient_failures += [work.failure for work in batch.works if work.failure and work.failure.is_transient]
        self.settled += len(batch.works)
        self._metrics.settled(len(batch.works))
        is_last = lease.settle(len(batch.works))
        if is_last:
            self.leases.finish(lease)
        elif state != "running":
            self.leases.give_up(lease)

    # Leases --------------------------------------------------------------------------------------------------------

    def _finalise_old_failures(self, batch: Batch) -> None:
        """Turn transient failures into final ones after enough rounds of the shard."""
        lease = batch.lease
        has_progress = bool(len(lease.outcomes) - lease.outcomes.count(shards.PENDING))
        if lease.shard.tries + 1 < tries_allowed(has_progress=has_progress):
            return
        for work in batch.works:
            if work.failure is not None and work.failure.is_transient:
                work.failure = ImageFailure(
                    is_transient=False,
                    code=work.failure.code,
                    about_content=False,
                    detail=f"{work.failure.detail} (after {lease.shard.tries + 1} rounds)",
                )

    # Helpers -------------------------------------------------------------------------------------------------------

    def _judge(self, work: Work, error: Exception) -> None:
        if concerns_worker(error):
            self._leave_to_others(work.lease, error)
            return
        work.failure = ImageFailure.of(error)
        outcome = "image waits" if work.failure.is_transient else "image failed"
        log.info(outcome, error_class=work.failure.code, error=work.failure.detail)

    def _model_of(self, lease: Lease) -> LoadedModel:
        return self._models.get(lease.shard.model, lease.shard.vocabulary_id)

    def _release(self, work: Work) -> None:
        self._budget.release(work.reserved_bytes)
        work.reserved_bytes, work.body = 0, None

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise FatalError(f"the pipeline stopped: {self._fatal}") from self._fatal


def _is_orderly(error: BaseException) -> bool:
    """Return whether a fatal error shows by its class that no image is to blame.

    After any other error, and after a lost device, the shards are not released but their leases expire. The ledger
    counts that as the death of a holder. That way an image that does this to every worker is found like one that kills
    workers.
    """
    expected = isinstance(error, FatalError | ModelError | ServiceUnavailableError)
    return expected and not isinstance(error, DeviceLostError)
