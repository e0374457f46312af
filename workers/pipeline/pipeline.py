"""The pipeline of one worker: fetch, decode, infer and write run in parallel, with bounded queues between them.

Shards flow through it one after the other. The next one is claimed as soon as the last image of the previous one is in
the pipeline. This keeps the model busy between shards. At most two shards are leased at a time.
"""

from __future__ import annotations

import queue
import threading
from functools import partial
from typing import TYPE_CHECKING, Self

import structlog

from storage.database import unit_of_work
from storage.errors import FatalError
from storage.ledger import shards
from workers.file_pages import PageLimits
from workers.pipeline.batch import Batcher, add_waiting
from workers.pipeline.budget import BytesBudget
from workers.pipeline.decoding import Decoding
from workers.pipeline.feed import works_of
from workers.pipeline.fetch import fetch, load_features
from workers.pipeline.fitness import EVERYTHING, as_unfit_for, concerns_worker, is_orderly, of_archive, of_model
from workers.pipeline.fitting import Fitting
from workers.pipeline.in_flight import InFlight
from workers.pipeline.infer import do_stage, recognise
from workers.pipeline.leases import HeldLeases
from workers.pipeline.paged_files import PagedFiles
from workers.pipeline.recall import Recall
from workers.pipeline.retry import WorkerCrashedError
from workers.pipeline.steps import PipelineOptions, Steps
from workers.pipeline.work import SUSPECT_DEATHS, ImageFailure, Lease, Work, combined
from workers.pipeline.write import finalise_old_failures, write
from workers.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from sqlalchemy import Engine

    from ram_core.recognition import Preprocessing
    from storage.index.feature_files import FeatureFiles
    from workers.pipeline.decoders import Decoders
    from workers.pipeline.fitness import Fitness
    from workers.pipeline.infer import Start, SubmittedBatch
    from workers.pipeline.metrics import WorkerMetrics
    from workers.pipeline.model_holder import LoadedModel, ModelHolder
    from workers.pipeline.step import Step
    from workers.pipeline.work import Batch

