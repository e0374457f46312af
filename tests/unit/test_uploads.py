"""Pixels on their way to a device that does everything as late as it may."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ram_core import load_model
from ram_core.modeling.tiny import write_tiny_models
from ram_core.modeling.uploads import Uploads
from ram_core.recognition import RecognizesAhead
from tests.late_queues import LateQueue


def _uploads() -> Uploads:
    log: list[str] = []
    return Uploads(torch.device("cpu"), LateQueue("copy", log), LateQueue("work", log, is_eager=True), pins=False)


def _batch(number: int, count: int = 3) -> torch.Tensor:
    return torch.full((count, 4, 4, 3), number, dtype=torch.uint8)


def test_a_buffer_is_not_filled_again_before_its_copy_is_done() -> None:
    uploads = _uploads()
    assert [int(uploads.send(_batch(n), torch.Tensor.sum)) for n in range(7)] == [n * 3 * 48 for n in range(7)]


def test_the_host_waits_for_the_copy_out_of_the_buffer_that_it_fills() -> None:
    uploads = _uploads()
    uploads.work = LateQueue("work", [], is_eager=False)  # nothing is computed, so nothing is copied yet
    copies: Any = uploads.copies
    for n in range(2):
        uploads.send(_batch(n), torch.Tensor.sum)
    assert copies.done == 0
    uploads.send(_batch(2), torch.Tensor.sum)
    assert copies.done == 2  # waited for its memory, and copied the first batch


def test_a_copy_waits_until_the_batch_before_in_its_place_was_read() -> None:
    uploads = _uploads()
    reads: list[Any] = []
    for n in range(4):
        uploads.send(_batch(n), torch.Tensor.sum)
        reads.append(uploads._buffers[-1].read)
    copies: Any = uploads.copies
    waited = [work.__self__ for work in copies.works if hasattr(work, "__self__")]
    assert waited[2:] == reads[:2]
    # Memory of a new buffer may be that of what was computed before it was made: nothing for the first one.
    assert [(mark.queue.name, mark.place) for mark in waited[:2]] == [("work", 0), ("work", reads[0].place)]


def test_batches_of_other_sizes_have_room() -> None:
    uploads = _uploads()
    sizes = [2, 5, 1, 5, 5, 9, 3]
    assert [int(uploads.send(_batch(1, size), torch.Tensor.sum)) for size in sizes] == [48 * size for size in sizes]


def test_results_are_read_when_they_have_arrived() -> None:
    uploads = _uploads()
    late: Any = LateQueue("work", [])
    uploads.work = late
    source = torch.tensor([1.0, 2.0])
    fetched = uploads.fetch([source])
    source += 1  # the device computes this before it copies
    assert not fetched.is_here()
    assert fetched.wait()[0].tolist() == [2.0, 3.0]
    assert fetched.is_here()


@pytest.mark.parametrize("features", [None, "tokens"])
def test_batches_given_ahead_have_the_results_of_batches_one_by_one(features: Any, tmp_path: Any) -> None:
    write_tiny_models("ram_plus", tmp_path)
    plain, ahead = (load_model("ram_plus", models_dir=tmp_path) for _ in range(2))
    assert isinstance(ahead, RecognizesAhead)
    ahead.runner.uploads = _uploads()
    random = np.random.default_rng(0)
    side = plain.preprocessing.size
    batches = [random.integers(0, 255, (count, side, side, 3), dtype=np.uint8) for count in (1, 2, 1)]
    given = [ahead.submit(batch, features=features) for batch in batches]
    for batch, pending in zip(batches, given, strict=True):
        for ours, theirs in zip(pending.result(), plain.predict(batch, features=features), strict=True):
            assert ours.tag_ids.tolist() == theirs.tag_ids.tolist()
            assert np.array_equal(ours.scores, theirs.scores)
            assert np.array_equal(ours.vector, theirs.vector)
            assert (ours.features is None) == (features is None)
            if features:
                assert np.array_equal(ours.features, theirs.features)


class _Operations(TorchDispatchMode):
    """Notes what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["ram", "ram_plus", "tag2text"])
def test_nothing_makes_the_host_wait_before_the_result_is_read(kind: str, tmp_path: Any) -> None:
    """Numbers that are read, or copied from the host, make a GPU finish all that it was given before."""
    write_tiny_models(kind, tmp_path)
    model: Any = load_model(kind, models_dir=tmp_path)
    model.runner.uploads = _uploads()
    side = model.preprocessing.size
    pixels = np.zeros((1, side, side, 3), dtype=np.uint8)
    model.submit(pixels).result()  # what is computed once
    with _Operations() as operations:
        pending = model.submit(pixels)
    assert "sigmoid" in operations.names
    assert not {"_local_scalar_dense", "nonzero", "is_nonzero", "_unique2"} & {*operations.names}
    assert operations.names.count("lift_fresh") == 1  # the pixels: no other numbers come from the host
    pending.result()


def test_an_image_beyond_the_range_is_computed_again_when_its_batch_is_read(tmp_path: Any) -> None:
    write_tiny_models("ram_plus", tmp_path)
    model: Any = load_model("ram_plus", models_dir=tmp_path)
    side = model.preprocessing.size
    pixels = np.random.default_rng(1).integers(0, 255, (2, side, side, 3), dtype=np.uint8)
    expected = model.predict(pixels)
    runner, broken = model.runner, [True]
    network = runner._plain

    def once_broken(batch: torch.Tensor) -> Any:
        tagged = network(batch)
        if broken.pop() if broken else False:
            tagged.logits[1] = torch.inf
        return tagged

    runner._plain, runner.uploads = once_broken, _uploads()
    runner._rescued = lambda batch, _tagged, _finite: network(batch)
    found = model.submit(pixels).result()
    assert [each.scores.tolist() for each in found] == [each.scores.tolist() for each in expected]
