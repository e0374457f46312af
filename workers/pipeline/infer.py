"""Infer: run batches through a model. A batch that fails is bisected until the faulty image is isolated.

A batch is given to the model before the results of the last one are read. A GPU computes it meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import structlog

from ram_core.recognition import merged
from ram_core.tiling import squares
from storage.results.packing import CODE, unpack_vectors
from storage.tables import SCORE_SCALE
from workers.pipeline.fitness import UnfitError, concerns_worker, is_out_of_memory, of_model, out_of_memory
from workers.pipeline.retry import DeviceLostError, ModelFailedError
from workers.pipeline.work import ImageFailure

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from opentelemetry.trace import Span

    from ram_core.recognition import Prediction
    from ram_core.teaching.recognizer import Recorded, TaughtRecognizer
    from storage.results.features import Kept
    from workers.pipeline.fitting import Fitting
    from workers.pipeline.model_holder import LoadedModel
    from workers.pipeline.work import Batch, Work
    from workers.stages import StageModel

log = structlog.get_logger()

KEYS_LOGGED = 3
"""Number of keys in the log line about a failed batch. Bisecting then names the faulty image."""


class Started(NamedTuple):
    """Images that were given to a model.

    Attributes:
        is_done: returns whether ``finish`` does not wait for the device.
        finish: waits, and fills in what the model made of the images.
    """

    is_done: Callable[[], bool]
    finish: Callable[[], None]


Start = Callable[[Sequence["Work"]], Started]
"""Gives images to a model: see :func:`recognise` and :func:`do_stage`."""


class SubmittedBatch:
    """A batch that was given to a model.

    Args:
        batch: the images.
        start: gives images to the model.
        fitting: how many fit into memory.
    """

    def __init__(self, batch: Batch, start: Start, fitting: Fitting) -> None:
        self.batch = batch
        self.began_at = time.monotonic()
        self.span: Span | None = None
        self._start = start
        self._fitting = fitting
        self._parts = fitting.parts(batch.lease.shard.model, batch.sound)
        self._first = self._begun(self._parts[0]) if self._parts else None
        self._was_tried_again = False

    def is_done(self) -> bool:
        """Return whether ``finish`` does not wait for the first part of the batch."""
        if not isinstance(self._first, Started):
            return True
        try:
            return self._first.is_done()
        except Exception:  # noqa: BLE001  (a failed device says so to each question: ``finish`` asks again, and judges it)
            return True

    def finish(self) -> None:
        """Fill in what the model made of the images. A part that fails is bisected until the faulty image is isolated.

        Raises only errors that concern the whole worker.
        """
        model = self.batch.lease.shard.model
        for part in self._parts:
            self._finish(part, model, self._take_first() or self._begun(part))
        for work in self.batch.works:
            work.pixels = work.feature = None

    def _take_first(self) -> Started | Exception | None:
        """Return the first part once. Nothing here holds it then: if it fails, its memory is free for smaller parts."""
        first, self._first = self._first, None
        return first

    def _begun(self, works: Sequence[Work]) -> Started | Exception:
        try:
            return self._start(works)
        # A model may raise anything, from a CUDA error to a bad image. Bisecting tells whether an image is at fault.
        except Exception as error:  # noqa: BLE001  (judged by ``_finish``, in the order of the batches)
            return error

    def _finish(self, works: Sequence[Work], model: str, started: Started | Exception) -> None:
        error = started if isinstance(started, Exception) else _error_of(started)
        if error is None:
            return
        del started
        if concerns_worker(error):
            raise error
        if _is_device_lost(error):
            raise DeviceLostError(f"the device failed and cannot be used again in this process: {error}") from error
        is_memory = is_out_of_memory(error)
        log.warning(
            "batch failed",
            keys=[work.image.key for work in works[:KEYS_LOGGED]],
            images=len(works),
            error=f"{type(error).__name__}: {error}",
        )
        _forget_frames(error)
        if is_memory and self._fitting.make_room(model) and not self._was_tried_again:
            self._was_tried_again = True
            self._finish(works, model, self._begun(works))
            return
        if len(works) == 1 and is_memory:
            # Every image takes the same memory in the model, so the machine has too little left.
            raise UnfitError(of_model(model), out_of_memory(model, error)) from error
        if len(works) == 1:
            works[0].failure = ImageFailure.of(ModelFailedError(f"{type(error).__name__}: {error}"))
            return
        if is_memory:
            self._fitting.note(model, len(works))
        middle = len(works) // 2
        for half in (works[:middle], works[middle:]):
            self._finish(half, model, self._begun(half))


def _forget_frames(error: BaseException | None) -> None:
    """Drop the frames in which an error was raised: their functions hold what the failed batch took."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _error_of(started: Started) -> Exception | None:
    try:
        started.finish()
    except Exception as error:  # noqa: BLE001  (judged by the caller, where its frames hold no memory)
        return error
    return None


