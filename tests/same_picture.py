"""An archive that a worker recognises at no cost, and how often its model was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from sqlalchemy import text

from storage.database import unit_of_work
from tests import crop_archive

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from workers.lifecycle import Worker


def picture(path: Path, seed: int) -> Path:
    """Write a picture of noise: another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(path)
    return path


@dataclass
class Photos:
    """A folder of pictures, and services that recognise it with a worker of this process."""

    services: Services
    worker: Worker
    root: Path
    counter: Path

    def run(self, source: str | None = None, **options: Any) -> JobView:
        """Recognise what there is."""
        return crop_archive.work(
            self.services, self.worker, self.services.jobs.create(source or str(self.root), **options)
        )

    @property
    def asked(self) -> int:
        """How many images the model was given since the last time."""
        count = self.counter.stat().st_size if self.counter.exists() else 0
        self.counter.unlink(missing_ok=True)
        return count

    def rows(self, statement: str, **values: Any) -> list[Any]:
        with unit_of_work(self.services.engine) as session:
            return list(session.execute(text(statement), values).all())

    def scalar(self, statement: str, **values: Any) -> Any:
        with unit_of_work(self.services.engine) as session:
            return session.scalar(text(statement), values)

    def ids(self) -> dict[str, int]:
        """The images whose originals are there, by key."""
        return {row.key: row.id for row in self.rows("SELECT id, key FROM image WHERE missing_since IS NULL")}

    def missing(self) -> list[str]:
        return [row.key for row in self.rows("SELECT key FROM image WHERE missing_since IS NOT NULL ORDER BY key")]

    def record(self, image_id: int) -> tuple[Any, ...]:
        """What is recorded of an image, without the job and the time."""
        [row] = self.rows(
            """SELECT r.generation_id, r.tags, r.scores, r.caption, r.captioner, r.width, r.height, r.sha256,
                   r.precision, v.v FROM record AS r JOIN vector AS v USING (image_id, generation_id)
               WHERE image_id = :id""",
            id=image_id,
        )
        return tuple(row)
