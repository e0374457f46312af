"""How fast the models are, by batch size and by stage, beside a straightforward transcription of their papers.

Full-size networks on made-up weights: arithmetic does not care what numbers mean. The two implementations compute in
the same number format, the transcription by PyTorch's autocast, and take turns within every round, so that a busy
machine slows both; the ratio is the figure to trust, the fastest round the one that says what the machine can do.
Needs torch, timm, transformers, numpy and Pillow only.

    OMP_NUM_THREADS=2 python -m benchmarks.bench_models --model ram_plus --batches 1 2 4 8
    python -m benchmarks.bench_models --model ram_plus --device cuda --batches 1 8 32 128 --compiled

The file is written again after each batch size. ``--graphs`` also replays the network as a CUDA graph, without
compiling it. ``straightforward_float32`` is the transcription in float32, what the official code computes in, on the
largest batch: each row has the ratio to it.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import platform
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.memory import extra_bytes
from benchmarks.report import begin, options, save, write
from benchmarks.straightforward import Straightforward
from ram_core.modeling.beam_search import SearchOptions, search
from ram_core.modeling.label_embeddings import reweight
from ram_core.modeling.published import DESCRIPTIONS
from ram_core.modeling.ram_plus import RAMPlus
from ram_core.modeling.recorded import Recorded
from ram_core.modeling.runner import CPU_CHUNK, Runner
from ram_core.modeling.tiny import TAG2TEXT_TAGS, build, made_up_weights
from ram_core.weights import load_into

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Job = Callable[[], object]

RAM_TAGS = 4585
FORMATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PROMPT = (30522, 1037, 3861, 1997)  # [DEC] a picture of
END = 102


class Bench:
    """One model, both ways, on one device."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.device = torch.device(chosen.device)
        tags = TAG2TEXT_TAGS if chosen.model == "tag2text" else RAM_TAGS
        network = build(chosen.model, tags=tags, full=not chosen.tiny)
        weights = {key: each.to(self.device) for key, each in made_up_weights(network).items()}
        load_into(network, weights, "made-up weights", chosen.model)
        self.plain = Straightforward(weights, DESCRIPTIONS if chosen.model == "ram_plus" else 1)
        network.chunk_size = chosen.chunk_size or (CPU_CHUNK if self.device.type == "cpu" else None)
        self.network = network

    def load(self, number_format: str) -> Runner[Any]:
        """Prepare a copy for a number format: preparing casts the weights."""
        network = copy.deepcopy(self.network)
        self.runner = Runner(network, self.device, FORMATS[number_format], compiled=self.chosen.compiled)
        return self.runner

    def pixels(self, batch: int) -> torch.Tensor:
        """(batch, 3, S, S) noise."""
        size = self.network.visual_encoder.sizes.image_size
        generator = torch.Generator().manual_seed(batch)
        return torch.randn(batch, 3, size, size, generator=generator).to(self.device)

    def seconds(self, job: Job) -> tuple[float, float]:
        """Wall time and processor time of one call."""
        self._wait()
        start, worked = time.perf_counter(), time.process_time()
        job()
        self._wait()
        return time.perf_counter() - start, time.process_time() - worked

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def compare(self, plain: Job, ours: Job, images: int) -> dict[str, float]:
        """Time two jobs in turns, after one warm-up each.

        Returns:
            Images per second of the fastest round, and over the rounds the ratio of the two times: of wall time, and,
            on a CPU, of processor time, which neighbours on the same machine disturb less.
        """
        plain(), ours()
        pairs = [(self.seconds(plain), self.seconds(ours)) for _ in range(self.chosen.rounds)]
        ratios = [slow[0] / fast[0] for slow, fast in pairs]
        found = {
            "straightforward_images_per_second": images / min(slow[0] for slow, _ in pairs),
            "ours_images_per_second": images / min(fast[0] for _, fast in pairs),
            "speedup_median": median(ratios),
            "speedup_least": min(ratios),
            "speedup_most": max(ratios),
        }
        if self.device.type == "cpu":
            found["processor_time_speedup_median"] = median(slow[1] / fast[1] for slow, fast in pairs)
        return found

    def stages(self, batch: int) -> dict[str, dict[str, float]]:
        """Compare encoder, re-weighting, decoder and captions."""
        pixels = self.pixels(batch)
        runner, plain = self.runner, self.plain
        network = runner.network
        tokens = runner.embed(pixels)
        float_tokens = tokens.float()
        found = {
            "encoder": self.compare(
                self.in_format(lambda: plain.memory(plain.encode(pixels))), lambda: runner.embed(pixels), batch
            ),
            "decoder with queries": self.compare(
                self.in_format(lambda: plain.decode(plain.queries(float_tokens), float_tokens)),
                self.in_format(lambda: network.decode(tokens, network.tags)),
                batch,
            ),
        }
        if isinstance(network, RAMPlus):
            images = functional.normalize(float_tokens[:, 0], dim=-1)
            labels = network.label_embed.view(-1, network.descriptions, images.shape[1])
            found["re-weighting"] = self.compare(
                self.in_format(lambda: plain.reweight(float_tokens[:, 0])),
                self.in_format(lambda: reweight(labels, images, network.reweight_scale.exp())),
                batch,
            )
        if hasattr(network, "text_decoder"):
            found["caption"] = self.compare(
                self.in_format(lambda: _captions(network, tokens, cached=False)),
                self.in_format(lambda: _captions(network, tokens, cached=True)),
                batch,
            )
        return found

    def in_format(self, job: Job) -> Job:
        """Let a job compute as the runner does: the transcription too, or the ratio would be of formats."""

        def run() -> object:
            with self.runner.autocast():
                return job()

        return run


