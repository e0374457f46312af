"""The publication of new vectors, as a trace: it names the requests for the jobs whose images it makes searchable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage import traces
from storage.database import unit_of_work
from storage.results import job_traces, vectors

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from storage.index.builder import IndexBuilder, Published


def publish(engine: Engine, builder: IndexBuilder, generation_id: int) -> Published | None:
    """Publish what is due; see ``IndexBuilder.publish_new``. A publication is recorded, a look that finds nothing not.

    Vectors are few transactions and many rows: the trace links to jobs, not to each shard.
    """
    if not traces.are_on():
        return builder.publish_new(generation_id)
    began = traces.now()
    with unit_of_work(engine) as session:
        before = vectors.head(session, generation_id).pointer.watermark
    published = builder.publish_new(generation_id)
    if published is None:
        return None
    with unit_of_work(engine) as session:
        window = vectors.Window(generation_id, before, published.watermark)
        links = {f"job {job_id}": trace for job_id, trace in job_traces.of_window(session, window)}
    about = {
        "ramq.generation.id": generation_id,
        "ramq.manifest": published.manifest,
        "ramq.index.new_rows": published.new_rows,
        "ramq.index.segments": published.segments,
    }
    with traces.root("publish index", about, links, since=began):
        return published
