"""The write stage on a real database: what the database refuses is the failure of one image and of no other."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from psycopg import DataError
from sqlalchemy import text

from ram_core.recognition import Prediction
from storage.database import unit_of_work
from storage.ledger.shards import FencedError
from storage.results import images, regions
from tests import region_archive
from tests.region_archive import add_generation
from tests.vector_archive import SIZE
from workers.pipeline.work import Batch, Lease, Work
from workers.pipeline.write import write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from storage.ledger.claims import ClaimedShard
    from storage.results.records import Provenance
    from tests.ledger import Ledger
    from workers.stages import StageModel

pytestmark = pytest.mark.services

THRESHOLDS = np.full(8, 0.5, dtype=np.float32)


def recognised(ledger: Ledger, shard: ClaimedShard) -> Batch:
    """All images of a shard, as the model leaves them."""
    batch = Batch(Lease(shard, None))
    with unit_of_work(ledger.engine) as session:
        known = images.keys(session, shard.image_ids)
    for position, image_id in enumerate(shard.image_ids):
        work = Work(batch.lease, position, known[image_id], known[image_id].version, width=640, height=480)
        vector = np.eye(SIZE, dtype=np.float32)[position]
        work.prediction = Prediction(np.array([position]), np.array([0.9], dtype=np.float32), vector)
        batch.works.append(work)
    return batch


@pytest.mark.parametrize(
    ("attribute", "value"), [("caption", "a \x00 cat"), ("width", 2**40)], ids=["by the driver", "by the server"]
)
def test_results_that_the_database_refuses_are_the_failure_of_their_image_alone(
    ledger: Ledger, attribute: str, value: object
) -> None:
    job_id = ledger.make_job([5])
    batch = recognised(ledger, ledger.must_claim())
    setattr(batch.works[3], attribute, value)
    write(ledger.engine, batch, THRESHOLDS, 60.0)
    view = ledger.view(job_id)
    assert (view.done, view.failed, view.pending) == (4, 1, 0)
    assert view.failures_by_class == {"unstorable": 1}
    with unit_of_work(ledger.engine) as session:
        kept = set(session.scalars(text("SELECT image_id FROM record JOIN vector USING (image_id)")))
    assert kept == {work.image.id for work in batch.works} - {batch.works[3].image.id}


def test_a_tag_too_long_for_an_index_is_the_failure_of_its_image_alone(ledger: Ledger) -> None:
    """PostgreSQL tells this as it tells that it is out of memory, and psycopg as it tells of a lost connection."""
    letters = np.random.default_rng(1).integers(0x4E00, 0x9FA0, 1_000)
    long = "".join(map(chr, letters.tolist()))
    generation_id = add_generation(ledger.engine)

    class Locator:
        def write(self, session: Session, results: Sequence[Any], provenance: Provenance) -> None:
            rows = [region_archive.row(image_id, tag, version=version) for image_id, version, tag in results]
            regions.write_regions(session, rows, replace(provenance, generation_id=generation_id))

    job_id = ledger.make_job([4])
    batch = recognised(ledger, ledger.must_claim())
    for work, tag in zip(batch.works, ["dog", "cat", long, "bird"], strict=True):
        work.prediction, work.result = None, tag
    write(ledger.engine, batch, None, 60.0, stage=cast("StageModel", Locator()))
    view = ledger.view(job_id)
    assert (view.done, view.failed, view.pending) == (3, 1, 0)
    assert view.failures_by_class == {"unstorable": 1}
    assert ledger.scalar("SELECT array_agg(DISTINCT name) FROM region_list WHERE name <> ''") == ["bird", "cat", "dog"]
    with pytest.raises(DataError, match="index row"), unit_of_work(ledger.engine) as session:
        session.execute(text("INSERT INTO region_list (name, block, packed) VALUES (:name, 0, '')"), {"name": long})


def test_a_changed_object_gets_the_version_that_was_recorded_and_a_lost_lease_changes_nothing(ledger: Ledger) -> None:
    ledger.make_job([2])
    batch = recognised(ledger, ledger.must_claim())
    batch.works[1].version = "v2"
    ledger.expire()
    ledger.must_claim("another")
    with pytest.raises(FencedError):
        write(ledger.engine, batch, THRESHOLDS, 60.0)
    assert ledger.scalar("SELECT count(*) FROM image WHERE version = 'v2'") == 0
    ledger.expire()
    again = recognised(ledger, ledger.must_claim())
    again.works[1].version = "v2"
    write(ledger.engine, again, THRESHOLDS, 60.0)
    assert ledger.scalar("SELECT id FROM image WHERE version = 'v2'") == again.works[1].image.id
