"""How fast the network of ``lite`` is on a GPU, by batch size, beside the network as timm has it.

Weights as timm draws them. Ours has its norms folded into the convolutions and its channels last. Measured as it is,
replayed as a CUDA graph, and compiled. All of them compute in the same number format. Takes turns within every round.
The file is written after each format and batch.

    python -m benchmarks.gpu.bench_lite --device cuda --batches 32 256 1024
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import timm
import torch

from benchmarks.memory import extra_bytes
from benchmarks.report import begin, options, save
from ram_core.lite.network import installed_network, see
from ram_core.modeling.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 260
FORMATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def networks(device: torch.device, dtype: torch.dtype, *, compiled: bool) -> dict[str, Callable[[torch.Tensor], Any]]:
    """Return the ways to compute logits, by name."""
    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_lite2", pretrained=False).eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(plain.state_dict(), path)
        own: Any = installed_network(device, dtype, path)[0]
    plain = plain.to(device, dtype)

    def ours(pixels: torch.Tensor) -> torch.Tensor:
        return see(own, pixels.contiguous(memory_format=torch.channels_last)).logits

    found: dict[str, Callable[[torch.Tensor], Any]] = {"straightforward": plain, "ours": ours}
    found["graphs"] = Recorded(ours, device)
    if compiled:
        mode = "max-autotune" if device.type == "cuda" else "default"
        found["compiled"] = torch.compile(ours, mode=mode, dynamic=False)
    return found


def seconds(work: Callable[[torch.Tensor], Any], pixels: torch.Tensor) -> float:
    """Return the wall time of one call."""
    on_gpu = pixels.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    work(pixels)
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    """Measure, write."""
    parser = options(__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 256, 1024])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["float16", "float32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compiled", action="store_true")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    on_gpu = device.type == "cuda"
    report = begin(torch=torch.__version__, device=torch.cuda.get_device_name(device) if on_gpu else "cpu")
    report |= {"model": "lite", "rounds": chosen.rounds, "cases": []}
    for name in chosen.formats:
        ways = networks(device, FORMATS[name], compiled=chosen.compiled)
        for batch in chosen.batches:
            pixels = torch.randn(batch, 3, SIDE, SIDE, device=device).to(FORMATS[name])
            for work in ways.values():
                work(pixels)
            rounds = [{way: seconds(work, pixels) for way, work in ways.items()} for _ in range(chosen.rounds)]
            case: dict[str, Any] = {"format": name, "batch": batch}
            for way in ways:
                case[f"{way}_images_per_second"] = round(batch / min(each[way] for each in rounds), 1)
                case[f"{way}_speedup_median"] = round(median(each["straightforward"] / each[way] for each in rounds), 3)
            case["ours_extra_bytes"] = extra_bytes(lambda: ways["ours"](pixels), device)  # noqa: B023
            report["cases"].append(case)
            save(chosen, "lite-gpu", report)
            print(case, flush=True)
    print(save(chosen, "lite-gpu", report))


if __name__ == "__main__":
    main()
