"""Ways to run the network of ``lite`` on a CPU, for ``bench_lite_cpu.py``."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import torch

from ram_core.lite.cores import Cores
from ram_core.lite.fused import fused
from ram_core.lite.model import PREPROCESSING
from ram_core.lite.network import _installed_weights, _network, look, see
from ram_core.transforms import normalise

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


def engines(pixels: NDArray[np.uint8], threads: int) -> dict[str, Callable[[], object]]:
    """Return calls that run the network on (B, S, S, 3) pixels, each with this number of threads."""
    batch = normalise(torch.tensor(pixels), PREPROCESSING.mean, PREPROCESSING.std, channels_last=True)
    halves = batch.bfloat16()
    plain = _network(_installed_weights()).to(memory_format=torch.channels_last)
    half = _network(_installed_weights()).to(torch.bfloat16).to(memory_format=torch.channels_last)
    packed, packed_half = fused(plain), fused(half)
    cores = Cores(threads)

    def in_parts(network: Any, images: torch.Tensor, size: int) -> Callable[[], object]:
        return lambda: [see(network, part) for part in images.split(size)]

    calls = {f"plain, {size} at a time": in_parts(plain, batch, size) for size in (1, 8, 16, 32)}
    calls |= {f"fused, {size} at a time": in_parts(packed, batch, size) for size in (1, 4)}
    calls |= {
        "plain, 4 on each core": lambda: cores.run(lambda part: look(plain, part), batch),
        "fused, 4 on each core (shipped)": lambda: cores.run(lambda part: look(packed, part), batch),
        "plain bfloat16, 8 at a time": in_parts(half, halves, 8),
        "fused bfloat16, 4 on each core": lambda: cores.run(lambda part: look(packed_half, part), halves),
    }
    if find_spec("onnx") and find_spec("onnxscript"):
        content = _as_onnx(plain)
        calls |= _onnx_runtime(content, batch.contiguous().numpy(), threads) if find_spec("onnxruntime") else {}
        calls |= _openvino(content, batch.contiguous().numpy(), threads) if find_spec("openvino") else {}
    return calls


class _Outputs(torch.nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen = see(self.network, batch)
        return (seen.logits, *seen.parts)


def _as_onnx(network: torch.nn.Module) -> bytes:
    into = io.BytesIO()
    example = torch.zeros(8, 3, PREPROCESSING.size, PREPROCESSING.size)
    axes = {name: {0: "batch"} for name in ("pixels", "logits", "first", "second", "third")}
    torch.onnx.export(
        _Outputs(network),
        (example,),
        into,  # type: ignore[arg-type]  # a stream is allowed too
        dynamo=False,
        input_names=["pixels"],
        output_names=["logits", "first", "second", "third"],
        dynamic_axes=axes,
    )
    return into.getvalue()


def _onnx_runtime(content: bytes, batch: NDArray[np.float32], threads: int) -> dict[str, Callable[[], object]]:
    import onnxruntime  # noqa: PLC0415

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, chosen, providers=["CPUExecutionProvider"])

    def run() -> object:
        return [session.run(None, {"pixels": batch[at : at + 4]}) for at in range(0, len(batch), 4)]

    return {"ONNX Runtime, 4 at a time": run}


def _openvino(content: bytes, batch: NDArray[np.float32], threads: int) -> dict[str, Callable[[], object]]:
    import sys  # noqa: PLC0415

    sys.modules["openvino_telemetry"] = cast("Any", None)  # importing it would report the import over the network
    import openvino  # type: ignore[import-not-found]  # noqa: PLC0415

    core = openvino.Core()
    model = core.read_model(content, b"")
    calls = {}
    for label, name in (("float32", "f32"), ("bfloat16", "bf16")):
        how = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads, "INFERENCE_PRECISION_HINT": name}
        queue = openvino.AsyncInferQueue(core.compile_model(model, "CPU", how), threads)

        def run(queue: Any = queue) -> None:
            for at in range(0, len(batch), 4):
                queue.start_async({0: batch[at : at + 4]})
            queue.wait_all()

        calls[f"OpenVINO {label}, 4 on each core"] = run
    return calls
