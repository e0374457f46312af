"""Boxes and masks of tags, against the straightforward chain: the same networks, one picture and one prompt at a time.

    python -m benchmarks.bench_locate --device cpu --pictures 2
    python -m benchmarks.bench_locate --device cuda --pictures 64 --models DIR    # pulled weights

Without ``--models`` the weights are random, of the published sizes (``--size tiny``: small). Speed does not depend on
them; what is found is noise, so both sides take the same number of best boxes. Every box of every tag is a candidate
then, so the choice among them costs what it can cost at most. Pictures are made up, of 4 to 3. Needs torch, timm,
transformers, numpy and Pillow, and nothing else.

The straightforward chain computes the whole detector for each prompt and picture (image and words again), then gives
SAM a picture and all of its boxes, as the demonstration of RAM's authors does. It has the same prompts as ours: the
demonstration has one prompt, and cuts off the tags that do not fit.
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

from benchmarks.report import begin, options, write
from ram_core.localization import Rules, load_locator
from ram_core.localization.pixels import network_input, padded, resized
from ram_core.localization.prompts import span_scores
from ram_core.localization.rle import encode
from ram_core.localization.tiny import write_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from ram_core.localization.locator import Locator

_BOXES = 10
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


class Straightforward:
    """The chain as one would write it from the demonstration, on the same loaded networks."""

    def __init__(self, locator: Locator) -> None:
        self.detector: Any = locator._detector  # noqa: SLF001  (the same weights, not a second copy)
        self.segmenter: Any = locator._segmenter  # noqa: SLF001
        self.device = self.detector._device  # noqa: SLF001

    @torch.inference_mode()
    def locate(self, picture: NDArray[np.uint8], tags: Sequence[str]) -> list[tuple[float, NDArray[np.float32]]]:
        """Return score and box of the best boxes of one picture, after making their masks."""
        detector, network = self.detector, self.detector._network  # noqa: SLF001
        held = network.model.backbone, network.model.text_backbone
        network.model.backbone, network.model.text_backbone = detector._images, detector._text  # noqa: SLF001
        levels = detector._preparation  # noqa: SLF001
        found: list[tuple[float, NDArray[np.float32]]] = []
        try:
            for prompt in detector.prompts(tags):
                ready = resized(picture, *detector.sides.of(*picture.shape[1::-1]))
                ids = [101, *(token for words in prompt.phrases for token in (*words, 1012)), 102]
                output = network(
                    pixel_values=network_input([ready], levels.mean, levels.std, self.device),
                    input_ids=torch.tensor([ids], device=self.device),
                )
                scores = output.logits[0].float().sigmoid().cpu().numpy()
                boxes = output.pred_boxes[0].float().cpu().numpy()
                best = span_scores(scores, list(prompt.spans.values())).max(axis=1)
                found += [(float(best[i]), boxes[i]) for i in np.argsort(-best)[:_BOXES]]
        finally:
            network.model.backbone, network.model.text_backbone = held
        found = sorted(found, key=lambda each: -each[0])[:_BOXES]
        if self.segmenter is not None:
            self._segment(picture, np.stack([box for _, box in found]))
        return found

    def _segment(self, picture: NDArray[np.uint8], boxes: NDArray[np.float32]) -> None:
        segmenter = self.segmenter
        height, width = segmenter._inside(*picture.shape[:2])  # noqa: SLF001
        levels = segmenter._preparation  # noqa: SLF001
        ready = network_input([resized(picture, width, height)], levels.mean, levels.std, self.device)
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        corners = corners.clip(0, 1) * np.array([width, height] * 2, dtype=np.float32)
        output = segmenter._network(  # noqa: SLF001
            pixel_values=padded(ready, segmenter._side),  # noqa: SLF001
            input_boxes=torch.from_numpy(corners[None]).to(self.device),
            multimask_output=False,
        )
        square = (segmenter._side,) * 2  # noqa: SLF001
        masks = torch.nn.functional.interpolate(output.pred_masks[0].float(), square, mode="bilinear")
        masks = masks[:, :, :height, :width]
        masks = torch.nn.functional.interpolate(masks, picture.shape[:2], mode="bilinear")
        for mask in (masks[:, 0] > 0).cpu().numpy():
            encode(mask)


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


def compare(
    locator: Locator, pictures: list[Image.Image], tags: Sequence[str], device: torch.device, rounds: int
) -> dict[str, Any]:
    """Measure both on the same pictures and tags, in turns."""
    chain = Straightforward(locator)
    ready = [locator.preprocessing(picture) for picture in pictures]
    clocks = Clock(device), Clock(device)
    detector: Any = locator._detector  # noqa: SLF001
    if device.type == "cuda":  # the first call of a size looks for the fastest kernels
        locator.locate(ready, [tags] * len(ready))
        chain.locate(ready[0], tags)
    for _ in range(rounds):
        detector._phrases.clear()  # noqa: SLF001  (words are part of the work, once per round)
        with clocks[0].step("all"):
            regions = locator.locate(ready, [tags] * len(ready))
        with clocks[1].step("all"):
            found = [chain.locate(picture, tags) for picture in ready]
    count = rounds * len(ready)
    ours, theirs = (clock.seconds["all"] / count for clock in clocks)
    # On a CPU that others use too, the processor's time says more than the wall's.
    ours_busy, theirs_busy = (clock.processor_seconds["all"] / count for clock in clocks)
    return {
        "tags": len(tags),
        "prompts": len(detector.prompts(tags)),
        "pictures": len(ready),
        "rounds": rounds,
        "seconds_per_picture": round(ours, 4),
        "straightforward_seconds_per_picture": round(theirs, 4),
        "ratio": round(theirs / ours, 3),
        "processor_seconds_per_picture": round(ours_busy, 4),
        "straightforward_processor_seconds_per_picture": round(theirs_busy, 4),
        "ratio_of_processor_seconds": round(theirs_busy / ours_busy, 3),
        "regions_per_picture": [len(each.regions) for each in regions],
        "largest_difference_of_the_best_score": max(
            abs(each.regions[0].score - best_boxes[0][0]) for each, best_boxes in zip(regions, found, strict=True)
        ),
    }


def steps(locator: Locator, pictures: list[Image.Image], tags: Sequence[str], device: torch.device) -> dict[str, Any]:
    """Measure where the time of one run goes: seconds per picture, on a CPU those of processor cores."""
    detector: Any = locator._detector  # noqa: SLF001
    segmenter: Any = locator._segmenter  # noqa: SLF001
    detector._phrases.clear()  # noqa: SLF001
    clock = Clock(device)
    timed = [(detector, "_maps", "image features"), (detector, "_features", "words"), (detector, "_outputs", "prompts")]
    if segmenter is not None:
        timed += [(segmenter, "_encode", "picture for masks"), (segmenter, "_masks", "masks")]
    for owner, name, step in timed:
        clock.around(owner, name, step)
    with clock.step("preparation"):
        ready = [locator.preprocessing(picture) for picture in pictures]
    with clock.step("locate"):
        locator.locate(ready, [tags] * len(ready))
    for owner, name, _ in timed:
        delattr(owner, name)
    seconds = clock.seconds if device.type == "cuda" else clock.processor_seconds
    seconds["prompts"] -= seconds["words"]  # words are asked for inside
    seconds["rest"] = seconds["locate"] - sum(seconds[step] for *_, step in timed)
    return {name: round(value / len(pictures), 4) for name, value in seconds.items()}


def main() -> None:
    """Measure; write a file."""
    parser = options(__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--models", type=Path, help="folder of pulled weights")
    parser.add_argument("--detector", default="grounding-dino-tiny")
    parser.add_argument("--segmenter", default="sam-vit-base")
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tags", type=int, nargs="+", default=[20, 150])
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    with tempfile.TemporaryDirectory() as folder:
        models = chosen.models or Path(folder)
        if chosen.models is None:
            for name in (chosen.detector, chosen.segmenter):
                write_tiny_model(name, models, full=chosen.size == "full")
        rules = Rules(threshold=0, per_tag=_BOXES, per_picture=_BOXES)
        locator = load_locator(chosen.detector, chosen.segmenter, models_dir=models, device=chosen.device, rules=rules)
    gc.collect()
    pictures = made_up(chosen.pictures, 1200 if chosen.size == "full" else 150)
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
    }
    for count in chosen.tags:
        case = compare(locator, pictures, TAGS[:count], device, chosen.rounds)
        case["steps"] = steps(locator, pictures, TAGS[:count], device)
        report["cases"].append(case)
        print(case, flush=True)
    report["peak_resident_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":
        report["peak_device_bytes"] = torch.cuda.max_memory_allocated(device)
    write(chosen, f"locate-{chosen.size}", report)


if __name__ == "__main__":
    main()
