"""Archives listed by a real planner and worked off by hand, for tests that need no worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from storage.database import unit_of_work
from storage.ledger import claims, jobs
from storage.ledger.shards import DONE, FAILED
from storage.objects.base import S3Options
from storage.objects.ignoring import Selection
from tests.ledger import Ledger
from workers.pipeline.fitness import Fitness
from workers.pipeline.stage_holder import StageHolder
from workers.planner import Planner
from workers.stages import StageOptions

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from storage.ledger.views import JobView
    from workers.pipeline.model_holder import ModelHolder


DEFAULTS = Selection()


@dataclass
class OneModel:
    """Stands for the loaded model, of which a planner asks only which generation it is."""

    generation_id: int
    runs: tuple[str, ...] = ("recognition",)
    served: tuple[str, ...] | None = None
    loaded: tuple[str, ...] = ()
    pinned: str | None = None
    error: Exception | None = None

    def get(self, name: str, vocabulary_id: int | None = None) -> OneModel:
        if self.error:
            raise self.error
        return self

    def register(self, session: Session, name: str, vocabulary_id: int | None = None) -> int:
        return self.generation_id

    @property
    def stages(self) -> StageHolder:
        return StageHolder(StageOptions("cpu", Path("/nowhere")))

    def __getattr__(self, name: str) -> Any:
        """Whatever else a holder has that says which models are known is not known here."""
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_args, **_more: None


class Plan:
    """An archive, jobs on it and a planner."""

    def __init__(self, engine: Engine, uri: str, *, s3_endpoint_url: str | None = None, shard_size: int = 4) -> None:
        self.engine = engine
        self.ledger = Ledger.new(engine, uri)
        self.models = OneModel(self.ledger.generation_id)
        self.fitness = Fitness()
        self.planner = self.another(shard_size, s3_endpoint_url)

    def another(self, shard_size: int = 4, s3_endpoint_url: str | None = None) -> Planner:
        models = cast("ModelHolder", self.models)
        return Planner(self.engine, models, fitness=self.fitness, shard_size=shard_size, s3=S3Options(s3_endpoint_url))

    def start(self, prefix: str = "", captioner: str = "none", selection: Selection = DEFAULTS) -> int:
        with unit_of_work(self.engine) as session:
            return jobs.create(
                session,
                archive=self.ledger.archive,
                source=self.ledger.archive.uri,
                prefix=prefix,
                model="lite",
                captioner=captioner,
                priority="normal",
                selection=selection,
            )

    def go_through(self, planner: Planner | None = None) -> None:
        """List until there is nothing more to list."""
        one = planner or self.planner
        while one.begin(lambda: False) or one.go_on(lambda: False):
            pass

    def run(self, **options: Any) -> JobView:
        """A job from its beginning to a full list."""
        job_id = self.start(**options)
        self.go_through()
        return self.ledger.view(job_id)

    def work(self, fail: dict[str, str] | None = None) -> None:
        """Recognise all that waits, except what is to fail, by key and class."""
        wrong = fail or {}
        while (shard := self.ledger.claim()) is not None:
            for outcome, wanted in ((DONE, None), *((FAILED, code) for code in set(wrong.values()))):
                now = bytes(self.ledger.scalar("SELECT outcomes FROM shard WHERE id = :id", id=shard.id))
                new = bytearray(now)
                versions = set()
                for position, image_id in enumerate(shard.image_ids):
                    key = self.ledger.scalar("SELECT key FROM image WHERE id = :id", id=image_id)
                    if not now[position] and wrong.get(key) == wanted:
                        new[position] = outcome
                        versions.add(self.ledger.scalar("SELECT version FROM image WHERE id = :id", id=image_id))
                for version in versions:
                    self._write(shard, now, bytes(new), version, wanted or "corrupt")
            self.ledger.close(shard)
        self.ledger.finish()

    def _write(self, shard: Any, old: bytes, new: bytes, version: str, error_class: str) -> None:
        """Write those of the fresh outcomes whose image has this version."""
        now = bytearray(self.ledger.scalar("SELECT outcomes FROM shard WHERE id = :id", id=shard.id))
        target = bytearray(now)
        for position, image_id in enumerate(shard.image_ids):
            known = self.ledger.scalar("SELECT version FROM image WHERE id = :id", id=image_id)
            if new[position] != old[position] and known == version:
                target[position] = new[position]
        fresh = claims.ClaimedShard(
            **{name: getattr(shard, name) for name in shard.__slots__} | {"outcomes": bytes(now)}
        )
        self.ledger.write(fresh, bytes(target), version=version, error_class=error_class)

    def waiting(self) -> list[str]:
        """The keys in open shards, in the order of shards."""
        with unit_of_work(self.engine) as session:
            rows = session.connection().exec_driver_sql(
                """SELECT image.key FROM shard, unnest(image_ids) WITH ORDINALITY AS u (id, n)
                   JOIN image ON image.id = u.id WHERE state <> 'done' ORDER BY shard.id, n"""
            )
            return [str(key) for (key,) in rows]
