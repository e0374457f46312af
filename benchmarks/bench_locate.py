"""Boxes and masks of tags, against the straightforward chain: the same networks, one picture and one prompt at a time.

    python -m benchmarks.bench_locate --device cpu --pictures 2
    python -m benchmarks.bench_locate --device cuda --pictures 16 --batches 1 8 --formats float32 bfloat16 --compiled
    python -m benchmarks.bench_locate --device cuda --models DIR    # pulled weights

Without ``--models`` the weights are random, of the published sizes (``--size tiny``: small). Speed does not depend on
them; what is found is noise, so both sides take the same number of best boxes. Every box of every tag is a candidate
then, so the choice among them costs what it can cost at most. Pictures are made up, of 4 to 3. The chain is in
``straightforward_locate.py``. The differences of number formats are those from the first one, with pictures one at a
time. The file is written again after each case, so that a run that is cut off still tells. Needs torch, timm,
transformers, numpy and Pillow, and nothing else.
"""

from __future__ import annotations

import gc
import resource
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from PIL import Image

from benchmarks.report import begin, options, save
from benchmarks.straightforward_locate import Straightforward
from ram_core.localization import Rules, load_locator
from ram_core.localization.tiny import write_tiny_model

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ram_core.localization.locator import Locator

_BOXES = 10
_NEAR = 0.01  # of a picture: proposals that are one and the same in two formats
_LOOKS = ("red", "small", "old", "wooden", "black", "white", "open", "broken")
_THINGS = (
    *("dog", "cat", "car", "tree", "chair", "table", "bottle", "cup", "person", "bicycle", "boat", "bird", "horse"),
    *("house", "window", "door", "lamp", "book", "shoe", "hat", "bag", "clock", "phone", "plate", "flower", "sign"),
)
TAGS = (*_THINGS, *(f"{look} {thing}" for look in _LOOKS for thing in _THINGS))


