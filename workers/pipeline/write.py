"""Write: one transaction per batch. An image counts when it commits. A fence keeps out workers that lost the lease."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import DataError, IntegrityError
from sqlalchemy.exc import DataError as SqlalchemyDataError
from sqlalchemy.exc import IntegrityError as SqlalchemyIntegrityError

from storage.database import unit_of_work
from storage.ledger import breaker, shards
from storage.results import contents, features, metadata, openings, records
from storage.results.packing import pack_vectors
from storage.tables import SCORE_SCALE
from workers import file_pages
from workers.file_pages import Counted, PageLimits
from workers.messages import features_kept
from workers.pipeline.retry import UnstorableResultError, tries_allowed
from workers.pipeline.work import ImageFailure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.index.feature_files import FeatureFiles
    from workers.pipeline.work import Batch, Lease, Work
    from workers.stages import StageModel


def write(  # noqa: PLR0913  (what all images of a batch share)
    engine: Engine,
    batch: Batch,
    thresholds: NDArray[np.float32] | None,
    lease_seconds: float,
    files: FeatureFiles | None = None,
    stage: StageModel | None = None,
    *,
    keep_place: bool = True,
    pages: PageLimits = PageLimits(),  # noqa: B008  (frozen)
) -> str:
    """Commit the outcomes of a batch and return the state of its job.

    ``thresholds`` are those of the model's tags; ``stage`` is the model of a batch of another stage than recognition.
    ``keep_place`` says whether to store where images were taken that take over the results of others.
    ``pages`` says how many pages of a file become images, if the job wants them.
    Stored features are written to a file before the transaction that refers to it begins.

    If the database rejects results, the batch is bisected until the faulty image is isolated. The error is then
    recorded as a failure of that image.

    Raises:
        FencedError: the lease was lost; nothing was written.
        ServiceUnavailableError: the database is unavailable; the same call may be repeated.
    """
    return _write(engine, batch.lease, batch.works, _How(thresholds, lease_seconds, files, stage, keep_place, pages))


def finalise_old_failures(batch: Batch) -> None:
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


@dataclass(frozen=True, slots=True)
class _How:
    """What all images of a batch share."""

    thresholds: NDArray[np.float32] | None
    lease_seconds: float
    files: FeatureFiles | None
    stage: StageModel | None
    keep_place: bool
    pages: PageLimits


def _write(engine: Engine, lease: Lease, works: Sequence[Work], how: _How) -> str:
    try:
        return _commit(engine, lease, works, how)
    except (DataError, IntegrityError, SqlalchemyDataError, SqlalchemyIntegrityError, ValueError) as error:
        if len(works) == 1:
            reason = str(error).strip().splitlines()[0]
            works[0].failure = ImageFailure.of(UnstorableResultError(reason))
            return _commit(engine, lease, works, how)
    middle = len(works) // 2
    _write(engine, lease, works[:middle], how)
    return _write(engine, lease, works[middle:], how)


def _commit(engine: Engine, lease: Lease, works: Sequence[Work], how: _How) -> str:
    shard = lease.shard
    provenance = records.Provenance(shard.job_id, shard.generation_id, shard.captioner)
    done = [work for work in works if work.failure is None]
    failed = [work for work in works if work.failure is not None and not work.failure.is_transient]
    outcomes = bytearray(lease.outcomes)
    kept = {work: own for work in done if (own := _features_of(work)) is not None}
    file = None
    if kept and how.files is not None:
        rows = np.stack(list(kept.values()))
        file = how.files.write(shard.generation_id, features_kept(shard.model, shard.features), rows)
    pages = _pages_of((*done, *failed))
    with unit_of_work(engine) as session:
        place = file_pages.lock(session, pages, shard.job_id)
        # The fence first: it locks the shard's row until the commit. The outcomes are completed below.
        shards.require_held(session, shard.id, shard.epoch)
        existing = records.lock_existing(session, [work.image.id for work in (*done, *failed)])
        if shard.from_generation_id is None:  # stored features say nothing about the object's current version
            records.note_versions(session, existing, {work.image.id: work.version for work in done})
            contents.note(session, _read_bytes((*done, *failed), existing))
        for work in (*done, *failed):
            outcome = shards.DONE if work.failure is None else shards.FAILED
            outcomes[work.position] = outcome if work.image.id in existing else shards.SKIPPED
        present = [work for work in done if work.image.id in existing]
        same = {work: work.same for work in present if work.same}
        copied = lease.copied | {work.position for work in same}
        if how.stage is not None:
            how.stage.write(session, [(work.image.id, work.version, work.result) for work in present], provenance)
        else:
            _write_recognised(session, done, existing, how, provenance)
            if shard.from_generation_id is None:
                opened = [work for work in present if work.same is None]
                opened += [work for work in failed if work.opening.pages and work.image.id in existing]
                openings.write(session, {work.image.id: (work.version, work.opening) for work in opened}, shard.job_id)
        told = [(work, work.facts) for work in present if work.facts is not None]
        rows_of_files = [metadata.MetadataRow(work.image.id, work.version, asdict(facts)) for work, facts in told]
        metadata.write(session, rows_of_files, shard.job_id)
        others = {work.image.id: one.image_id for work, one in same.items()}
        metadata.copy(session, others, shard.job_id, with_place=how.keep_place)
        openings.copy(session, others, shard.job_id)
        if file is not None:
            at = {work.image.id: (n, work.version) for n, work in enumerate(kept) if work.image.id in existing}
            features.link(session, shard.generation_id, file, at)
        if place is not None:
            file_pages.register(session, shard, place, pages, how.pages)
        records.write_failures(session, _failures(failed, existing), provenance)
        n_copied = shard.n_copied + len(copied)
        state = shards.advance(session, shard.id, shard.epoch, bytes(outcomes), how.lease_seconds, copied=n_copied)
        if any(work.failure.code == breaker.FORBIDDEN for work in failed if work.failure is not None):
            state = "failed" if breaker.trip(session, shard.job_id) else state
    lease.outcomes[:], lease.copied = outcomes, copied
    return state


def _pages_of(works: Sequence[Work]) -> dict[int, Counted]:
    """Return how many pages files have whose further pages become images, by the id of their image.

    Files of which this could not be found out are left out.
    """
    return {
        work.image.id: Counted(work.version, work.opening.pages or 1)
        for work in works
        if work.registers_pages and (work.failure is None or work.failure.about_content)
    }


def _read_bytes(works: Sequence[Work], existing: Mapping[int, str]) -> list[contents.ReadBytes]:
    return [
        contents.ReadBytes(work.image.id, work.version, work.sha256, *(work.hashes or (None, None)))
        for work in works
        if work.sha256 is not None and work.image.id in existing
    ]


def _features_of(work: Work) -> NDArray[Any] | None:
    return work.copied_features if work.prediction is None else work.prediction.features


def _write_recognised(
    session: Session, works: Sequence[Work], existing: Mapping[int, str], how: _How, provenance: records.Provenance
) -> None:
    assert how.thresholds is not None
    for captioner in {work.captioner for work in works}:
        own = [work for work in works if work.captioner == captioner]
        written = replace(provenance, captioner=captioner or provenance.captioner)
        rows = _records([work for work in own if work.same is None], existing, how.thresholds)
        records.write_records(session, [*rows, *_records_of_same(own, existing)], written)


def _records(
    works: Sequence[Work], existing: Mapping[int, str], thresholds: NDArray[np.float32]
) -> list[records.RecordRow]:
    kept = [work for work in works if work.image.id in existing]
    if not kept:
        return []
    predictions = [work.prediction for work in kept]
    assert all(prediction is not None for prediction in predictions)
    packed = pack_vectors(np.stack([prediction.vector for prediction in predictions if prediction is not None]))
    # All at once: NumPy takes longer to begin than for the few tags of an image.
    tags = np.concatenate([prediction.tag_ids for prediction in predictions if prediction is not None])
    scores = np.concatenate([prediction.scores for prediction in predictions if prediction is not None])
    units = quantise(scores, thresholds[tags]).tolist()
    rows, end = [], 0
    for work, vector in zip(kept, packed, strict=True):
        assert work.prediction is not None
        start, end = end, end + len(work.prediction.tag_ids)
        rows.append(
            records.RecordRow(
                image_id=work.image.id,
                version=work.version,
                tags=work.prediction.tag_ids.tolist(),
                scores=units[start:end],
                caption=work.caption,
                width=work.width,
                height=work.height,
                vector=vector,
                sha256=work.sha256,
                precision=work.precision,
            )
        )
    return rows


def _records_of_same(works: Sequence[Work], existing: Mapping[int, str]) -> list[records.RecordRow]:
    """Return the records that are taken over: by value, so that the other image may be deleted meanwhile."""
    return [
        records.RecordRow(
            image_id=work.image.id,
            version=work.version,
            tags=work.same.tags,
            scores=work.same.scores,
            caption=work.caption,
            width=work.width,
            height=work.height,
            vector=work.same.vector,
            sha256=work.sha256,
            precision=work.precision,
        )
        for work in works
        if work.same is not None and work.image.id in existing
    ]


def _failures(works: Sequence[Work], existing: Mapping[int, str]) -> list[records.FailureRow]:
    return [
        records.FailureRow(
            work.image.id, work.version, work.failure.code, work.failure.about_content, work.failure.detail
        )
        for work in works
        if work.failure is not None and work.image.id in existing
    ]


def quantise(scores: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[np.int16]:
    """Convert scores to whole units of ``1 / SCORE_SCALE`` without moving any across the threshold of its tag.

    Args:
        scores: (K,) in 0..1.
        thresholds: (K,) in 0..1; a tag is assigned if its score is above it, before and after the conversion.

    Returns:
        (K,) int16 in 0..SCORE_SCALE.
    """
    units = np.rint(scores * SCORE_SCALE).astype(np.int16)
    limits = np.rint(thresholds * SCORE_SCALE).astype(np.int16)
    return np.where(scores > thresholds, np.maximum(units, limits + 1), np.minimum(units, limits)).astype(np.int16)
