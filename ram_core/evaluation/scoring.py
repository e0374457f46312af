"""Scores of a data set's images, and what is true of them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ram_core.errors import DeviceError, TrainingError
from ram_core.evaluate import tag_scores
from ram_core.score_table import ScoreTable
from ram_core.training.data.loader import Loader, decode_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ram_core.training.data import DataSet

_BLOCK = 128  # tags whose scores are in memory at once


class Scored:
    """N images with scores of T tags, and with the tags that they truly have.

    Args:
        scores: (M, T) float32 of all images of the data, which may lie on disk.
        rows: (N,) the images that have scores, ascending.
        tags: for each of the N images the ids of its tags.
    """

    def __init__(self, scores: NDArray[np.float32], rows: NDArray[np.intp], tags: Iterator[list[int]]) -> None:
        self._scores, self._rows = scores, rows
        having: dict[int, list[int]] = {}
        for position, ids in enumerate(tags):
            for tag_id in ids:
                having.setdefault(tag_id, []).append(position)
        self._having = {tag_id: np.array(positions, dtype=np.intp) for tag_id, positions in having.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def columns(self) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
        """Yield each tag's id, its (N,) scores, and (N,) whether the images have it."""
        for start in range(0, self._scores.shape[1], _BLOCK):
            block = np.ascontiguousarray(self._scores[:, start : start + _BLOCK][self._rows].T)
            for tag_id, column in enumerate(block, start=start):
                targets = np.zeros(len(self), dtype=np.bool_)
                if tag_id in self._having:
                    targets[self._having[tag_id]] = True
                yield tag_id, column, targets


def score_dataset(  # noqa: PLR0913  (three things, and one knob each)
    model: Any,
    dataset: DataSet,
    folder: Path,
    *,
    precision: str = "float32",
    batch_size: int = 32,
    workers: int = 4,
    on_bad: Callable[[str, str], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Score the images of a data set that have no scores in a folder yet. Pictures are decoded as in recognition.

    Args:
        model: a recogniser. Its thresholds play no part.
        dataset: the images, opened with the vocabulary of the model.
        folder: where the scores are kept, so that an interrupted run can be continued.
        precision: number format of the model; scores of another one are not continued.
        batch_size: images per batch.
        workers: threads that read and decode.
        on_bad: is told the name of each image that cannot be read, and the reason. It is left out.
        on_progress: is told how many images of how many are done.

    Raises:
        TrainingError: the data was opened with other tags, or no image can be read.
        ModelError: the folder has scores of another run.
        DeviceError: the numbers overflowed.
    """
    tags = model.vocabulary
    if dataset.samples.tag_count != len(tags):
        raise TrainingError(
            f"{dataset.name} was opened with {dataset.samples.tag_count} tags, but the model has {len(tags)}; open it "
            "with the vocabulary of the model"
        )
    made_by = {
        "model": model.spec.model,
        "weights": model.spec.weights_sha256,
        "preprocessing": model.spec.preprocessing,
        "tags": hashlib.sha256(json.dumps([tags.names, tags.descriptions]).encode()).hexdigest(),
        "dtype": precision,
        "data": dataset.samples.sha256,
    }
    table = ScoreTable(folder, (len(dataset), len(tags)), made_by)
    pending = table.pending().tolist()
    groups = [pending[start : start + batch_size] for start in range(0, len(pending), batch_size)]
    loader, done = Loader(dataset, decode_here(), workers), len(dataset) - len(pending)
    for group in loader.batches(groups, lambda at: loader.load(at, [model.preprocessing])):
        for name, reason in (bad for one in group for bad in one.bad):
            if on_bad is not None:
                on_bad(name, reason)
        good = [one for one in group if one.pixels]
        scores = np.empty((0, len(tags)), dtype=np.float32)
        if good:
            scores = tag_scores(model, np.stack([one.pixels[0] for one in good]))
            if not np.isfinite(scores).all():
                raise DeviceError(f"the scores are not numbers in {precision}; take float32 or bfloat16 (--precision)")
        table.store([one.index for one in good], scores, [one.index for one in group if not one.pixels])
        done += len(group)
        if on_progress is not None:
            on_progress(done, len(dataset))
    rows = table.scored()
    if not len(rows):
        raise TrainingError(f"no image of {dataset.name} can be read; check where the pictures are (images)")
    return Scored(table.scores, rows, (dataset.samples[row].tags for row in rows.tolist()))
