"""Recall: images whose bytes were recognised before take over the record, and are neither decoded nor recognised."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.results import same_bytes
from workers.pipeline.work import combined

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from workers.pipeline.steps import Steps
    from workers.pipeline.work import Work

log = structlog.get_logger()

AT_ONCE = 64
"""Images that are looked up in one query: those that wait. A query takes longer to begin than for an image."""


class Recall:
    """The step between fetch and decode. One thread runs ``loop``.

    Args:
        engine: the database.
        steps: its queues.
        release: returns the bytes of an image that is not decoded.
    """

    def __init__(self, engine: Engine, steps: Steps, release: Callable[[Work], None]) -> None:
        self._engine = engine
        self._steps = steps
        self._release = release

    def loop(self) -> None:
        """Pass images on, those with known bytes past the model, until the queue is closed."""
        inbox = self._steps.recall.inbox
        while (first := inbox.get()) is not None:
            works = [first, *_waiting(inbox, AT_ONCE - 1)]
            with self._steps.recall.timed(first.lease):
                self._look_up(works)
            for work in works:
                self._pass_on(work)

    def _look_up(self, works: Sequence[Work]) -> None:
        """Fill in ``same`` of the works whose bytes have a record that is what their job asks for."""
        alike: defaultdict[tuple[int, str, str], dict[int, Work]] = defaultdict(dict)
        for work in (each for found in works for each in found.together):
            shard = work.lease.shard
            if work.sha256 is not None and not work.lease.is_further and not work.lease.is_over:
                alike[shard.generation_id, shard.captioner, shard.features][work.image.id] = work
        try:
            for (generation_id, captioner, features), read in alike.items():
                wanted = {image_id: work.sha256 for image_id, work in read.items() if work.sha256 is not None}
                with unit_of_work(self._engine) as session:
                    found = same_bytes.find(session, generation_id, captioner, features, wanted)
                for image_id, same in found.items():
                    read[image_id].same = same
        except ServiceUnavailableError as error:  # they are recognised, as if their bytes were new
            log.warning("equal bytes not looked up", error=str(error).splitlines()[0])

    def _pass_on(self, work: Work) -> None:
        known = [each for each in work.together if each.same is not None]
        left = combined(each for each in work.together if each.same is None)
        if left is not None and left is not work:
            left.body, left.reserved_bytes, work.body, work.reserved_bytes = work.body, work.reserved_bytes, None, 0
        if left is not None:
            self._steps.decode.inbox.put(left)
        elif known:
            self._release(work)
        for each in known:
            same = each.same
            assert same is not None
            each.others, each.width, each.height = [], same.width, same.height
            each.caption, each.captioner, each.precision = same.caption, same.captioner, same.precision
            self._steps.inbox_of(each).put(each)


def _waiting(inbox: queue.Queue[Work | None], most: int) -> list[Work]:
    """Take the images that wait, at most so many. Only one thread may read ``inbox``."""
    taken: list[Work] = []
    while len(taken) < most:
        with inbox.mutex:
            following = inbox.queue[0] if inbox.queue else None
        if following is None:
            break
        inbox.get()
        taken.append(following)
    return taken
