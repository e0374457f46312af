"""RAM++ on a CPU in float32, in bfloat16, and certified: images/s, tags that rounding moves, images computed again.

Full-size networks on made-up weights, and photographs that Python packages and a Debian package ship:

    python tests/photographs.py
    OMP_NUM_THREADS=2 python -m benchmarks.bench_precision --parts speed
    OMP_NUM_THREADS=2 python -m benchmarks.bench_precision --parts tags worker --photographs 40 --logits FILE

*speed*: the straightforward transcription in float32, ours in float32, ours in bfloat16, and certified with no image
computed again, in turns; what it takes to compute an image again; bytes that loaded weights take; a matrix product.

*tags*: how far logits are from those of float32, by part: the tagging decoder and the image encoder. Of made-up scores
more lie near 0.65 than of real ones, where a few of 4,585 tags are assigned. So thresholds are drawn at random, many
times, such that a given number of tags is assigned to an image on the mean. The certified runner decides each time from
the measured logits. Counted are images whose tags are not those of float32, and images that are computed again.

*worker*: ``ramq worker`` in float32 and certified, on other photographs, with thresholds drawn as in *tags*.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from typing_extensions import override

from benchmarks import precision_worker
from benchmarks.report import begin, options, write
from benchmarks.straightforward import Straightforward
from ram_core.modeling import certified
from ram_core.modeling.certified import CertifiedRunner
from ram_core.modeling.published import DESCRIPTIONS
from ram_core.modeling.ram import Tagged
from ram_core.modeling.runner import CPU_CHUNK, Runner
from ram_core.modeling.tiny import TAG2TEXT_TAGS, build, made_up_weights
from ram_core.tag_precision import INSTRUCTIONS, cpu_flags, speedup
from ram_core.transforms import SquashTransform, normalise
from ram_core.weights import load_into
from tests.photographs import photographs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Logits = dict[str, torch.Tensor]

CPU = torch.device("cpu")
RAM_TAGS = 4585
SPREAD = 0.3  # of thresholds, relative to that of logits: official ones of RAM differ too
MARGINS = (1.5, 2.0, 2.5, 4.0)
FORMATS = ("float32", "bfloat16", "decoder")


def load(chosen: argparse.Namespace) -> tuple[CertifiedRunner[Any], Straightforward]:
    """Return the runner, which has the network in both formats, and the transcription with the same weights."""
    network = build(chosen.model, tags=TAG2TEXT_TAGS if chosen.model == "tag2text" else RAM_TAGS, full=not chosen.tiny)
    weights = made_up_weights(network)
    load_into(network, weights, "made-up weights", chosen.model)
    network.chunk_size = CPU_CHUNK
    plain = Straightforward(weights, DESCRIPTIONS if chosen.model == "ram_plus" else 1)
    return CertifiedRunner(network, CPU), plain


def in_16_bits(runner: CertifiedRunner[Any]) -> Runner[Any]:
    """Return the rounded copy."""
    assert runner._rounded is not None  # noqa: SLF001
    return runner._rounded  # noqa: SLF001


def pictures(count: int, size: int) -> torch.Tensor:
    """Return (count, 3, size, size) normalised pixels of photographs, the same ones each time."""
    squash = SquashTransform(size)
    paths = photographs(count)
    random.Random(0).shuffle(paths)
    pixels = np.stack([squash(Image.open(path)) for path in paths[:count]])
    return normalise(torch.from_numpy(pixels), squash.mean, squash.std)


def speed(chosen: argparse.Namespace, runner: CertifiedRunner[Any], plain: Straightforward) -> dict[str, Any]:
    """Time the ways to tag, in turns."""
    pixels = pictures(chosen.batch, runner.network.visual_encoder.sizes.image_size)
    rounded = in_16_bits(runner)
    near = torch.arange(certified.NEAREST).expand(len(pixels), -1)
    limits = torch.full((runner.network.tags,), 1e3)  # far from all logits: nothing is in doubt

    def none_again() -> Tagged:
        runner._images = 1  # noqa: SLF001  (no audit)
        return runner(pixels, limits)

    jobs: dict[str, Callable[[], object]] = {
        "straightforward_float32": lambda: plain.logits(pixels),
        "float32": lambda: runner(pixels),
        "bfloat16": lambda: rounded(pixels),
        "certified_none_again": none_again,
        "again": lambda: runner._decoded(runner.embed(pixels), near),  # noqa: SLF001
    }
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    worked: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(chosen.rounds + 1):  # the first round warms up
        for name, job in jobs.items():
            start, began = time.perf_counter(), time.process_time()
            job()
            if number:
                seconds[name].append((time.perf_counter() - start) / len(pixels))
                worked[name].append((time.process_time() - began) / len(pixels))
                print(name, seconds[name][-1], file=sys.stderr, flush=True)
    found = {f"{name}_seconds_per_image": min(each) for name, each in seconds.items()}
    # Neighbours on the same machine disturb processor time less.
    found |= {f"{name}_processor_seconds_per_image": min(each) for name, each in worked.items()}
    ratios = {
        f"{name}_speedup_over_{base}": median(slow / fast for slow, fast in zip(seconds[base], each, strict=True))
        for base in ("straightforward_float32", "float32")
        for name, each in seconds.items()
        if name != base
    }
    return {
        "batch": chosen.batch,
        "matrix_product_speedup": speedup(),
        "weights_bytes": {"float32": held(runner.network), "bfloat16": held(rounded.network, runner.network)},
        **found,
        **ratios,
    }


def held(network: nn.Module, besides: nn.Module | None = None) -> int:
    """Return the bytes of a network's numbers, without those that it shares with another one."""

    def numbers(module: nn.Module) -> dict[int, int]:
        every = [*module.parameters(), *module.buffers()]
        return {each.data_ptr(): each.untyped_storage().nbytes() for each in every if each.numel()}

    shared = {} if besides is None else numbers(besides)
    return sum(size for place, size in numbers(network).items() if place not in shared)


