"""Plan: list an archive's keys in order, one page at a time, and cut the images to recognise into shards.

A page is one transaction: keys, counts, shards and the cursor after it. If a planner dies, the listing resumes after
the last page. Several planners list one archive, each a range of its keys. Two cannot both move the cursor of a range.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog
from structlog.contextvars import bound_contextvars

from storage import traces
from storage.database import unit_of_work
from storage.errors import ForbiddenError, RamqError, TransientError
from storage.ledger import followers, jobs, listings, unfound
from storage.ledger import ignored as ignored_keys
from storage.ledger.quotas import NoRoomError
from storage.ledger.waiting import Able
from storage.objects.manifest import Manifest
from storage.objects.source import open_store, parse_source
from storage.results import archives, contents, images
from storage.tables import RECOGNITION
from workers.ending import finish_jobs
from workers.file_pages import PageLimits, upsert_page
from workers.named_keys import NamedKeys
from workers.noting import note_words
from workers.pipeline.fitness import EVERYTHING, UnfitError, as_unfit, of_archive, of_model
from workers.pipeline.retry import backoff_seconds
from workers.ranges import CUT_AFTER, Cutter
from workers.recorded import LEASE_SECONDS, add_page, follow, list_for_stage, list_named, list_recorded, renew
from workers.settling import Settling, with_order
from workers.sources import Sources
from workers.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.ledger.listings import ClaimedListing
    from storage.objects.base import ObjectInfo, S3Options
    from workers.pipeline.fitness import Fitness
    from workers.pipeline.model_holder import ModelHolder
    from workers.sidecars import Sidecars
    from workers.sources import Reading

log = structlog.get_logger()

STEP_SECONDS = 3.0
"""A listing step ends after this time, to let listed images be processed and small jobs be listed too."""

TAR_STEP_SECONDS = 30.0
"""The same for tar files. Whoever goes on reads the headers of the current ones again."""

MOST_ATTEMPTS = 60
"""A job fails after this many attempts in a row without a page, up to a minute apart. Resuming it resets the count."""


class Planner:
    """Lists the archives of jobs.

    Args:
        engine: the database.
        models: knows the generation of a model, which decides what is already recorded.
        fitness: what this worker cannot do at the moment.
        shard_size: images per shard.
        s3: how to reach buckets.
        sidecars: reads those beside images; None: they are not read.
        most_pages: images that one file may become.
    """

    def __init__(  # noqa: PLR0913  (built in one place, by keyword)
        self,
        engine: Engine,
        models: ModelHolder,
        *,
        fitness: Fitness,
        shard_size: int,
        s3: S3Options,
        sidecars: Sidecars | None = None,
        most_pages: int = 1_000,
    ) -> None:
        self._sidecars = sidecars
        self._engine = engine
        self._models = models
        self._fitness = fitness
        self._shard_size = shard_size
        self._limits = PageLimits(most_pages, shard_size)
        self._s3 = s3
        self._sources = Sources(engine, s3, self._limits)
        self._named_keys = NamedKeys(engine, s3, self._limits, sidecars)
        self._cutter = Cutter(engine)
        self._settling = Settling(engine, sidecars)
        # The last source, where its step ended. Otherwise every step would read a manifest from its beginning.
        self._readings: dict[tuple[int, str | None, str | None], Reading] = {}

    def begin(self, should_stop: Callable[[], bool]) -> bool:
        """Begin the listing of a job whose model is not loaded, if any. Load the model to get its generation."""
        return self._step(should_stop, is_begun=False)

    def go_on(self, should_stop: Callable[[], bool]) -> bool:
        """Continue a listing for a few seconds. Return whether there was one. Loads no model."""
        return self._step(should_stop, is_begun=True)

    def _step(self, should_stop: Callable[[], bool], *, is_begun: bool) -> bool:
        barred = self._fitness.barred()
        if barred.everything:
            return False
        with unit_of_work(self._engine) as session:
            listing = listings.claim(
                session,
                loaded=self._models.loaded,
                is_begun=is_begun,
                lease_seconds=LEASE_SECONDS,
                able=Able(self._models.served, self._models.runs, barred=barred),
                opened=[range_id for range_id, _, _ in self._readings],
            )
        if listing is None:
            return False
        if listing.attempts > MOST_ATTEMPTS:
            self._fail(listing, f"the listing made no progress in {MOST_ATTEMPTS} attempts: see the workers' logs")
            return True
        about = {
            "ramq.job.id": listing.job_id,
            "ramq.listing.range": listing.range_id,
            "ramq.listing.epoch": listing.epoch,
        }
        with (
            bound_contextvars(job=listing.job_id, **traces.labels(listing.trace)),
            traces.root("list", about, {"job": listing.trace}),
        ):
            self._go_on(listing, should_stop)
        return True

    def _go_on(self, listing: ClaimedListing, should_stop: Callable[[], bool]) -> None:
        try:
            self._list(listing, should_stop)
        except listings.ListingLostError as error:
            log.info("listing lost", error=str(error))
            self._leave_to_others(listing)
        except NoRoomError as error:
            log.info("listing waits", error=str(error))
            self._leave_to_others(listing)
        except TransientError as error:
            delay = backoff_seconds(listing.attempts)
            log.warning("listing waits", error=str(error), seconds=delay)
            self._end(listing, f"waiting: {error}", delay_seconds=delay)
        except Exception as error:
            unfit = as_unfit(error, model=listing.model, archive=listing.archive_uri)
            if isinstance(error, ForbiddenError):  # the host that enqueued the job could list it, ours may not
                unfit = UnfitError(of_archive(listing.archive_uri), str(error))
            if unfit is not None:
                self._fitness.declare(unfit)
                self._leave_to_others(listing)
                return
            if isinstance(error, RamqError):
                self._fail(listing, str(error))
                return
            # A bug in ramq: show it on the job too, not only in a log.
            note = f"waiting: the listing failed unexpectedly ({type(error).__name__}): see the workers' logs"
            self._end(listing, note, delay_seconds=backoff_seconds(listing.attempts))
            raise

    def _leave_to_others(self, listing: ClaimedListing) -> None:
        with unit_of_work(self._engine) as session:
            listings.give_back(session, listing)

    def _fail(self, listing: ClaimedListing, reason: str) -> None:
        log.error("job failed", job=listing.job_id, error=reason)
        self._end(listing, reason, delay_seconds=None)

    def _end(self, listing: ClaimedListing, reason: str, *, delay_seconds: float | None) -> None:
        """Release the listing, to continue after a delay, or (None) fail the job. Do nothing if it was lost."""
        try:
            with unit_of_work(self._engine) as session:
                listings.require(session, listing)
                if delay_seconds is None:
                    jobs.fail(session, listing.job_id, reason)
                else:
                    listings.release(session, listing, delay_seconds=delay_seconds)
                    jobs.set_note(session, listing.job_id, reason)
        except listings.ListingLostError as error:
            log.info("listing lost", job=listing.job_id, error=str(error))

    def _list(self, listing: ClaimedListing, should_stop: Callable[[], bool]) -> None:
        generation_id = listing.generation_id
        if listing.stage != RECOGNITION:
            self._list_for_stage(listing, should_stop)
            return
        if generation_id is None:
            # Outside a transaction, since loading may take a while.
            model = self._models.get(listing.model, listing.vocabulary_id)
            if listing.from_generation_id is not None:
                _ = model.retagger  # raises for a model that cannot: the job then fails before any image does
            with unit_of_work(self._engine) as session:
                generation_id = self._models.register(session, listing.model, listing.vocabulary_id)
                jobs.set_generation(session, listing.job_id, generation_id)
            self._fitness.prove(EVERYTHING, of_model(listing.model))
            self._begin_followers(listing.job_id)
        if listing.of_keys:
            self._named_keys.look(listing, generation_id, should_stop)
            self._fitness.prove(of_archive(listing.archive_uri))
        elif listing.from_generation_id is not None or listing.query is not None:
            known = list_named if listing.from_generation_id is None else list_recorded
            known(self._engine, listing, generation_id, self._shard_size, should_stop)
        else:
            self._list_archive(listing, generation_id, should_stop)

    def _list_archive(self, listing: ClaimedListing, generation_id: int, should_stop: Callable[[], bool]) -> None:
        is_over, listing = self._record_pages(listing, generation_id, should_stop)
        if not is_over:
            return
        with unit_of_work(self._engine) as session:
            listings.require(session, listing)
            if (
                listing.cursor is None
                and listing.manifest_version is None
                and self._asks_whether_gone(session, listing)
            ):
                return
            # Another planner may have found out meanwhile.
            listing = replace(listing, is_disordered=archives.is_disordered(session, listing.archive_id))
        if not listing.is_settled_at_end:
            self._read_sidecars(listing, [], listing.cursor, listing.until)
        if not self._end_range(listing):
            open_archive = partial(open_store, parse_source(listing.archive_uri), self._s3)
            if self._settling.settle(listing, open_archive, should_stop):
                self._end_range(listing, is_settled=True)
            else:
                self._leave_to_others(listing)
        finish_jobs(self._engine)

    def _end_range(self, listing: ClaimedListing, *, is_settled: bool = False) -> bool:
        """End a range. Return False if the listing has to be settled before: all other ranges of it are listed."""
        with unit_of_work(self._engine) as session:
            listings.require(session, listing)
            if listing.manifest_version is None and not listing.is_settled_at_end:
                images.upsert_page(session, listing.archive_id, [], ranges_of=listing.job_id)
                bounds = listing.cursor, listing.until
                unfound.mark_missing(session, listing.archive_id, listing.prefix, *bounds, job_id=listing.job_id)
            listings.lock_running(session, listing)
            if not is_settled and listings.is_last(session, listing):
                known = replace(listing, is_disordered=archives.is_disordered(session, listing.archive_id))
                if known.is_settled_at_end:
                    return False
            if listing.manifest_version is not None or is_settled:
                listings.forget_named(session, listing.job_id)
            listings.end(session, listing)
            follow(session, listing.job_id, self._shard_size)
        return True

    def _record_pages(
        self, listing: ClaimedListing, generation_id: int, should_stop: Callable[[], bool]
    ) -> tuple[bool, ClaimedListing]:
        """Record pages for a while. Return whether there are no more, and the range with its new cursor and end."""
        seconds = TAR_STEP_SECONDS if parse_source(listing.archive_uri).in_tars else STEP_SECONDS
        stop_at = time.monotonic() + seconds
        if listing.manifest_version is not None:
            Manifest(listing.source, self._s3).require_unchanged(listing.manifest_version)
        kept = self._readings.pop((listing.range_id, listing.cursor, listing.until), None)
        reading = kept or self._sources.open(listing)
        while (found := next(reading.pages, None)) is not None:
            cursor, page = found
            if page:
                listing = with_order(self._engine, listing, page)
                self._read_sidecars(listing, page, listing.cursor, cursor)
                self._record(listing, generation_id, page, listing.cursor, cursor)
                listing = replace(listing, cursor=cursor)
                reading.recorded += 1
            else:  # a tar file is being read: another worker would have to begin it again
                renew(self._engine, listing)
            if should_stop() or (page and time.monotonic() > stop_at):
                with unit_of_work(self._engine) as session:
                    listings.release(session, listing)
                self._readings = {(listing.range_id, listing.cursor, listing.until): reading}
                return False, listing
            if reading.recorded >= CUT_AFTER and reading.store is not None and not listing.is_disordered:
                shorter = self._cutter.cut(listing, reading.store, cursor)
                if shorter is not None:
                    listing, reading = shorter, self._sources.open(shorter)
        return True, listing

    def _read_sidecars(
        self, listing: ClaimedListing, page: list[ObjectInfo], after: str | None, cursor: str | None
    ) -> None:
        """Read the sidecars of a page before its images are recorded: whoever writes these then finds them."""
        if self._sidecars is None or listing.manifest_version is not None:  # a list names pictures, not what is beside
            return
        open_archive = partial(open_store, parse_source(listing.archive_uri), self._s3)
        self._sidecars.read(listing, open_archive, [info for info in page if info.ignored], after, cursor)

    def _list_for_stage(self, listing: ClaimedListing, should_stop: Callable[[], bool]) -> None:
        generation_id = listing.generation_id
        if generation_id is None:
            model = self._models.stages.get_new(listing.stage, listing.model)
            STAGES[listing.stage].check(model, listing.options)
            generation_id = self._begin_stage(listing.job_id, listing.stage, listing.model)
        if listing.with_job_id is None:
            list_for_stage(self._engine, listing, generation_id, self._shard_size, should_stop)
            return
        with unit_of_work(self._engine) as session:
            listings.release(session, listing)
        self.follow(listing.with_job_id)

    def _begin_stage(self, job_id: int, stage: str, model: str) -> int:
        """Load a stage's model, which says to which generation the job's results belong. Return the generation."""
        self._models.stages.get_new(stage, model)  # outside a transaction, since loading may take a while
        with unit_of_work(self._engine) as session:
            generation_id = self._models.stages.register(session, stage, model)
            jobs.set_generation(session, job_id, generation_id)
        self._models.other_generations.discard(generation_id)  # the model may have been replaced since it was refused
        self._fitness.prove(EVERYTHING, of_model(model))
        return generation_id

    def _begin_followers(self, job_id: int) -> None:
        """Begin the stages that were requested with a job, before its pages: so their shards are there with its own."""
        with unit_of_work(self._engine) as session:
            waiting = followers.unbegun(session, job_id, list(self._models.stages.kinds))
        for follower_id, stage, model in waiting:
            try:
                self._begin_stage(follower_id, stage, model)
            except UnfitError as error:  # another worker may begin it
                self._fitness.declare(error)

    def follow(self, job_id: int) -> None:
        """Give the followers of a job what it has listed."""
        is_behind = True
        while is_behind:
            with unit_of_work(self._engine) as session:
                is_behind = follow(session, job_id, self._shard_size)
        finish_jobs(self._engine)

    def catch_up(self, is_stopping: Callable[[], bool]) -> None:
        """Do what was left to be done at leisure: let followers catch up, and note words of older rows."""
        self.follow_all()
        note_words(self._engine, is_stopping)

    def follow_all(self) -> None:
        """Let every follower catch up, for example one that was begun after the other job."""
        with unit_of_work(self._engine) as session:
            waiting = followers.behind(session)
        for job_id in waiting:
            self.follow(job_id)

    @staticmethod
    def _asks_whether_gone(session: Session, listing: ClaimedListing) -> bool:
        """Pause a job that finds nothing where there were images: a disk may be unmounted, a rule may hide keys."""
        count = unfound.count_there(session, listing.archive_id, listing.prefix)
        if not count:
            return False
        note = (
            f"{listing.source} is now empty, but had {count:,} images before: check that its disk is mounted. "
            f"`ramq resume {listing.job_id}` lists it again and marks the images as missing if it is still empty"
        )
        return unfound.ask_whether_gone(session, listing.job_id, note)

    def _record(
        self, listing: ClaimedListing, generation_id: int, page: list[ObjectInfo], after: str | None, cursor: str
    ) -> None:
        ignored, kept = [info for info in page if info.ignored], [info for info in page if not info.ignored]
        pictures = self._sources.look_again(listing, generation_id, [info for info in kept if not info.is_marker])
        with unit_of_work(self._engine) as session:
            listings.require(session, listing)
            pending, n_pages = upsert_page(session, listing, generation_id, pictures, self._limits)
            listed, n_listed = images.ids_of_page(session, listing.archive_id), len(kept) + n_pages
            if listing.is_settled_at_end:
                unfound.name(session, listing.job_id, [info.key for info in page])
            elif listing.manifest_version is None:
                unfound.mark_missing(
                    session, listing.archive_id, listing.prefix, after, cursor, ignored, job_id=listing.job_id
                )
            else:
                ignored = ignored_keys.name_first(session, listing.job_id, ignored)
                fresh = listings.name_first(session, listing.job_id, listed)
                listed, pending = [i for i in listed if i in fresh], [i for i in pending if i in fresh]
                n_listed = len(listed)
            contents.note_recorded(session, listed)
            listings.lock_running(session, listing)  # up to here, other planners of the job did not wait
            ignored_keys.add(session, listing.job_id, ignored)
            add_page(session, listing, cursor, listed, pending, self._shard_size, n_listed)
            follow(session, listing.job_id, self._shard_size)
        self._fitness.prove(of_archive(listing.archive_uri))
        log.info("listed", keys=n_listed, to_do=len(pending), ignored=len(ignored))
