"""A worker process: how it starts and stops, and the background loops that run alongside the pipeline.

* heartbeat: renews leases and reports that this worker is alive.
* listing: continues listings that have begun.
* wake-ups: wakes workers when the ledger has work. Any worker does it for all, one worker at a time.
* index: publishes new vectors, one worker at a time.
* near copies: groups pictures that are nearly the same, one worker at a time.
* self-starter: starts work without a wake-up if there is work and none arrived (Redis is full, read-only or down).
* watches: begins the jobs of watched archives, and receives events about them.
* webhook: reports ended jobs, if a webhook is set.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import redis
import structlog

from storage.database import is_first, limit_idleness, unit_of_work
from storage.errors import FatalError, RamqError, ServiceUnavailableError
from storage.index.feature_compaction import compact as compact_features
from storage.index.feature_files import FeatureFiles
from storage.index.near_search import search_if_due
from storage.ledger import claims, shards
from storage.ledger import workers as worker_rows
from storage.ledger.waiting import Able
from storage.results.index_rows import indexed
from storage.tables import RECOGNITION
from workers.datasets.builder import DatasetBuilder
from workers.datasets.phase import Tools
from workers.ending import finish_before_leaving, finish_jobs
from workers.messages import kind_of
from workers.pipeline.decoders import Decoders
from workers.pipeline.fitness import INDEX, Fitness, UnfitError
from workers.pipeline.metrics import WorkerMetrics
from workers.pipeline.pipeline import Pipeline
from workers.pipeline.work import Lease
from workers.planner import Planner
from workers.publishing import publish
from workers.sidecars import Sidecars
from workers.stores import Stores
from workers.watching.loop import Watching, pause_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from storage.index.builder import IndexBuilder
    from storage.ledger.claims import ClaimedShard
    from storage.objects.base import S3Options
    from storage.results.nearness import Thresholds
    from workers.pipeline.model_holder import ModelHolder
    from workers.pipeline.steps import PipelineOptions
    from workers.webhook import Webhook

log = structlog.get_logger()

SLICE_SECONDS = 30.0
"""Length of a time slice. After it, a worker finishes what it holds and asks again for the most urgent work."""

BEAT_SECONDS = 2.0
LIST_SECONDS = 0.5
WAKE_UP_SECONDS = 0.5
INDEX_SECONDS = 5.0
DATASETS_SECONDS = 1.0
NEAR_SECONDS = 5.0
WEBHOOK_SECONDS = 1.0
SWEEP_SECONDS = 600.0
WAKE_UPS_PER_WORKER = 2
SILENCE_SECONDS = 10.0
"""A worker that received no wake-up for this long looks for work by itself."""
_WAKE_UPS_LOCK = 7_263_773


class Worker:
    """One worker process: one model, one pipeline and some background threads.

    Args:
        engine: the database.
        models: holds the model of this process.
        options: options of the pipeline.
        builder: publishes the vector index.
        wake: ``wake(model, n)`` keeps about ``n`` wake-ups for a model waiting in its queue.
        shard_size: images per shard when listing.
        s3: how to reach buckets.
        webhook: receives the reports of ended jobs; None: none are sent.
        near: what near copies are; None: this worker does not search for them.
        archive_allow: roots that watches may read; empty: all.
        watch_keep_days: how long ended jobs on events of watches are kept; 0: for ever.
        grace_seconds: how long to finish the batch in hand when told to stop; after it, its shards are given back.
            None: as long as it takes.
    """

    def __init__(  # noqa: PLR0913  (built in one place, by keyword)
        self,
        engine: Engine,
        models: ModelHolder,
        options: PipelineOptions,
        *,
        builder: IndexBuilder,
        wake: Callable[[str, int], None],
        shard_size: int,
        s3: S3Options,
        webhook: Webhook | None = None,
        near: Thresholds | None = None,
        archive_allow: tuple[str, ...] = (),
        watch_keep_days: int = 0,
        grace_seconds: float | None = None,
    ) -> None:
        self.id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.metrics = WorkerMetrics()
        self.fatal: FatalError | None = None
        self.work_now: Callable[[], object] = self.work
        """What the self-starter calls: the task, which also ends the process after a fatal error."""
        self._engine = engine
        self._models = models
        self.fitness = Fitness()
        self._options = options
        self._decoders = Decoders(options.decoders, options.max_pixels, reads_truncated=options.reads_truncated)
        self._builder = builder
        self._files = FeatureFiles(builder.store.place)
        self._wake = wake
        self._webhook = webhook
        self._near = near
        beside = Sidecars(engine, self._decoders, options.keep_place)
        sizes = {"shard_size": shard_size, "most_pages": options.most_pages}
        self._planner = Planner(engine, models, fitness=self.fitness, s3=s3, sidecars=beside, **sizes)
        self._datasets = DatasetBuilder(self.id, Tools(engine, self._files))
        self._watching = Watching(engine, self.id, archive_allow, watch_keep_days)
        self._stopping = threading.Event()
        self._grace_seconds = grace_seconds
        self._is_over = threading.Event()
        self._pipeline: Pipeline | None = None
        self._busy = threading.Lock()
        self._job_id: int | None = None
        self._stores = Stores(s3, self.fitness)
        self._listening = 1
        self._swept_at = self._worked_at = time.monotonic()
        self._threads: list[threading.Thread] = []

    # Life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the background threads. Without its device or model, the worker stays up and reports itself unfit."""
        try:
            self._models.check()
        except UnfitError as error:
            self.fitness.declare(error)
        self._beat()
        loops = [
            ("heartbeat", self._beat, lambda: min(BEAT_SECONDS, self._options.lease_seconds / 3)),
            # Shared chores: the pause grows with the number of workers, which keeps their total frequency constant.
            ("listing", self._list, lambda: LIST_SECONDS * self._listening),
            ("wake-ups", self._send_wake_ups, lambda: WAKE_UP_SECONDS * self._listening),
            ("index", self._publish, lambda: INDEX_SECONDS * self._listening),
            ("datasets", self._build_datasets, lambda: DATASETS_SECONDS * self._listening),
            ("watches", self._watching.step, lambda: pause_seconds(self._listening)),
            ("self-starter", self._start_unasked, lambda: SILENCE_SECONDS / 2),
        ]
        if self._webhook is not None:
            loops.append(("webhook", self._report_ended, lambda: WEBHOOK_SECONDS * self._listening))
        if self._near is not None:
            loops.append(("near copies", self._search_near, lambda: NEAR_SECONDS * self._listening))
        for name, action, pause in loops:
            # A batch in hand may take longer than a lease: its leases are renewed until it is written.
            ended = self._is_over if action == self._beat else self._stopping
            thread = threading.Thread(target=self._repeat, args=(name, action, pause, ended), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Take no new work, finish the batch in hand and release the rest. Returns at once.

        If the batch is not written after the grace period, it is discarded, and what is held is released too.
        """
        self._stopping.set()
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.stop(self._grace_seconds)

    @property
    def is_stopping(self) -> bool:
        """Whether the worker no longer takes new work."""
        return self._stopping.is_set()

    def wait(self, seconds: float) -> None:
        """Wait for this many seconds, or until the worker has to stop."""
        self._stopping.wait(seconds)

    def leave(self) -> None:
        """Wait until the current work has ended, then deregister."""
        self.stop()
        with self._busy:
            self._decoders.close()
        self._is_over.set()
        for thread in self._threads:
            thread.join(timeout=10)
        try:
            self._watching.stop()
            self.metrics.pace.report(self._engine, self._models.device, is_last=True)
            finish_before_leaving(self._engine, self._grace_seconds)
            with unit_of_work(self._engine) as session:
                worker_rows.leave(session, self.id)
        except ServiceUnavailableError as error:
            log.warning("could not deregister", error=str(error))

    # The task ------------------------------------------------------------------------------------------------------

    def work(self) -> int:
        """Answer a wake-up: list and recognise until no work is left or the time slice ends.

        Returns:
            How many images were completed (written or postponed).

        Raises:
            FatalError: this worker has to stop.
        """
        if not self._busy.acquire(blocking=False):
            return 0
        try:
            return self._work()
        except FatalError as error:
            self.fatal = error
            self._stopping.set()
            raise
        finally:
            self._pipeline = None
            self._worked_at = time.monotonic()
            self._busy.release()

    def _work(self) -> int:
        until = time.monotonic() + SLICE_SECONDS
        with Pipeline(
            self._engine,
            self._models,
            self._options,
            decoders=self._decoders,
            files=self._files,
            fitness=self.fitness,
            metrics=self.metrics,
        ) as pipeline:
            self._pipeline = pipeline
            while not self._stopping.is_set() and time.monotonic() < until:
                before = pipeline.settled
                begun = self._planner.begin(self._stopping.is_set)
                self._run_shards(pipeline, until)
                finish_jobs(self._engine, self._stopping.is_set)
                if not begun and pipeline.settled == before:
                    break
            return pipeline.settled

    def _run_shards(self, pipeline: Pipeline, until: float) -> None:
        """Feed shards one after the other, at most two at a time, until none is left or the time slice ends."""
        while not self._stopping.is_set() and time.monotonic() < until:
            pipeline.wait_until_at_most(1)
            # While images of a shard are in the pipeline, only shards of loaded models may follow: loading another one
            # may need the memory.
            held = {lease.shard.model for lease in pipeline.leases.held if lease.shard.stage == RECOGNITION}
            able = self._able()
            if able.barred.everything:
                break
            if held:
                able = replace(able, models=self._models.may_follow(held))
            leased = self._claim(able)
            if not leased:
                break
            self._job_id = leased[0].job_id
            reads_archive = leased[0].from_generation_id is None
            store = self._stores.open(leased[0].archive_uri) if reads_archive else None
            pipeline.feed(*(Lease(shard, store) for shard in leased))
        pipeline.wait_until_at_most(0)

    def _able(self) -> Able:
        models = self._models
        return Able(models.served, models.runs, models.other_generations, self.fitness.barred())

    def _claim(self, able: Able) -> list[ClaimedShard]:
        """Lease the next shard, and those of other stages with the same images. Empty if there is nothing to do."""
        seconds = self._options.lease_seconds
        with unit_of_work(self._engine) as session:
            shard = claims.claim(session, owner=self.id, lease_seconds=seconds, able=able)
            if shard is None:
                return []
            others = claims.claim_together(session, shard, owner=self.id, lease_seconds=seconds, able=able)
        return [shard, *others]

    # Background loops ------------------------------------------------------------------------------------------------

    @staticmethod
    def _repeat(name: str, action: Callable[[], None], pause: Callable[[], float], ended: threading.Event) -> None:
        while not ended.wait(pause() * random.uniform(0.8, 1.2)):  # noqa: S311  (spreads workers, no secret)
            try:
                action()
            except (RamqError, redis.RedisError) as error:
                log.warning("trouble beside the pipeline", part=name, error=str(error).splitlines()[0])
            except Exception:
                # A worker whose heartbeat or wake-up thread died silently would look idle forever: log and continue.
                log.exception("unexpected error beside the pipeline", part=name)

    def _beat(self) -> None:
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.leases.renew_all()
            self.metrics.observe(pipeline.steps.depths, len(pipeline.leases.held))
        rate = self.metrics.measure_rate(is_working=pipeline is not None)
        self.metrics.pace.report(self._engine, self._models.device)
        with unit_of_work(self._engine) as session:
            worker_rows.beat(
                session,
                self.id,
                host=socket.gethostname(),
                pid=os.getpid(),
                device=self._models.device,
                model=self._models.current or self._models.pinned,
                job_id=self._job_id if pipeline is not None else None,
                images_per_second=rate,
                stages=pipeline.steps.busy_seconds if pipeline is not None else {},
                sends_notices=self._webhook is not None,
                models=self._models.served,
                runs=self._models.runs,
                weights=self._models.weights(),
                unfit=self.fitness.reasons(),
            )

    def _list(self) -> None:
        while self._planner.go_on(self._stopping.is_set) and not self._stopping.is_set():
            pass
        self._planner.catch_up(self._stopping.is_set)

    def _send_wake_ups(self) -> None:
        """Keep as many wake-ups waiting as there are workers to receive them, but no more than there is work."""
        with unit_of_work(self._engine) as session:
            limit_idleness(session)
            if not is_first(session, _WAKE_UPS_LOCK):
                return
            worker_rows.forget_gone(session, older_than_seconds=3600)
            backlog = shards.backlog(session)
            self._listening = max(1, sum(view.is_alive for view in worker_rows.views(session)))
        finish_jobs(self._engine, self._stopping.is_set)
        for model, waiting in backlog.items():
            self._wake(model, min(waiting, WAKE_UPS_PER_WORKER * self._listening))

    def _start_unasked(self) -> None:
        """Start work without a wake-up. Wake-ups only save queries: the database itself knows what there is to do."""
        if self._busy.locked() or time.monotonic() - self._worked_at < SILENCE_SECONDS:
            return
        with unit_of_work(self._engine) as session:
            waiting = shards.backlog(session)
        if any({model, kind_of(model)} & {*self._models.names} for model in waiting):
            log.info("no wake-up came, though there is work")
            self.work_now()

    def _report_ended(self) -> None:
        while self._webhook is not None and not self._stopping.is_set() and self._webhook.deliver(self._engine):
            pass

    def _search_near(self) -> None:
        if self._near is not None:
            found = search_if_due(self._engine, self._near, lambda: not self._stopping.is_set())
            if found is not None:
                log.info("near copies", grouped=found.grouped, images=found.images, seconds=round(found.seconds, 1))

    def _build_datasets(self) -> None:
        while self._datasets.step(self._stopping.is_set):
            pass

    def _publish(self) -> None:
        try:
            self._publish_new()
        except (RamqError, OSError) as error:
            self.fitness.declare(UnfitError(INDEX, f"new vectors are not published: {error}"))
            return
        self.fitness.prove(INDEX)

    def _publish_new(self) -> None:
        self._builder.check()
        with unit_of_work(self._engine) as session:
            ids = list(indexed(session))
        is_sweep = time.monotonic() - self._swept_at > SWEEP_SECONDS
        if is_sweep:
            self._builder.look_again()
        for generation_id in ids:
            if publish(self._engine, self._builder, generation_id) is not None or is_sweep:
                self._builder.compact(generation_id)
        if is_sweep:
            self._swept_at = time.monotonic()
            self._builder.collect_garbage()
            compact_features(self._engine, self._builder.store.place)
