"""Whether matrix products in 8 bits would pay for RAM++: their speed on the card, and what they do to tags.

Speed: the products of RAM++'s layers for a batch of images, in bfloat16, in FP8 (``torch._scaled_mm``) and in INT8
(``torch._int_mm``), without the conversion of their inputs, so these are upper bounds. Tags: the network in float32
whose weights, and then inputs too, were rounded to FP8 or INT8 with a scale for each row, against the network as it
is. Nothing in ramq computes in 8 bits.

    python -m benchmarks.gpu.bench_eight_bits --device cuda
    python -m benchmarks.gpu.bench_eight_bits --device cpu --tiny
"""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from benchmarks.report import begin, options, save
from ram_core.modeling.runner import CPU_CHUNK, Runner
from ram_core.modeling.tiny import build, made_up_weights
from ram_core.weights import load_into

if TYPE_CHECKING:
    from collections.abc import Callable

TAGS = 4585
THRESHOLD = 0.65
FP8_MOST, INT8_MOST = 448.0, 127.0


def shapes(network: nn.Module, pixels: torch.Tensor) -> dict[tuple[int, int, int], int]:
    """Return the products (rows, inner, columns) of one forward pass, and how often each is computed."""
    found: dict[tuple[int, int, int], int] = {}

    def note(module: nn.Module, given: tuple[torch.Tensor, ...], _result: object) -> None:
        assert isinstance(module, nn.Linear)
        key = (given[0].numel() // module.in_features, module.in_features, module.out_features)
        found[key] = found.get(key, 0) + 1

    hooks = [each.register_forward_hook(note) for each in network.modules() if isinstance(each, nn.Linear)]
    network(pixels)
    for hook in hooks:
        hook.remove()
    return found


def products(rows: int, inner: int, columns: int, device: torch.device) -> dict[str, Callable[[], torch.Tensor]]:
    """Return the same product in three number formats."""
    left, right = torch.randn(rows, inner, device=device), torch.randn(columns, inner, device=device)
    one = torch.ones((), device=device)
    halves = left.bfloat16(), right.bfloat16()
    quarters = left.to(torch.float8_e4m3fn), right.to(torch.float8_e4m3fn)
    whole = left.mul(30).round().to(torch.int8), right.mul(30).round().to(torch.int8)
    return {
        "bfloat16": lambda: halves[0] @ halves[1].t(),
        "fp8": lambda: torch._scaled_mm(  # noqa: SLF001  (it has no public name yet)
            quarters[0], quarters[1].t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        ),
        "int8": lambda: torch._int_mm(whole[0], whole[1].t()),  # noqa: SLF001
    }


def seconds(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Return the time of one call, of some that follow each other."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / times


def fp8(numbers: torch.Tensor) -> torch.Tensor:
    """Round to FP8 (e4m3), with a scale for each row."""
    scale = numbers.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / FP8_MOST
    return (numbers / scale).to(torch.float8_e4m3fn).to(numbers.dtype) * scale


def int8(numbers: torch.Tensor) -> torch.Tensor:
    """Round to INT8, with a scale for each row."""
    scale = numbers.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / INT8_MOST
    return (numbers / scale).round() * scale


def rounded(network: nn.Module, to: Callable[[torch.Tensor], torch.Tensor], *, inputs: bool) -> None:
    """Round the weights of all large products, and their inputs."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and not name.endswith("fc"):
            module.weight.data = to(module.weight.data)
            if inputs:
                module.register_forward_pre_hook(lambda _module, given: (to(given[0]),))


def tags(network: Any, pixels: torch.Tensor, device: torch.device) -> list[dict[str, Any]]:
    """Compare logits, and tags at a score of 0.65, with those of the network as it is."""
    exact = Runner(copy.deepcopy(network), device, torch.float32)(pixels).logits
    found = []
    for name, to in (("fp8", fp8), ("int8", int8)):
        for inputs in (False, True):
            changed = Runner(copy.deepcopy(network), device, torch.float32)
            rounded(changed.network, to, inputs=inputs)
            logits = changed(pixels).logits
            before, after = exact.sigmoid() > THRESHOLD, logits.sigmoid() > THRESHOLD
            found.append(
                {
                    "format": name,
                    "rounds": "weights and inputs" if inputs else "weights",
                    "logit_rms": float((logits - exact).square().mean().sqrt()),
                    "tags_assigned": int(before.sum()),
                    "tags_flipped": int((before != after).sum()),
                }
            )
    return found


@torch.inference_mode()
def main() -> None:
    """Measure, write."""
    parser = options(__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tiny", action="store_true", help="try the script, not the model")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    on_gpu = device.type == "cuda"
    report = begin(torch=torch.__version__, device=torch.cuda.get_device_name(device) if on_gpu else "cpu")
    report |= {"batch": chosen.batch, "tags": [], "products": []}
    network: Any = build("ram_plus", tags=64 if chosen.tiny else TAGS, full=not chosen.tiny)
    weights = {key: each.to(device) for key, each in made_up_weights(network).items()}
    load_into(network, weights, "made-up weights", "ram_plus")
    network.chunk_size = None if on_gpu else CPU_CHUNK
    size = network.visual_encoder.sizes.image_size
    count = 1 if chosen.tiny else min(chosen.batch, 4)
    pixels = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    report["tags"] = tags(network, pixels, device)
    save(chosen, "eight-bits", report)
    print(report["tags"], flush=True)
    prepared = Runner(network, device, torch.float32)
    for (rows, inner, columns), times in shapes(prepared.network, pixels[:1]).items():
        case: dict[str, Any] = {"rows": rows * chosen.batch, "inner": inner, "columns": columns, "times": times}
        for name, work in products(rows * chosen.batch, inner, columns, device).items():
            try:
                case[f"{name}_ms"] = round(1e3 * seconds(work, device, 10 if on_gpu else 1), 4)
            except RuntimeError as error:  # a shape or a device that the product does not know
                case[name] = f"does not run here: {str(error).splitlines()[0]}"
        report["products"].append(case)
        save(chosen, "eight-bits", report)
    for name in ("bfloat16", "fp8", "int8"):
        known = [case for case in report["products"] if f"{name}_ms" in case and "bfloat16_ms" in case]
        report[f"{name}_ms_of_all"] = round(sum(case[f"{name}_ms"] * case["times"] for case in known), 3)
        report[f"{name}_ms_of_the_same_in_bfloat16"] = round(sum(c["bfloat16_ms"] * c["times"] for c in known), 3)
    print(save(chosen, "eight-bits", report))


if __name__ == "__main__":
    main()