def _captions(network: Any, tokens: torch.Tensor, *, cached: bool) -> list[list[int]]:
    """Caption from forty made-up tag tokens; without a cache every word reads the whole sentence anew, per beam."""
    batch = tokens.shape[0]
    options = SearchOptions(max_length=24, min_length=24)  # as many words whatever the weights
    generator = torch.Generator().manual_seed(batch)
    ids = torch.randint(1000, 30000, (batch, 40), generator=generator).to(tokens.device)
    real = torch.ones_like(ids, dtype=torch.bool)
    if cached:
        encoded = network.tag_encoder(ids, real, tokens)
        reader: Any = _Cached(network.text_decoder, network.text_decoder.start(encoded, 3, options.max_length))
    else:
        ids, real, tokens = (each.repeat_interleave(3, dim=0) for each in (ids, real, tokens))
        reader = _Uncached(network.text_decoder, network.tag_encoder(ids, real, tokens))
    return search(reader, PROMPT, batch, END, options, tokens.device)


class _Cached:
    """Remembers keys and values."""

    def __init__(self, decoder: Any, state: Any) -> None:
        self.decoder, self.state = decoder, state

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.decoder(ids, self.state)
        return logits

    def reorder(self, rows: torch.Tensor) -> None:
        self.state.reorder(rows)


class _Uncached:
    """Remembers words only."""

    def __init__(self, decoder: Any, encoded: torch.Tensor) -> None:
        self.decoder, self.encoded = decoder, encoded
        self.ids: torch.Tensor | None = None

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        self.ids = ids if self.ids is None else torch.cat([self.ids, ids], dim=1)
        logits: torch.Tensor = self.decoder(self.ids, self.decoder.start(self.encoded, 1, self.ids.shape[1]))
        return logits

    def reorder(self, rows: torch.Tensor) -> None:
        if self.ids is not None:
            self.ids = self.ids[rows]


def matrix_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Return FLOP per second of a square matrix product: what the device can do at best."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    rates = []
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        rates.append(2 * side**3 / (time.perf_counter() - start))
    return max(rates)


