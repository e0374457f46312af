"""What compiling would bring a worker, whose inference runs in a thread of its own, and again in another one.

RAM++ with made-up weights, measured in two threads, one after the other: as it is, and compiled. What fails in a thread
is said in the file. It says how long compiling took, how fast the network is then, and how far its logits are from
those of the network as it is.

    python -m benchmarks.gpu.bench_thread --device cuda
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu.bench_pipeline import rate
from benchmarks.report import begin, options, save
from ram_core.modeling.runner import CPU_CHUNK, NUMBER_FORMATS, Runner
from ram_core.modeling.tiny import build, made_up_weights
from ram_core.weights import load_into

if TYPE_CHECKING:
    from collections.abc import Callable

TAGS = 4585
MODES = {"as it is": None, "compiled": "default"}
FORMATS = {str(each).removeprefix("torch."): each for each in NUMBER_FORMATS}


@torch.inference_mode()
def measure(runner: Runner[Any], work: Callable[[torch.Tensor], Any], pixels: torch.Tensor, seconds: float) -> Any:
    """Return what is measured in the thread that calls: seconds of the first call, images/s, and logits."""

    def once() -> torch.Tensor:
        with runner.autocast():
            logits: torch.Tensor = work(pixels).logits
        return logits.clone()

    began = time.perf_counter()
    logits = once().float().cpu()
    first = time.perf_counter() - began
    return first, rate(runner.device, len(pixels), once, seconds), logits


def main() -> None:
    """Measure, write."""
    parser = options(__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--format", choices=FORMATS, default="float16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--tiny", action="store_true", help="try the script, not the model")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    on_gpu = device.type == "cuda"
    report = begin(torch=torch.__version__, device=torch.cuda.get_device_name(device) if on_gpu else "cpu")
    report |= {"model": "ram_plus", "format": chosen.format, "batch": chosen.batch, "cases": []}
    network: Any = build("ram_plus", tags=64 if chosen.tiny else TAGS, full=not chosen.tiny)
    load_into(network, made_up_weights(network), "made-up weights", "ram_plus")
    network.chunk_size = None if on_gpu else CPU_CHUNK
    runner = Runner(network, device, FORMATS[chosen.format])
    size = network.visual_encoder.sizes.image_size
    pixels = torch.randn(chosen.batch, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    reference: torch.Tensor | None = None
    for name in chosen.modes:
        mode = MODES[name]
        work = runner.network if mode is None else torch.compile(runner.network, mode=mode, dynamic=False)
        for thread in (1, 2):
            case: dict[str, Any] = {"mode": name, "thread": thread}
            with ThreadPoolExecutor(1) as threads:
                try:
                    first, speed, logits = threads.submit(measure, runner, work, pixels, chosen.seconds).result()
                except Exception as error:  # noqa: BLE001  (said in the file: whether it can run there is the question)
                    case["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
                else:
                    reference = logits if reference is None else reference
                    case |= {"first_seconds": round(first, 2), "images_per_second": round(speed, 2)}
                    case["logit_rms"] = float((logits - reference).square().mean().sqrt())
            report["cases"].append(case)
            save(chosen, "thread", report)
            print(case, flush=True)
    print(save(chosen, "thread", report))


if __name__ == "__main__":
    main()
