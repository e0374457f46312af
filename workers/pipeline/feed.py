"""Feed: the images of leased shards, each once, with its work for every stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.database import unit_of_work
from storage.results import features, images
from workers.pipeline.work import ImageFailure, Work, combined

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

    from workers.pipeline.stage_holder import StageHolder
    from workers.pipeline.work import Lease


def works_of(engine: Engine, leases: Sequence[Lease], stages: StageHolder) -> Iterator[Work]:
    """Yield the pending images of shards, each once, with its work for each of them.

    ``stages`` has the models of further stages, which know what to look for in an image.
    """
    ids = list(dict.fromkeys(image_id for lease in leases for image_id in lease.shard.image_ids))
    source = leases[0].shard.from_generation_id if leases else None
    with unit_of_work(engine) as session:
        known = images.keys(session, ids)
        kept = {} if source is None else features.kept(session, source, ids)
        asked = {lease: stages.get_for(lease.shard).asked(session, lease.shard) for lease in leases if lease.is_further}
    positions = {lease: {lease.shard.image_ids[at]: at for at in lease.pending} for lease in leases}
    suspects = [lease.shard.image_ids[lease.shard.probe] for lease in leases if lease.shard.probe is not None]
    for image_id in dict.fromkeys([*suspects, *ids]):
        key = known.get(image_id) or images.ImageKey(image_id, "", "", 0)
        work = combined(
            Work(
                lease,
                places[image_id],
                key,
                key.version,
                kept.get(image_id),
                asked=asked.get(lease, {}).get(image_id),
            )
            for lease, places in positions.items()
            if image_id in places
        )
        if work is None:
            continue
        if image_id not in known:  # deleted meanwhile: the write step finds no row and skips it
            for each in work.together:
                each.failure = ImageFailure(is_transient=False, code="missing", about_content=False, detail="deleted")
        yield work