def made_up(count: int, side: int) -> list[Image.Image]:
    """Return pictures of 4 to 3 with shapes in them."""
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 255, (24, 32, 3), dtype=np.uint8))
        pictures.append(coarse.resize((side * 4 // 3, side), Image.Resampling.BICUBIC))
    return pictures


class Clock:
    """Adds up the seconds of named steps: those of the clock on the wall, and those of processor cores."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.processor_seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a block."""
        start, busy = self._now(), time.process_time()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - start
            self.processor_seconds[name] = self.processor_seconds.get(name, 0.0) + time.process_time() - busy

    def around(self, owner: Any, name: str, step: str) -> None:
        """Time every call of a method."""
        work: Callable[..., Any] = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            with self.step(step):
                return work(*given, **named)

        setattr(owner, name, timed)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class Bench:
    """One loaded locator, and the pictures that it is measured with."""

    def __init__(self, locator: Locator, pictures: Sequence[Image.Image], device: torch.device, rounds: int) -> None:
        self.locator = locator
        self.device = device
        self.rounds = rounds
        self.pictures = pictures
        self.ready = [locator.preprocessing(picture) for picture in pictures]
        self.detector: Any = locator._detector  # noqa: SLF001
        self.segmenter: Any = locator._segmenter  # noqa: SLF001

    def speed(self, tags: Sequence[str], batch: int) -> dict[str, Any]:
        """Measure the locator on batches of so many pictures."""
        if self.device.type == "cuda":  # the first call of a size looks for the fastest kernels, or compiles
            self._all(tags, batch)
            torch.cuda.reset_peak_memory_stats(self.device)
        clock, regions = Clock(self.device), []
        for _ in range(self.rounds):
            self.detector._phrases.clear()  # noqa: SLF001  (words are part of the work, once per round)
            with clock.step("all"):
                regions = self._all(tags, batch)
        report = {
            "tags": len(tags),
            "prompts": len(self.detector.prompts(tags)),
            "batch": batch,
            "pictures": len(self.ready),
            "rounds": self.rounds,
            **self._told(clock),
            "regions_per_picture": [len(each.regions) for each in regions][:4],
        }
        if self.device.type == "cuda":
            report["peak_device_bytes"] = torch.cuda.max_memory_allocated(self.device)
        return report

    def chain(self, tags: Sequence[str]) -> dict[str, Any]:
        """Measure the straightforward chain on the same pictures and tags."""
        chain = Straightforward(self.locator, _BOXES)
        if self.device.type == "cuda":
            chain.locate(self.ready[0], tags)
            torch.cuda.reset_peak_memory_stats(self.device)
        clock, found = Clock(self.device), []
        for _ in range(self.rounds):
            with clock.step("all"):
                found = [chain.locate(picture, tags) for picture in self.ready]
        regions = self._all(tags, 1)
        report = {
            "tags": len(tags),
            **self._told(clock),
            "largest_difference_of_the_best_score": max(
                abs(each.regions[0].score - best[0][0]) for each, best in zip(regions, found, strict=True)
            ),
        }
        if self.device.type == "cuda":
            report["peak_device_bytes"] = torch.cuda.max_memory_allocated(self.device)
        return report

    def steps(self, tags: Sequence[str], batch: int) -> dict[str, Any]:
        """Measure where the time goes: seconds per picture, on a CPU those of processor cores.

        ``words`` is what they cost once; ``words known`` what they cost in a further run over the same tags.
        """
        clock = Clock(self.device)
        timed = [
            (self.detector, "_maps", "image features"),
            (self.detector, "_features", "words"),
            (self.detector, "_outputs", "prompts"),
        ]
        if self.segmenter is not None:
            timed += [(self.segmenter, "_encode", "picture for masks"), (self.segmenter, "_masks", "masks")]
        for owner, name, step in timed:
            clock.around(owner, name, step)
        with clock.step("preparation"):
            for picture in self.pictures:
                self.locator.preprocessing(picture)
        self.detector._phrases.clear()  # noqa: SLF001
        with clock.step("locate"):
            self._all(tags, batch)
        seconds = clock.seconds if self.device.type == "cuda" else clock.processor_seconds
        seconds["prompts"] -= seconds["words"]  # words are asked for inside
        seconds["rest"] = seconds["locate"] - sum(seconds[step] for *_, step in timed)
        prompts = self.detector.prompts(tags)
        with clock.step("words known"):
            for _ in self.ready:
                self.detector._texts(prompts)  # noqa: SLF001
        for owner, name, _ in timed:
            delattr(owner, name)
        return {name: round(value / len(self.ready), 5) for name, value in seconds.items()}

    def _all(self, tags: Sequence[str], batch: int) -> list[Any]:
        parts = [self.ready[start : start + batch] for start in range(0, len(self.ready), batch)]
        return [found for part in parts for found in self.locator.locate(part, [tags] * len(part))]

    def _told(self, clock: Clock) -> dict[str, float]:
        count = self.rounds * len(self.ready)
        return {
            "seconds_per_picture": round(clock.seconds["all"] / count, 4),
            # On a CPU that others use too, the processor's time says more than the wall's.
            "processor_seconds_per_picture": round(clock.processor_seconds["all"] / count, 4),
            "pictures_per_second": round(count / clock.seconds["all"], 3),
        }


Outputs = tuple["NDArray[np.float32]", "NDArray[np.float32]", "NDArray[np.float32]"]


def outputs(bench: Bench, tags: Sequence[str]) -> list[Outputs]:
    """Return the proposals (Q, 4) that boxes start from, scores (Q, tokens) and boxes (Q, 4) of each prompt."""
    found: list[Outputs] = []

    def note(_module: Any, _given: Any, output: Any) -> None:
        raw = output.init_reference_points[0], output.logits[0].float().sigmoid(), output.pred_boxes[0]
        found.append(tuple(each.float().cpu().numpy() for each in raw))  # type: ignore[arg-type]  # three of them

    hook = bench.detector._network.register_forward_hook(note)  # noqa: SLF001
    try:
        for picture in bench.ready:
            for prompt in bench.detector.prompts(tags):
                bench.detector.detect([picture], [list(prompt.spans)], 1.0)
    finally:
        hook.remove()
    return found


def differences(reference: Bench, other: Bench, tags: Sequence[str]) -> dict[str, Any]:
    """Compare all scores, boxes and masks of two number formats, not only the best.

    Another rounding changes which proposals the network follows, so boxes are compared that start from the same one.
    """
    scores, boxes, count = [], [], 0
    for (starts, said, drawn), (others, said_too, drawn_too) in zip(
        outputs(reference, tags), outputs(other, tags), strict=True
    ):
        apart = np.abs(starts[:, None] - others[None]).max(axis=2)  # (Q, Q)
        same = apart.argmin(axis=1)
        is_same = apart.min(axis=1) < _NEAR
        count += len(starts)
        is_text = said.max(axis=0) > 0  # the rest of the 256 tokens are filling
        scores.append(np.abs(said - said_too[same])[is_same][:, is_text])
        boxes.append(np.abs(drawn - drawn_too[same])[is_same])
    report: dict[str, Any] = {
        "tags": len(tags),
        "boxes": count,
        "share_of_the_same_start": round(sum(map(len, boxes)) / count, 4),
        "scores": _spread(np.concatenate([each.ravel() for each in scores])),
        "boxes_in_parts_of_a_picture": _spread(np.concatenate([each.ravel() for each in boxes])),
    }
    if reference.segmenter is not None:
        corners = [_boxes(number) for number in range(len(reference.ready))]
        ours, theirs = (
            [mask for own in each.segmenter.segment(each.ready, corners) for mask in own] for each in (reference, other)
        )
        pairs = list(zip(ours, theirs, strict=True))
        report["share_of_mask_pixels"] = _spread(
            np.array([(one.rle.decode() != two.rle.decode()).mean() for one, two in pairs])
        )
        report["mask_quality"] = _spread(np.array([abs(one.quality - two.quality) for one, two in pairs]))
    return report


def _boxes(seed: int) -> NDArray[np.float32]:
    """Return (N, 4) boxes somewhere in a picture."""
    corners = np.random.default_rng(seed).random((_BOXES, 2, 2), dtype=np.float32)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _spread(values: NDArray[Any]) -> dict[str, float]:
    median, nearly_all, most = np.quantile(values, [0.5, 0.999, 1.0])
    return {"median": round(float(median), 6), "p99_9": round(float(nearly_all), 6), "max": round(float(most), 6)}


def parsed() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = options(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--models", type=Path, help="folder of pulled weights")
    parser.add_argument("--detector", default="grounding-dino-tiny")
    parser.add_argument("--segmenter", default="sam-vit-base")
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="0: only steps and differences")
    parser.add_argument("--tags", type=int, nargs="+", default=[20, 150])
    parser.add_argument("--batches", type=int, nargs="+", default=[8], help="pictures given at once")
    parser.add_argument("--formats", nargs="+", default=["float32"], help="number formats")
    parser.add_argument("--compiled", action="store_true", help="also the last format with torch.compile")
    parser.add_argument("--without-chain", action="store_true", help="do not measure the straightforward chain")
    return parser.parse_args()


def main() -> None:
    """Measure; write a file."""
    chosen = parsed()
    device = torch.device(chosen.device)
    report = begin(
        torch=torch.__version__,
        transformers=transformers.__version__,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    )
    report |= {
        "detector": chosen.detector,
        "segmenter": chosen.segmenter,
        "weights": "pulled" if chosen.models else f"random, {chosen.size}",
        "boxes": _BOXES,
        "cases": [],
        "chain": [],
        "steps": [],
        "differences": [],
    }

    def tell(part: str, **found: Any) -> None:
        report[part].append(found)
        report["peak_resident_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        save(chosen, f"locate-{chosen.size}", report)
        print(part, found, flush=True)

    pictures = made_up(chosen.pictures, 1200 if chosen.size == "full" else 150)
    rules = Rules(threshold=0, per_tag=_BOXES, per_picture=_BOXES)
    variants = [(name, False) for name in chosen.formats] + [(chosen.formats[-1], True)] * chosen.compiled
    first: Bench | None = None
    with tempfile.TemporaryDirectory() as folder:
        models = chosen.models or Path(folder)
        if chosen.models is None:
            for name in (chosen.detector, chosen.segmenter):
                write_tiny_model(name, models, full=chosen.size == "full")
        for name, compiled in variants:
            gc.collect()
            locator = load_locator(
                chosen.detector, chosen.segmenter, models_dir=models, device=chosen.device, rules=rules, precision=name,
                compiled=compiled,
            )  # fmt: skip
            bench, how = Bench(locator, pictures, device, chosen.rounds), {"format": name, "compiled": compiled}
            for tags in (TAGS[:count] for count in chosen.tags):
                for batch in chosen.batches if chosen.rounds else ():
                    tell("cases", **how, **bench.speed(tags, batch))
                if chosen.rounds and not (chosen.without_chain or compiled):
                    tell("chain", **how, **bench.chain(tags))
                tell("steps", **how, tags=len(tags), batch=chosen.batches[-1], **bench.steps(tags, chosen.batches[-1]))
            if first is not None:
                tell("differences", **how, **differences(first, bench, TAGS[: chosen.tags[0]]))
            first = first or bench
    print(save(chosen, f"locate-{chosen.size}", report))


if __name__ == "__main__":
    main()
