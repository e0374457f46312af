"""Recall: images whose bytes were recognised before take over the record, and are neither decoded nor recognised."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import structlog

from storage.database import unit_of_work
from storage.errors import ServiceUnavailableError
from storage.index.manifest import DamagedError
from storage.results import same_bytes
from storage.results.same_bytes import Wanted
from workers.messages import features_kept
from workers.pipeline.work import combined

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from storage.index.feature_files import FeatureFiles
    from storage.ledger.claims import ClaimedShard
    from storage.results.same_bytes import SameBytes
    from workers.pipeline.steps import Steps
    from workers.pipeline.work import Work

log = structlog.get_logger()

AT_ONCE = 64
"""Images that are looked up in one query: those that wait. A query takes longer to begin than for an image."""


class Recall:
    """The step between fetch and decode. One thread runs ``loop``.

    Args:
        engine: the database.
        files: the stored features.
        steps: its queues.
        release: returns the bytes of an image that is not decoded.
    """

    def __init__(self, engine: Engine, files: FeatureFiles, steps: Steps, release: Callable[[Work], None]) -> None:
        self._engine = engine
        self._files = files
        self._steps = steps
        self._release = release

    def loop(self) -> None:
        """Pass images on, those with known bytes past the model, until the queue is closed."""
        inbox = self._steps.recall.inbox
        while (first := inbox.get()) is not None:
            works = [first, *_waiting(inbox, AT_ONCE - 1)]
            with self._steps.recall.timed(first.lease, [work for work in works if work.lease is first.lease]):
                self._look_up(works)
            for work in works:
                self._pass_on(work)

    def _look_up(self, works: Sequence[Work]) -> None:
        """Fill in ``same`` of the works whose bytes have a record that is what their job asks for."""
        alike: defaultdict[Wanted, dict[int, Work]] = defaultdict(dict)
        for work in (each for found in works for each in found.together):
            if work.sha256 is None or work.lease.is_further or work.lease.is_over:
                continue
            if not _counts_pages(work):
                alike[_wanted(work.lease.shard)][work.image.id] = work
        try:
            for wanted, read in alike.items():
                sha256s = {image_id: work.sha256 for image_id, work in read.items() if work.sha256 is not None}
                with unit_of_work(self._engine) as session:
                    found = same_bytes.find(session, wanted, sha256s)
                for image_id, same in found.items():
                    self._take_over(read[image_id], same)
        except ServiceUnavailableError as error:  # they are recognised, as if their bytes were new
            log.warning("equal bytes not looked up", error=str(error).splitlines()[0])

    def _take_over(self, work: Work, same: SameBytes) -> None:
        """Fill in ``same``, and the features of another image: each image has its own row in a file."""
        if same.file is not None and same.position is not None and same.image_id != work.image.id:
            try:
                work.copied_features = self._files.row(same.file, same.position)
            except DamagedError as error:  # it is recognised, which stores them again
                log.warning("features of the same bytes not read", key=work.image.key, error=str(error))
                return
        work.same = same

    def _pass_on(self, work: Work) -> None:
        known = [each for each in work.together if each.same is not None]
        left = combined(each for each in work.together if each.same is None)
        if left is not None and left is not work:
            work.hand_to(left)
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


def _counts_pages(work: Work) -> bool:
    """Tell whether an image has to be opened although its bytes are known: to count the pages of its file."""
    return work.body is not None and work.counts_pages(work.body)


def _wanted(shard: ClaimedShard) -> Wanted:
    kind = features_kept(shard.model, shard.features)
    needs_features = kind != "none" and shard.features != "auto"
    return Wanted(shard.generation_id, shard.captioner, kind, needs_features)


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
