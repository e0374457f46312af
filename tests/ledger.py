"""Archives, jobs and shards made directly in the ledger, for tests that need no worker."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from storage.database import unit_of_work
from storage.ledger import claims, jobs, retries, shards, turns
from storage.ledger.waiting import Able
from storage.objects.base import ObjectInfo
from storage.objects.source import parse_source
from storage.results import archives, images, records
from tests.vector_archive import SIZE, add_generation
from workers.ending import finish_jobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine

    from storage.ledger.claims import ClaimedShard
    from storage.ledger.views import JobView, Priority
    from storage.tables import Archive

LEASE_SECONDS = 60.0
VECTOR = bytes(2 * SIZE)


def listed(*keys: str, version: str = "v1") -> list[ObjectInfo]:
    return [ObjectInfo(key, version, 10, datetime(2024, 1, 1, tzinfo=UTC)) for key in keys]


@dataclass
class Ledger:
    """Short words for what planner and workers do, each in a transaction of its own."""

    engine: Engine
    generation_id: int
    archive: Archive

    @classmethod
    def new(cls, engine: Engine, uri: str = "s3://photos") -> Ledger:
        with unit_of_work(engine) as session:
            archive, _ = archives.ensure(session, parse_source(uri))
        return cls(engine, add_generation(engine), archive)

    def scalar(self, statement: str, **values: Any) -> Any:
        with unit_of_work(self.engine) as session:
            return session.scalar(text(statement), values)

    def execute(self, statement: str, **values: Any) -> None:
        with unit_of_work(self.engine) as session:
            session.execute(text(statement), values)

    def make_job(
        self,
        sizes: Sequence[int] = (),
        *,
        priority: Priority = "normal",
        model: str = "lite",
        by: str | None = None,
    ) -> int:
        """A listed job with shards of these sizes."""
        with unit_of_work(self.engine) as session:
            job_id = jobs.create(
                session,
                archive=self.archive,
                source=self.archive.uri,
                prefix="",
                model=model,
                captioner="none",
                priority=priority,
                said_by=by,
            )
            jobs.set_generation(session, job_id, self.generation_id)
        if sizes:
            names = [f"{job_id}/{number:05}" for number in range(sum(sizes))]
            with unit_of_work(self.engine) as session:
                images.upsert_page(session, self.archive.id, listed(*names))
                ids = images.pending_of_page(session, self.archive.id, self.generation_id, "none")
                cuts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
                shards.add(session, job_id, [ids[a:b] for a, b in itertools.pairwise(cuts)])
        self.execute(
            "UPDATE job SET listed = :n, listed_all_at = now(), started_at = now() WHERE id = :id",
            n=sum(sizes),
            id=job_id,
        )
        return job_id

    def claim(self, owner: str = "w", *, models: Sequence[str] | None = None, seconds: float = LEASE_SECONDS) -> Any:
        with unit_of_work(self.engine) as session:
            return claims.claim(session, owner=owner, lease_seconds=seconds, able=Able(models=models))

    def must_claim(self, owner: str = "w") -> ClaimedShard:
        shard = self.claim(owner)
        assert shard is not None
        return shard  # type: ignore[no-any-return]  # asserted

    def expire(self) -> None:
        """Let every lease run out."""
        self.execute("UPDATE shard SET lease_until = now() - interval '1 second' WHERE state = 'leased'")

    def write(self, shard: ClaimedShard, outcomes: bytes, *, version: str = "v1", error_class: str = "corrupt") -> str:
        """Commit what is new in ``outcomes`` as the write stage does; return the job's state."""
        provenance = records.Provenance(shard.job_id, shard.generation_id, shard.captioner)
        fresh = [position for position, old in enumerate(shard.outcomes) if old == 0 and outcomes[position]]
        done = [shard.image_ids[position] for position in fresh if outcomes[position] == shards.DONE]
        failed = [shard.image_ids[position] for position in fresh if outcomes[position] == shards.FAILED]
        with unit_of_work(self.engine) as session:
            shards.require_held(session, shard.id, shard.epoch)
            records.write_records(
                session,
                [records.RecordRow(one, version, [1], [9000], None, 4, 3, VECTOR) for one in done],
                provenance,
            )
            records.write_failures(
                session,
                [records.FailureRow(one, version, error_class, error_class == "corrupt", "why") for one in failed],
                provenance,
            )
            return shards.advance(session, shard.id, shard.epoch, outcomes, LEASE_SECONDS)

    def close(self, shard: ClaimedShard, worked_seconds: float | None = None) -> None:
        """End a shard as a worker does. ``worked_seconds``: how long it took; None: as long as was expected."""
        with unit_of_work(self.engine) as session:
            shards.close(session, shard.id, shard.epoch, {"fetch": 1.0, "infer": 0.5})
            if worked_seconds is not None:
                turns.settle(session, shard.charge, worked_seconds, shard.outcomes.count(shards.PENDING))

    def give_back(self, shard: ClaimedShard, *, is_transient: bool = False, **more: Any) -> None:
        with unit_of_work(self.engine) as session:
            shards.give_back(session, shard, is_transient=is_transient, **more)

    def finish(self) -> list[int]:
        return finish_jobs(self.engine)

    def reopen(self, job_id: int, error_class: str | None = None) -> int:
        with unit_of_work(self.engine) as session:
            return retries.reopen_failed(session, job_id, error_class)

    def set_state(self, job_id: int, to: Any) -> None:
        with unit_of_work(self.engine) as session:
            jobs.set_state(session, job_id, to=to, allowed=("running", "paused", "failed", "done", "cancelled"))

    def view(self, job_id: int) -> JobView:
        with unit_of_work(self.engine) as session:
            return jobs.view(session, job_id)
