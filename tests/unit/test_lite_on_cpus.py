"""How ``lite`` runs on a CPU: fused convolutions, and parts of a batch on cores of their own."""

from __future__ import annotations

import platform
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from ram_core.lite import fused, network
from ram_core.lite.cores import MOST, Cores
from ram_core.lite.fused import FusedLayer
from ram_core.lite.model import PREPROCESSING, load_lite
from ram_core.lite.network import installed_network, see
from ram_core.transforms import normalise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ram_core.lite.layers import EfficientNetLite2

PHOTOS = Path(skimage.__file__).parent / "data"
NAMES = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "motorcycle_left.png")
CPU = torch.device("cpu")


def is_fused(loaded: EfficientNetLite2) -> bool:
    return any(isinstance(part, FusedLayer) for part in loaded.modules())


needs_fusing = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="only torch for Linux on x86-64 is known to have such convolutions",
)


@pytest.fixture(scope="module")
def pixels() -> Any:
    return np.stack([PREPROCESSING(Image.open(PHOTOS / name)) for name in NAMES])


@pytest.fixture(scope="module")
def batch(pixels: Any) -> torch.Tensor:
    return normalise(torch.tensor(pixels), PREPROCESSING.mean, PREPROCESSING.std, channels_last=True)


@pytest.fixture(scope="module")
def plain() -> EfficientNetLite2:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(network, "fused", lambda loaded: loaded)
        return installed_network(CPU, torch.float32)[0]


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@needs_fusing
@torch.inference_mode()
def test_fused_convolutions_compute_the_same(plain: EfficientNetLite2, batch: torch.Tensor) -> None:
    other = fused.fused(plain)
    assert is_fused(other)
    assert not is_fused(plain)
    ours, theirs = see(other, batch), see(plain, batch)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=2e-5, rtol=1e-5)
    for one, two in zip(ours.parts, theirs.parts, strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-5)


@needs_fusing
@torch.inference_mode()
def test_fused_convolutions_take_pictures_of_any_size(plain: EfficientNetLite2) -> None:
    images = torch.rand(2, 3, 97, 131).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(fused.fused(plain)(images), plain(images), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("message", ["not compiled with oneDNN\nand more", ""])
def test_a_torch_without_such_convolutions_runs_the_plain_ones(
    message: str, plain: EfficientNetLite2, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", refuses)
    assert fused.fused(plain) is plain


@needs_fusing
def test_convolutions_that_compute_something_else_are_not_taken(
    plain: EfficientNetLite2, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fused, "_SIX", [0.0, 5.0])
    assert fused.fused(plain) is plain
    assert "they change logits" in caplog.text


def test_tags_are_those_of_the_plain_network(
    plain: EfficientNetLite2, pixels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lite = load_lite(device=CPU)
    monkeypatch.setattr(network, "fused", lambda _: plain)
    for one, two in zip(lite.predict(pixels), load_lite(device=CPU).predict(pixels), strict=True):
        np.testing.assert_array_equal(one.tag_ids, two.tag_ids)
        np.testing.assert_allclose(one.scores, two.scores, atol=1e-5)
        np.testing.assert_allclose(one.vector, two.vector, atol=1e-5)


def test_the_layout_in_memory_changes_no_number(pixels: Any) -> None:
    given = torch.tensor(pixels)
    one = normalise(given, PREPROCESSING.mean, PREPROCESSING.std)
    other = normalise(given, PREPROCESSING.mean, PREPROCESSING.std, channels_last=True)
    assert torch.equal(one, other)
    assert other.is_contiguous(memory_format=torch.channels_last)


def test_parts_keep_their_order_and_fill_the_cores() -> None:
    cores = Cores(3)
    assert torch.cat(cores.run(torch.negative, torch.arange(50))).tolist() == [-each for each in range(50)]
    assert [len(part) for part in cores.run(torch.negative, torch.arange(50))][:2] == [MOST, MOST]
    assert [len(part) for part in cores.run(torch.negative, torch.arange(5))] == [2, 2, 1]
    assert [len(part) for part in cores.run(torch.negative, torch.arange(0))] == [0]


def test_each_part_has_one_core_and_later_threads_have_all(three_threads: None) -> None:
    def threads_here(_: torch.Tensor) -> tuple[int, bool]:
        return torch.get_num_threads(), torch.is_inference_mode_enabled()

    cores = Cores()
    assert set(cores.run(threads_here, torch.arange(9))) == {(1, True)}
    found: list[int] = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert (found, torch.get_num_threads()) == ([3], 3)


def test_an_error_in_a_part_is_raised() -> None:
    def fails(part: torch.Tensor) -> None:
        if 7 in part:
            raise MemoryError

    with pytest.raises(MemoryError):
        Cores(2).run(fails, torch.arange(9))


def test_a_thread_that_cannot_start_leaves_nothing_behind(three_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    start, before = threading.Thread.start, set(threading.enumerate())

    def fails(thread: threading.Thread) -> None:
        if thread.name == "lite_2":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fails)
    with pytest.raises(RuntimeError, match="new thread"):
        Cores()
    assert set(threading.enumerate()) <= before
    assert torch.get_num_threads() == 3


def test_all_that_begin_at_once_have_all_cores(three_threads: None) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: Cores(), range(16)))
    parts = [len(cores.run(torch.negative, torch.arange(6))) for cores in made]
    assert parts == [3] * 16  # of two images each
