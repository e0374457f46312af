"""How fast RAM++ is trained, and in how much memory, beside a straightforward transcription of the official training.

Made-up weights and images, one step of forward, backward and AdamW. Both compute in the same number format, take turns
within every round, and must give the same losses. Besides, the same step with activations that are computed again.
Needs torch, timm, transformers, numpy and Pillow only.

    OMP_NUM_THREADS=2 python -m benchmarks.bench_training --device cpu --size tiny --batches 4
    python -m benchmarks.bench_training --device cuda --size full --batches 26 --format bfloat16
"""

from __future__ import annotations

import gc
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch

from benchmarks.memory import extra_bytes
from benchmarks.report import begin, options, save, write
from benchmarks.straightforward import Straightforward
from ram_core import TagVocabulary
from ram_core.modeling.published import DESCRIPTIONS
from ram_core.modeling.tiny import build, made_up_weights
from ram_core.training import TrainingBatch, load_for_training

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

RAM_TAGS = 4585
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Plain(Straightforward):
    """The official training of RAM++ as its equations say: one caption after the other, every score written down.

    Args:
        weights: official names to tensors.
    """

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        own = {key: each.clone() for key, each in weights.items()}
        super().__init__(own, DESCRIPTIONS)
        self.swin.requires_grad_(True).train()
        for module in self.swin.modules():
            if hasattr(module, "drop_prob"):  # stochastic depth, by which timm's differs from step to step
                module.drop_prob = 0.0
        for key, each in own.items():
            each.requires_grad_(key != "label_embed" and not key.startswith("visual_encoder."))

    def parameters(self) -> list[torch.Tensor]:
        """What learns."""
        head = [each for each in self.weights.values() if each.requires_grad]
        return [*self.swin.parameters(), *head]

    def losses(self, batch: TrainingBatch) -> dict[str, torch.Tensor]:
        """Tags, CLIP's vectors, alignment."""
        memory = self.memory(self.encode(batch.pixels))
        tag = _asymmetric(self.decode(self.queries(memory), memory), batch.tags.float(), 7)
        assert batch.caption_text is not None
        distill = (memory[:, 0] - batch.clip_image).abs().mean()
        captions = torch.relu(self._linear(batch.caption_text, "wordvec_proj"))
        aligned = self.decode(captions[None].repeat(len(batch), 1, 1), memory)
        align = _asymmetric(aligned, torch.eye(len(batch), device=memory.device), 4)
        return {"tag": tag, "distill": distill, "align": align, "total": tag + distill + align}


def _asymmetric(logits: torch.Tensor, targets: torch.Tensor, gamma: int) -> torch.Tensor:
    yes = torch.sigmoid(logits.float())
    no = (1 - yes + 0.05).clamp(max=1)
    loss = targets * torch.log(yes.clamp(min=1e-8)) + (1 - targets) * torch.log(no.clamp(min=1e-8))
    with torch.no_grad():
        truth = yes * targets + no * (1 - targets)
        focus = torch.pow(1 - truth, gamma * (1 - targets))
    return -(loss * focus).sum()