@torch.inference_mode()
def run(chosen: argparse.Namespace, report: dict[str, Any]) -> None:
    """Measure everything that was chosen. Write the file after each part."""

    def keep() -> None:
        save(chosen, f"models-{chosen.model}", report, to_the_minute=True)

    bench = Bench(chosen)
    with FlopCounterMode(display=False) as counter:
        bench.plain.logits(bench.pixels(1))
    flops = counter.get_total_flops()
    report |= {"model": chosen.model, "flops_per_image": flops}
    reference = bench.plain.logits(bench.pixels(4)).cpu()
    largest = bench.pixels(max(chosen.batches, default=1))
    bench.plain.logits(largest)
    slow = len(largest) / min(bench.seconds(lambda: bench.plain.logits(largest))[0] for _ in range(2))
    report["straightforward_float32"] = {"batch": len(largest), "images_per_second": slow}
    for number_format in chosen.formats:
        runner = bench.load(number_format)
        rate = matrix_rate(bench.device, FORMATS[number_format], 2048 if bench.device.type == "cpu" else 8192)
        rows: list[dict[str, Any]] = []
        report[number_format] = {"matrix_flops_per_second": rate, "by_batch": rows}
        for batch in chosen.batches:
            pixels = bench.pixels(batch)
            row: dict[str, Any] = {"batch": batch}
            plain = bench.in_format(lambda: bench.plain.logits(pixels))  # noqa: B023
            row |= bench.compare(plain, lambda: runner(pixels), batch)  # noqa: B023
            gc.collect()
            row["straightforward_extra_bytes"] = extra_bytes(plain, bench.device)
            row["ours_extra_bytes"] = extra_bytes(lambda: runner(pixels), bench.device)  # noqa: B023
            row["share_of_matrix_rate"] = row["ours_images_per_second"] * flops / rate
            row["times_straightforward_float32"] = row["ours_images_per_second"] / slow
            if chosen.graphs:
                graphed = Recorded(lambda given: runner.start(given).tagged.logits, bench.device)  # noqa: B023
                graphed(pixels)
                row["graph_images_per_second"] = batch / min(
                    bench.seconds(lambda: graphed(pixels))[0]  # noqa: B023
                    for _ in range(chosen.rounds)
                )
            rows.append(row)
            keep()
            _say(f"{number_format} batch {batch}: " + json.dumps(row))
        report[number_format] |= {
            "by_stage": {"batch": chosen.stage_batch, **bench.stages(chosen.stage_batch)},
            "agreement": _agreement(reference, runner(bench.pixels(4)).logits.cpu()),
        }
        _say(json.dumps(report[number_format]["by_stage"]) + json.dumps(report[number_format]["agreement"]))
        keep()


def _agreement(reference: torch.Tensor, logits: torch.Tensor) -> dict[str, float]:
    """Say how far logits are from the straightforward float32 ones, and how many tags change at a score of 0.65."""
    apart = logits - reference
    before, after = reference.sigmoid() > 0.65, logits.sigmoid() > 0.65
    return {
        "logit_rms": float(apart.square().mean().sqrt()),
        "logit_max": float(apart.abs().max()),
        "tags_assigned": int(before.sum()),
        "tags_flipped": int((before != after).sum()),
    }


def _machine(device: torch.device) -> dict[str, Any]:
    found = {
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Parse, measure, write."""
    parser = options(__doc__)
    parser.add_argument("--model", choices=("ram", "ram_plus", "tag2text"), default="ram_plus")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8], help="none: stages only")
    parser.add_argument("--stage-batch", type=int, default=4)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, help="float32 on a CPU, all on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunk-size", type=int)
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--graphs", action="store_true", help="also as a CUDA graph; not with --compiled")
    parser.add_argument("--tiny", action="store_true", help="try the script, not the models")
    chosen = parser.parse_args()
    on_gpu = torch.device(chosen.device).type == "cuda"
    chosen.formats = chosen.formats or (["float32", "float16", "bfloat16"] if on_gpu else ["float32"])
    report = begin(**_machine(torch.device(chosen.device)))
    report["rounds"] = chosen.rounds
    run(chosen, report)
    report["load_average_after"] = os.getloadavg()[0]
    write(chosen, f"models-{chosen.model}", report, to_the_minute=True)


if __name__ == "__main__":
    main()