log = structlog.get_logger()


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
        self._decoding = Decoding(decoders, options.keep_place, self._preprocessing_of, self._judge)
        self._files = files
        self._options = options
        self._metrics = metrics
        self._budget = BytesBudget(options.budget_bytes)
        self._paged = PagedFiles(self._budget)
        self._page_limits = PageLimits(options.most_pages, options.shard_size)
        self.steps = Steps(options, metrics)
        self._fatal: BaseException | None = None
        self._stopping = threading.Event()
        self.leases = HeldLeases(engine, options.lease_seconds, self._stopping)
        self._in_hand = 0
        self._lock = threading.Lock()
        self.settled = 0

    def __enter__(self) -> Self:
        steps = self.steps
        steps.fetch.start(self._fetch, self._fail)
        steps.recall.start(Recall(self._engine, self._files, steps, self._release).loop, self._fail)
        steps.decode.start(self._decode, self._fail)
        steps.infer.start(partial(self._infer, steps.infer, lambda _: self._options.batch_size), self._fail)
        steps.infer_further.start(
            partial(self._infer, steps.infer_further, lambda lease: STAGES[lease.shard.stage].batch_size), self._fail
        )
        steps.write.start(self._write, self._fail)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        # Finish the batch in hand: its images are nearly done.
        self.leases.wait_for(lambda: self._in_hand == 0 or self._fatal is not None or not self.leases.held)
        for lease in self.leases.held:
            if self._fatal is None or is_orderly(self._fatal):
                self.leases.give_up(lease)
            else:
                self.leases.drop(lease)
        self.steps.close()
        self._paged.close()

    # Used by the worker --------------------------------------------------------------------------------------------

    def feed(self, lease: Lease, *others: Lease) -> None:
        """Put the pending images of a shard into the pipeline. Blocks while the queues are full.

        ``others`` are shards with the same images for other stages: each image is fetched and decoded once for all.
        """
        for held in (lease, *others):
            held.goes_with = lease.shard.id
            self.leases.add(held)
            log.info("shard begun", **held.labels, images=held.left, attempts=held.shard.attempts)
        if lease.is_careful:
            # Isolate the image: if one of another shard kills the worker, this shard's must not be blamed.
            self.wait_until_at_most(1)
        self._raise_fatal()
        taken = [held for held in (lease, *others) if self._is_for_us(held)]
        for held in taken:
            held.begin()
            if not held.pending:
                self.leases.finish(held)
        for work in works_of(self._engine, [held for held in taken if held.pending], self._models.stages):
            if all(self._drops(held) for held in taken):
                break
            if work.failure is not None:
                for each in work.together:
                    self.steps.inbox_of(each).put(each)
            elif work.lease.is_careful:
                self._feed_alone(work)
            else:
                self.steps.fetch.inbox.put(work)
        self._raise_fatal()

    def stop(self, grace_seconds: float | None = None) -> None:
        """Take no more images, and finish the batch in hand. After the grace period, release what is held anyway."""
        self._stopping.set()
        self.leases.notify()
        if grace_seconds is not None:
            self.leases.give_up_after(grace_seconds)

    def wait_until_at_most(self, leases: int) -> None:
        """Wait until at most this many shards are held. Those that go together count as one."""
        is_stopped = self._stopping.is_set
        self.leases.wait_for(lambda: self.leases.groups <= leases or self._fatal is not None or is_stopped())
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

    def _feed_alone(self, work: Work) -> None:
        """Send one image through an empty pipeline, after recording in the ledger that it is alone."""
        lease, shard = work.lease, work.lease.shard
        if work.position == shard.probe and shard.probe_deaths >= SUSPECT_DEATHS:
            work.failure = ImageFailure.of(
                WorkerCrashedError(f"{shard.probe_deaths} workers died while they processed only this image")
            )
            self.steps.inbox_of(work).put(work)
        else:
            try:
                with unit_of_work(self._engine) as session:
                    shards.set_probe(session, shard.id, shard.epoch, work.position)
            except shards.FencedError:
                self.leases.drop(lease)
                return
            self.steps.fetch.inbox.put(work)
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

    def _kept(self, work: Work) -> Work | None:
        """Return what is left of an image's work without that of lost leases; None if nothing is."""
        left = [each for each in work.together if not self._drops(each.lease)]
        if left and left[0] is not work:
            work.hand_to(left[0])
        return combined(left)

    def _fetch(self) -> None:
        while (found := self.steps.fetch.inbox.get()) is not None:
            if (work := self._kept(found)) is None:
                continue
            self._fetch_one(work)
            if work.failure is not None or all(each.lease.is_over for each in work.together):
                self._release(work)
            for other in work.others:
                other.version, other.sha256, other.failure = work.version, work.sha256, work.failure
            if work.body is not None:
                self.steps.recall.inbox.put(work)
                continue
            for each in work.together:
                self.steps.inbox_of(each).put(each)

    def _fetch_one(self, work: Work) -> None:
        if work.lease.is_store_down:
            detail = "postponed because other images failed"
            work.failure = ImageFailure(is_transient=True, code="store_unavailable", about_content=False, detail=detail)
            return
        if work.lease.store is not None and work.page == 1:  # a page reserves nothing: its file does
            work.reserved_bytes = self._budget.acquire(work.image.size_bytes)
        with self.steps.fetch.timed(work.lease, [work]):
            try:
                self._get(work)
            except Exception as error:  # noqa: BLE001  (the table of errors classifies it)
                for each in work.together:
                    self._judge(each, error)
        for each in work.together:
            each.lease.note_fetch(work.failure)

    def _get(self, work: Work) -> None:
        """Fetch an image's bytes, or load its stored features."""
        if work.lease.store is None:
            load_features(work, self._model_of(work.lease).retagger.retags_from, self._files, self._engine)
        else:
            fetch(work, self._options.max_object_bytes, self._paged)

    def _decode(self) -> None:
        while (found := self.steps.decode.inbox.get()) is not None:
            work = self._kept(found)
            if work is None:
                self._release(found)
                continue
            with self.steps.decode.timed(work.lease, [work]):
                assert work.body is not None
                self._decoding.decode(work.together, work.body, work.file)
            self._release(work)
            for each in work.together:
                if not self._drops(each.lease):
                    self.steps.inbox_of(each).put(each)

    def _preprocessing_of(self, lease: Lease) -> Preprocessing:
        if not lease.is_further:
            return self._model_of(lease).preprocessing
        return self._models.stages.get_for(lease.shard).preprocessing

    def _infer(self, step: Step[Work], size_of: Callable[[Lease], int]) -> None:
        fitting = Fitting(lambda name: self._models.release_idle({name, *self.leases.models}))
        in_flight = InFlight(step, fitting, partial(self._read, step), self.steps.write.inbox.put)
        batcher = Batcher(size_of)
        while True:
            for batch in batcher.overdue():
                self._submit(batch, step, in_flight)
            in_flight.read_done()
            try:
                work = step.inbox.get(timeout=in_flight.patience)
            except queue.Empty:
                continue
            if work is None:  # whatever is still under way will not be written: see __exit__
                return
            if self._drops(work.lease):
                continue
            full = batcher.add(work, is_last=work.lease.arrived() or work.lease.is_careful)
            if full is not None:
                self._submit(full, step, in_flight)

    def _submit(self, batch: Batch, step: Step[Work], in_flight: InFlight) -> None:
        """Give a batch to its model. Read the results of the one before it, if the device had not finished that."""
        if self._drops(batch.lease):
            return
        with self._lock:
            self._in_hand += 1
        try:
            with step.labelled(batch.lease):
                start = self._start_of(batch)
        except Exception as error:  # noqa: BLE001  (raised again unless this worker is the cause)
            self._leave_to_others(batch.lease, error)
            self.steps.write.inbox.put(batch)
        else:
            in_flight.submit(batch, start)

    def _read(self, step: Step[Work], submitted: SubmittedBatch) -> None:
        # Even if its lease is over: a batch stays in hand until it has passed the last stage.
        lease = submitted.batch.lease
        try:
            with step.labelled(lease):
                submitted.finish()
        except Exception as error:  # noqa: BLE001  (raised again unless this worker is the cause)
            self._leave_to_others(lease, error)

    def _write(self) -> None:
        while (batch := self.steps.write.inbox.get()) is not None:
            count = 1 + add_waiting(batch, self.steps.write.inbox)
            if not batch.lease.is_over and self._fatal is None:
                try:
                    self._write_batch(batch)
                except Exception as error:  # noqa: BLE001  (raised again unless this worker is the cause)
                    self._leave_to_others(batch.lease, error)
            with self._lock:
                self._in_hand = max(0, self._in_hand - count)
            self.leases.notify()

    def _write_batch(self, batch: Batch) -> None:
        lease = batch.lease
        finalise_old_failures(batch)
        with self.steps.write.timed(lease, batch.works):
            how = (batch.thresholds, self._options.lease_seconds, self._files, batch.stage)
            places, pages = self._options.keep_place, self._page_limits
            state = self.leases.until_available(
                lease, lambda: write(self._engine, batch, *how, keep_place=places, pages=pages)
            )
        if state is None:
            return
        if batch.sound:
            proved = [EVERYTHING, of_model(lease.shard.model), of_model(lease.shard.captioner)]
            self._fitness.prove(*proved, *([of_archive(lease.shard.archive_uri)] if lease.store else []))
        lease.transient_failures += [work.failure for work in batch.works if work.failure and work.failure.is_transient]
        self.settled += len(batch.works)
        self._metrics.settled(batch)
        if lease.settle(len(batch.works)):
            self.leases.finish(lease)
        elif state != "running":
            self.leases.give_up(lease)

    # Helpers -------------------------------------------------------------------------------------------------------

    def _judge(self, work: Work, error: Exception) -> None:
        if concerns_worker(error):
            self._leave_to_others(work.lease, error)
            return
        work.failure = ImageFailure.of(error)
        outcome = "image waits" if work.failure.is_transient else "image failed"
        log.info(outcome, error_class=work.failure.code, error=work.failure.detail)

    def _start_of(self, batch: Batch) -> Start:
        """Look up the model of a batch. Return what gives images to it."""
        if batch.lease.is_further:
            batch.stage = self._models.stages.get_for(batch.lease.shard)
            return partial(do_stage, batch.stage)
        model = self._model_of(batch.lease)
        batch.thresholds = model.thresholds
        return partial(recognise, model)

    def _model_of(self, lease: Lease) -> LoadedModel:
        return self._models.get(lease.shard.model, lease.shard.vocabulary_id)

    def _release(self, work: Work) -> None:
        self._budget.release(work.reserved_bytes)
        work.reserved_bytes, work.body = 0, None
        if work.file is not None:
            self._paged.release(work.file)
            work.file = None

    def _raise_fatal(self) -> None:
        if self._fatal is not None:
            raise FatalError(f"the pipeline stopped: {self._fatal}") from self._fatal
