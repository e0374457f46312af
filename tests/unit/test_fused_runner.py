"""A compiled network: the same results, padded batches, and what happens where nothing can be compiled."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ram_core.modeling.recorded import Recorded, RecordingError
from ram_core.modeling.runner import LEAST_FIXED, Runner
from ram_core.modeling.tiny import build, made_up_weights
from ram_core.weights import load_into
from workers.pipeline.model_options import ModelOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPU = torch.device("cpu")
compile_really = torch.compile


@pytest.fixture
def network() -> Any:
    network: Any = build("ram", tags=16, full=False)
    load_into(network, made_up_weights(network), "made-up weights", "ram")
    return network


def pictures(network: Any, count: int) -> torch.Tensor:
    size = network.visual_encoder.sizes.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def watched(sizes: list[int]) -> Callable[..., Any]:
    """Stand in for ``torch.compile``: note the sizes of the batches that the compiled network gets."""

    def fake(network: Any, **_: Any) -> Any:
        def fused(pixels: torch.Tensor) -> Any:
            sizes.append(len(pixels))
            return network(pixels)

        return fused

    return fake


def test_batches_are_padded_if_that_pays_and_else_computed_as_they_are(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(torch, "compile", watched(sizes))
    plain, fused = Runner(network, CPU, torch.float32), Runner(network, CPU, torch.float32, compiled=True)
    for count in (LEAST_FIXED - 1, 12, 9, 8, 16, 12, 11):
        pixels = pictures(network, count)
        found, expected = fused(pixels), plain(pixels)
        assert found.logits.shape == expected.logits.shape
        torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.tokens, expected.tokens, atol=1e-4, rtol=0)
    # too small, fits, padded, too small for a batch of 12, larger, padded, too small for one of 16
    assert sizes == [12, 12, 16, 16]


def test_results_of_an_earlier_batch_stay(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(compile_really, backend="eager"))
    fused = Runner(network, CPU, torch.float32, compiled=True)
    first = fused(pictures(network, 8))
    kept = first.logits.clone()
    fused(pictures(network, 8) + 1)
    assert torch.equal(first.logits, kept)


def test_where_nothing_can_be_compiled_the_network_runs_as_it_is(
    network: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[None] = []

    def broken(*_: Any) -> Any:
        tries.append(None)
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(torch, "compile", partial(compile_really, backend=broken))
    runner = Runner(network, CPU, torch.float32, compiled=True)
    for _ in range(2):
        found = runner(pictures(network, 8))
    torch.testing.assert_close(
        found.logits, Runner(network, CPU, torch.float32)(pictures(network, 8)).logits, atol=1e-5, rtol=0
    )
    assert len(tries) == 1
    assert "cannot be compiled or recorded here" in caplog.text
    assert "C compiler" in caplog.text


def test_an_error_of_the_network_itself_is_not_taken_for_one_of_the_compiler(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(compile_really, backend="eager"))
    runner = Runner(network, CPU, torch.float32, compiled=True)
    runner(pictures(network, 8))

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    runner._fixed = full
    with pytest.raises(torch.OutOfMemoryError):
        runner(pictures(network, 8))


@pytest.mark.parametrize(
    ("device", "name", "expected"),
    [
        ("cuda", "ram_plus", {"compiled": True, "recorded": False}),
        ("cuda", "ram@birds", {"compiled": True, "recorded": False}),
        ("cuda", "lite", {}),
        ("cuda", "tag2text", {}),
        ("cpu", "ram_plus", {}),
    ],
)
def test_workers_compile_large_models_on_a_gpu(
    device: str, name: str, expected: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ram_core.registry.resolve_device", torch.device)
    assert ModelOptions(device, tmp_path, tmp_path, compiled=True).speed_ups(name) == expected


def test_where_the_network_cannot_be_recorded_it_runs_as_it_is(
    network: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_self: Any, _pixels: torch.Tensor) -> Any:
        raise RecordingError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Recorded, "__call__", broken)
    found = Runner(network, CPU, torch.float32, recorded=True)(pictures(network, 8))
    torch.testing.assert_close(
        found.logits, Runner(network, CPU, torch.float32)(pictures(network, 8)).logits, atol=1e-5, rtol=0
    )
    assert "not permitted when stream is capturing" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recording_gives_the_same_results(network: Any) -> None:
    device = torch.device("cuda")
    plain = Runner(network, device, torch.float16)
    recorded = Runner(network, device, torch.float16, recorded=True)
    first = recorded(pictures(network, 12))
    again = recorded(pictures(network, 10) + 1)
    torch.testing.assert_close(first.logits, plain(pictures(network, 12)).logits, atol=1e-2, rtol=0)
    torch.testing.assert_close(again.logits, plain(pictures(network, 10) + 1).logits, atol=1e-2, rtol=0)