def recognise(model: LoadedModel, works: Sequence[Work]) -> Started:
    """Begin to compute predictions and captions, from pixels or from stored features."""
    if works[0].kept is not None:
        return Started(_at_once, lambda: _fill_again(works, model))
    shard = works[0].lease.shard
    seen = [squares(work.pixels) for work in works if work.pixels is not None]
    pixels = np.stack([each[0] for each in seen])  # (B, S, S, 3)
    precision = model.precision  # a batch may change that of the next one
    pending = model.submit(pixels, shard.features)

    def finish() -> None:
        predictions = _with_tiles(model, pending.result(), [each[1:] for each in seen])
        _fill(works, predictions, model.captions(shard.captioner, pixels, predictions))
        for work in works:
            work.precision = precision

    return Started(pending.is_done, finish)


def _with_tiles(
    model: LoadedModel, wholes: Sequence[Prediction], tiles: Sequence[NDArray[np.uint8]]
) -> Sequence[Prediction]:
    """Return predictions, those of long pictures from their tiles: (N, S, S, 3) for each picture, N = 0 for others.

    The model gets no more of them at once than pictures, so that they fit into memory where these did.
    """
    if not any(map(len, tiles)):
        return wholes
    every = np.concatenate(tiles)
    found: list[Prediction] = []
    for start in range(0, len(every), len(wholes)):
        found += model.submit(every[start : start + len(wholes)], "none").result()
    own = iter(found)
    return [
        merged(whole, [next(own) for _ in range(len(each))]) if len(each) else whole
        for whole, each in zip(wholes, tiles, strict=True)
    ]


def _fill(works: Sequence[Work], predictions: Sequence[Prediction], captions: Sequence[str | None]) -> None:
    for work, prediction, caption in zip(works, predictions, captions, strict=True):
        work.prediction, work.caption = prediction, caption


def _fill_again(works: Sequence[Work], model: LoadedModel) -> None:
    _fill(works, *_retag(works, model))
    for work in works:
        work.precision = model.precision_after(work.kept.precision if work.kept else None)


def do_stage(model: StageModel, works: Sequence[Work]) -> Started:
    """Begin to compute the results of a further stage."""

    def finish() -> None:
        results = model.run(
            [work.pixels for work in works if work.pixels is not None],
            [work.asked for work in works if work.pixels is not None],
        )
        for work, result in zip(works, results, strict=True):
            work.result = result

    return Started(_at_once, finish)


def _at_once() -> bool:
    return True


def _retag(works: Sequence[Work], model: LoadedModel) -> tuple[list[Prediction], list[str | None]]:
    """Compute new tags. Keep captions, except those that were composed from the tags."""
    kept = np.stack([work.feature for work in works if work.feature is not None])
    if model.retagger.retags_from == "record":
        taught = cast("TaughtRecognizer", model.recognizer)
        predictions = taught.retag_recorded(kept, [_recorded(work.kept, model) for work in works if work.kept])
    else:
        predictions = model.retagger.retag(kept)
    captions = []
    for work, prediction in zip(works, predictions, strict=True):
        assert work.kept is not None
        work.captioner = work.kept.captioner
        made_of_tags = work.captioner == "template"
        captions.append(model.caption_of_tags(prediction) if made_of_tags else work.kept.caption)
    return predictions, captions


def as_assigned(
    scores: NDArray[np.float32], units: NDArray[np.int16], thresholds: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return recorded scores, each on the side of its threshold on which it is recorded: see ``write.quantise``."""
    above = units > np.rint(thresholds * SCORE_SCALE)
    least = np.nextafter(thresholds, np.float32(2), dtype=np.float32)
    return np.where(above, np.maximum(scores, least), np.minimum(scores, thresholds)).astype(np.float32)


def _recorded(kept: Kept, model: LoadedModel) -> Recorded:
    from ram_core.teaching.recognizer import Recorded  # noqa: PLC0415  (loads torch)

    assert model.basis is not None
    is_of_base = kept.basis.base_id == model.basis.base_id
    tag_ids, units = np.array(kept.tags, dtype=np.int32), np.array(kept.scores, dtype=np.int16)
    scores = (units / SCORE_SCALE).astype(np.float32)
    if is_of_base:  # tags behind these were taught later, and are none of the vocabulary that is given now
        has = tag_ids < len(model.thresholds)
        scores[has] = as_assigned(scores[has], units[has], model.thresholds[tag_ids[has]])
    return Recorded(
        tag_ids,
        scores,
        unpack_vectors(kept.vector, len(kept.vector) // CODE.itemsize)[0],
        same=frozenset(tag for tag, made in kept.basis.mended.items() if model.basis.mended.get(tag) == made),
        other=frozenset(tag for tag, made in kept.basis.mended.items() if model.basis.mended.get(tag) != made),
        is_of_base=is_of_base,
    )


def _is_device_lost(error: Exception) -> bool:
    """Return whether every later call would fail too, whatever the image, as after a failed assertion on a GPU.

    Running out of GPU memory is not such an error: half the batch may fit.
    """
    return type(error).__name__ == "AcceleratorError" or (
        isinstance(error, RuntimeError) and "CUDA error" in str(error) and "out of memory" not in str(error)
    )
