"""Decode one image for all stages that want it, and count the pages of its file where these become images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.pipeline.fitness import concerns_worker
from workers.pipeline.work import hash_picture, keep_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ram_core.recognition import Preprocessing
    from workers.pipeline.decoders import Decoders
    from workers.pipeline.paged_files import SharedFile
    from workers.pipeline.work import Lease, Work


@dataclass(frozen=True, slots=True)
class Decoding:
    """What decodes the images of works.

    Attributes:
        decoders: the processes.
        keep_place: whether what files say of the place is kept.
        preprocessing_of: what the model of a lease wants.
        judge: is told of an error that concerns a work.
    """

    decoders: Decoders
    keep_place: bool
    preprocessing_of: Callable[[Lease], Preprocessing]
    judge: Callable[[Work, Exception], None]

    def decode(self, works: Sequence[Work], body: bytes | memoryview, file: SharedFile | None = None) -> None:
        """Decode one image for all of these. If that fails, decode it for each: what one asks for may be the reason.

        ``file`` has the body, if the image is one page of it.
        """
        counted = 1
        try:
            found, facts = self.decoders.read_for_all(
                body,
                [self.preprocessing_of(work.lease) for work in works],
                page=works[0].page,
                descriptor=None if file is None else file.descriptor,
            )
            for work, decoded in zip(works, found, strict=True):
                work.take(decoded)
            counted = found[0].pages
            hash_picture(works)
            keep_facts(works, facts if self.keep_place else facts.without_place())
        except Exception as error:  # noqa: BLE001  (the table of errors classifies it)
            if len(works) > 1 and not concerns_worker(error):
                for work in works:
                    self.decode([work], body, file)
                return
            for work in works:
                self.judge(work, error)
            counted = getattr(error, "pages", 1)
        for work in works:
            if counted > 1 or work.counts_pages(body):
                work.count_pages(counted)
