"""The steps of the pipeline, connected by bounded queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.pipeline.step import Step

if TYPE_CHECKING:
    import queue

    from workers.pipeline.metrics import WorkerMetrics
    from workers.pipeline.work import Batch, Work

FURTHER_WAITING = 4
"""Pictures that wait for a stage other than recognition. They are large: 4,000 x 3,000 pixels take 36 MB."""


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Sizes and limits of the steps.

    ``keep_place``: whether to store where images were taken. ``reads_truncated``: whether pictures whose file is cut
    short are read as far as they go. ``most_pages``: how many images a file may become; ``shard_size``: how many of
    them are in a shard.
    """

    batch_size: int
    fetch_threads: int
    decoders: int
    lease_seconds: float
    max_object_bytes: int
    max_pixels: int
    keep_place: bool = True
    reads_truncated: bool = False
    budget_bytes: int = 512 * 1024 * 1024
    most_pages: int = 1_000
    shard_size: int = 256


class Steps:
    """The steps, in order. Each has its own threads."""

    def __init__(self, options: PipelineOptions, metrics: WorkerMetrics) -> None:
        fetchers = options.fetch_threads
        self.fetch: Step[Work] = Step("fetch", fetchers, 2 * fetchers, metrics)
        self.recall: Step[Work] = Step("recall", 1, 2 * fetchers, metrics)
        self.decode: Step[Work] = Step("decode", options.decoders, fetchers + 2 * options.decoders, metrics)
        self.infer: Step[Work] = Step("infer", 1, 2 * options.batch_size, metrics)
        # Stages other than recognition: their models are slower, and run beside it.
        self.infer_further: Step[Work] = Step("infer", 1, FURTHER_WAITING, metrics)
        self.write: Step[Batch] = Step("write", 1, 2, metrics)
        self._all: tuple[Step[Any], ...] = (
            self.fetch,
            self.recall,
            self.decode,
            self.infer,
            self.infer_further,
            self.write,
        )

    def inbox_of(self, work: Work) -> queue.Queue[Work | None]:
        """Return the queue before the model of the work's stage."""
        return (self.infer_further if work.lease.is_further else self.infer).inbox

    @property
    def depths(self) -> dict[str, int]:
        """Number of images that wait before each step."""
        depths = dict.fromkeys((step.name for step in self._all), 0)
        for step in self._all:
            depths[step.name] += step.inbox.qsize()
        return depths

    @property
    def busy_seconds(self) -> dict[str, float]:
        """Seconds that each step has worked, divided by the number of its threads."""
        seconds = dict.fromkeys((step.name for step in self._all), 0.0)
        for step in self._all:
            seconds[step.name] += step.busy_seconds
        return {name: busy for name, busy in seconds.items() if busy}

    def close(self) -> None:
        """End all threads, upstream first: nothing may be put into a step that is closed."""
        for step in self._all:
            step.close()