class Bench:
    """Two networks with the same weights, and their optimizers."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.device, self.dtype = torch.device(chosen.device), FORMATS[chosen.format]
        network = build("ram_plus", tags=chosen.tags, full=chosen.size == "full")
        weights = made_up_weights(network)
        vocabulary = TagVocabulary.from_names("made up", [f"tag {number}" for number in range(chosen.tags)])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.pth"
            torch.save({"model": weights}, path)
            self.ours = load_for_training(
                "ram_plus", checkpoint=path, vocabulary=vocabulary, dropout=0.0, drop_path=0.0, device=self.device
            )
        self.plain = Plain({key: each.to(self.device) for key, each in weights.items()})
        self.tags, self.image_size = chosen.tags, network.visual_encoder.sizes.image_size
        learning = [each for each in self.ours.parameters() if each.requires_grad]
        # So small a rate that rounds can be compared.
        self.optimizers = [torch.optim.AdamW(each, lr=1e-9) for each in (self.plain.parameters(), learning)]

    def batch(self, images: int) -> TrainingBatch:
        """Make up a batch."""
        draw = torch.Generator().manual_seed(images)
        texts = torch.nn.functional.normalize(torch.randn(images, 512, generator=draw), dim=1)
        tags = (torch.rand(images, self.tags, generator=draw) < 0.005).to(torch.uint8)
        pixels = torch.randn(images, 3, self.image_size, self.image_size, generator=draw)
        captions = [f"caption {number}" for number in range(images)]
        return TrainingBatch(pixels, captions, tags, tags, texts * 10, texts).to(self.device)

    def step(self, who: int, batch: TrainingBatch) -> dict[str, torch.Tensor]:
        """One step of the transcription (0) or ours (1)."""
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            losses = (self.plain, self.ours)[who].losses(batch)
        self.optimizers[who].zero_grad()
        losses["total"].backward()
        self.optimizers[who].step()
        return losses

    def seconds(self, job: Callable[[], object]) -> tuple[float, float]:
        """Wall time and processor time of one call."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        start, worked = time.perf_counter(), time.process_time()
        job()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, time.process_time() - worked

    def measure(self, images: int, rounds: int) -> dict[str, float]:
        """Compare one size of batch."""
        batch = self.batch(images)
        jobs: dict[str, Callable[[], object]] = {
            "straightforward": lambda: self.step(0, batch),
            "ours": lambda: self.step(1, batch),
            "ours_recomputing": lambda: self._recomputing(batch),
        }
        first, second = self.step(0, batch), self.step(1, batch)
        apart = max(abs(float(first[name].detach() / second[name].detach()) - 1) for name in first)
        jobs["ours_recomputing"]()
        times = {name: [self.seconds(job) for _ in range(1)] for name, job in jobs.items()}
        for _ in range(rounds - 1):
            for name, job in jobs.items():
                times[name].append(self.seconds(job))
        found: dict[str, float] = {"batch": images, "losses_apart_relative": apart}
        for name, job in jobs.items():
            found[f"{name}_images_per_second"] = images / min(wall for wall, _ in times[name])
            gc.collect()
            found[f"{name}_extra_bytes"] = extra_bytes(job, self.device)
        for name in ("ours", "ours_recomputing"):
            pairs = list(zip(times["straightforward"], times[name], strict=True))
            found[f"{name}_speedup_median"] = median(slow[0] / fast[0] for slow, fast in pairs)
            if self.device.type == "cpu":
                found[f"{name}_processor_time_speedup_median"] = median(slow[1] / fast[1] for slow, fast in pairs)
        return found

    def _recomputing(self, batch: TrainingBatch) -> None:
        self.ours.recompute()
        self.step(1, batch)
        self.ours.recompute(activations=False)


def main() -> None:
    """Run the benchmark."""
    parser = options(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=["tiny", "full"], default="tiny")
    parser.add_argument("--tags", type=int, default=RAM_TAGS)
    parser.add_argument("--batches", type=int, nargs="+", default=[4])
    parser.add_argument("--format", choices=FORMATS, default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    device = torch.cuda.get_device_name() if chosen.device.startswith("cuda") else platform.processor() or "cpu"
    report = begin(device=device, torch=torch.__version__, threads=torch.get_num_threads())
    report |= {"model": "ram_plus", "size": chosen.size, "tags": chosen.tags, "format": chosen.format, "by_batch": []}
    bench = Bench(chosen)
    for images in chosen.batches:
        row = bench.measure(images, chosen.rounds)
        sys.stderr.write(json.dumps(row) + "\n")
        report["by_batch"].append(row)
        save(chosen, f"training-ram_plus-{chosen.size}", report)
    write(chosen, f"training-ram_plus-{chosen.size}", report)


if __name__ == "__main__":
    main()