def logits_of(chosen: argparse.Namespace, runner: CertifiedRunner[Any]) -> Logits:
    """Return (N, T) logits of photographs: float32; bfloat16; and float32's decoder on bfloat16's image tokens."""
    rounded = in_16_bits(runner)
    found: dict[str, list[torch.Tensor]] = {name: [] for name in FORMATS}
    began = time.monotonic()
    for each in pictures(chosen.photographs, runner.network.visual_encoder.sizes.image_size).split(4):
        tagged = rounded(each)
        found["float32"].append(runner(each).logits)
        found["bfloat16"].append(tagged.logits)
        found["decoder"].append(runner.decode(tagged.tokens).logits)
        print(f"{len(found['float32']) * 4} photographs", file=sys.stderr, flush=True)
        if time.monotonic() - began > chosen.seconds:
            break
    return {name: torch.cat(parts) for name, parts in found.items()}


class Replay(CertifiedRunner[Any]):
    """A certified runner that is given numbers of images instead of their pixels, and looks their logits up.

    Args:
        logits: see ``logits_of``.
    """

    def __init__(self, logits: Logits) -> None:
        self._logits = logits
        self._rounded: Any = True
        self._forget()

    @override
    def __call__(self, pixels: torch.Tensor, limits: torch.Tensor | None = None) -> Tagged:
        del limits
        return Tagged(self._logits["float32"][pixels], pixels[:, None].float())

    @override
    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels[:, None].float()

    @override
    def decode(self, tokens: torch.Tensor) -> Tagged:
        return Tagged(self._logits["float32"][tokens[:, 0].long()], tokens)

    @override
    def _review(self) -> None:
        """Stay in bfloat16: times mean nothing here."""

    @override
    def _tagged_in_16_bits(self, pixels: torch.Tensor) -> Tagged:
        return Tagged(self._logits["bfloat16"][pixels], -1 - pixels[:, None].float())  # below 0: rounded tokens

    @override
    def _decoded(self, tokens: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        number = tokens[:, 0].long()
        table = torch.where(
            (number < 0)[:, None], self._logits["decoder"][-1 - number], self._logits["float32"][number]
        )
        return table.gather(1, near)


def thresholds(exact: torch.Tensor, assigned: float, generator: torch.Generator) -> torch.Tensor:
    """Draw (T,) thresholds at which so many tags are assigned to an image on the mean, by (N, T) logits."""
    tags = exact.shape[1]
    at = SPREAD * float(exact.std()) * torch.randn(tags, generator=generator)
    return at + torch.quantile((exact - at).flatten()[:: max(1, exact.numel() // 100_000)], 1 - assigned / tags)


def replayed(logits: Logits, assigned: float, draws: int) -> dict[str, float]:
    """Draw thresholds at which so many tags are assigned to an image on the mean, and count what happens to images."""
    exact, generator = logits["float32"], torch.Generator().manual_seed(0)
    images = len(exact)
    runner = Replay(logits)  # one for all draws, as a worker is
    plain = ours = of_tags = seen = 0
    for _ in range(draws):
        at = thresholds(exact, assigned, generator)
        order = torch.randperm(images, generator=generator)
        found = runner._tag(order, at).logits  # noqa: SLF001
        wanted = exact[order] > at
        plain += int(((logits["bfloat16"][order] > at) != wanted).any(dim=1).sum())
        of_tags += int(((logits["bfloat16"][order] > at) != wanted).sum())
        ours += int(((found > at) != wanted).any(dim=1).sum())
        seen += len(order)
    return {
        "tags_assigned": assigned,
        "images": seen,
        "bfloat16_images_with_other_tags": plain / seen,
        "bfloat16_tags_moved_per_image": of_tags / seen,
        "certified_images_with_other_tags": ours / seen,
        "certified_images_computed_again": runner.computed_again,
        "audited_images": runner.audited,
        "audited_images_missed": runner.missed,
    }


def tags(chosen: argparse.Namespace, runner: CertifiedRunner[Any]) -> dict[str, Any]:
    """Compare logits and tags."""
    if chosen.logits is None or not chosen.logits.exists():
        logits = logits_of(chosen, runner)
        if chosen.logits is not None:
            torch.save(logits, chosen.logits)
    else:
        logits = torch.load(chosen.logits)
    parts = {
        "all": logits["bfloat16"] - logits["float32"],
        "tagging decoder": logits["bfloat16"] - logits["decoder"],
        "image encoder": logits["decoder"] - logits["float32"],
    }
    return {
        "photographs": len(logits["float32"]),
        "tags": logits["float32"].shape[1],
        "spread_of_logits": float(logits["float32"].std()),
        "errors": {
            name: {"rms": float(apart.square().mean().sqrt()), "most": float(apart.abs().max())}
            for name, apart in parts.items()
        },
        "margin": certified.MARGIN,
        "by_tags_assigned": [replayed(logits, each, chosen.draws) for each in chosen.assigned],
        "by_margin": by_margin(logits, chosen),
    }


def by_margin(logits: Logits, chosen: argparse.Namespace) -> dict[float, dict[str, float]]:
    """Try other margins, with the first number of assigned tags."""
    own, found = certified.MARGIN, {}
    for margin in MARGINS:
        certified.MARGIN = margin
        found[margin] = replayed(logits, chosen.assigned[0], chosen.draws)
    certified.MARGIN = own
    return found


@torch.inference_mode()
def in_process(chosen: argparse.Namespace, report: dict[str, Any]) -> None:
    """Measure what needs the network in this process."""
    runner, plain = load(chosen)
    if "speed" in chosen.parts:
        write(chosen, f"precision-speed-{chosen.model}", report | {"speed": speed(chosen, runner, plain)})
    if "tags" in chosen.parts:
        write(chosen, f"precision-tags-{chosen.model}", report | {"tags": tags(chosen, runner)})


def main() -> None:
    """Parse, measure, write."""
    parser = options(__doc__)
    parser.add_argument("--model", choices=("ram", "ram_plus", "tag2text"), default="ram_plus")
    parser.add_argument("--parts", nargs="+", choices=("speed", "tags", "worker"), default=["speed", "tags"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photographs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=1e9, help="no further photographs after that")
    parser.add_argument("--logits", type=Path, help="file to keep the logits of photographs in, to go on from them")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--assigned", type=float, nargs="+", default=[10, 5, 20, 100])
    parser.add_argument("--tiny", action="store_true", help="try the script, not the models")
    chosen = parser.parse_args()
    report = begin(
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        instructions=[name for name in INSTRUCTIONS if name in cpu_flags()],
    )
    report["model"] = chosen.model
    if chosen.parts != ["worker"]:
        in_process(chosen, report)
    if "worker" in chosen.parts:
        exact = torch.load(chosen.logits)["float32"]
        at = thresholds(exact, chosen.assigned[0], torch.Generator().manual_seed(0))
        found = precision_worker.measure(("float32", "certified"), chosen.photographs, at)
        write(chosen, "precision-worker", report | {"tags_assigned": chosen.assigned[0], "worker": found})


if __name__ == "__main__":
    main()
