"""Two choices that the data engine leaves open, and whether memory stays bounded: cleaning with several regions.

    python -m benchmarks.bench_cleaning_regions --stamps stamps/usr/share/tuxpaint/stamps

*regions*: no detector's weights are here, so images and detector are made up, but all parts of images are real. An
image shows four of the pictures of ``bench_cleaning`` side by side, and has the tags of all of them; labels are broken
as there. The detector finds a tag in each part that shows it, except for a share that it misses, and in a share of the
other parts, where it is wrong. Precision and recall of labels after cleaning are told for each way to deal with images
with several regions of a tag, and with none.

*scale*: made-up features of a tag with many regions, in blocks that are never in memory together. Centres of a sample,
as ``ram_core.cleaning`` has them, against those of all regions (``share_of_outliers_in_common``).
"""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.bench_cleaning import Trial, broken, computed
from benchmarks.kinds import kinds_of
from benchmarks.labelled import photographs, stamps
from benchmarks.report import begin, options, write
from ram_core.cleaning import CleaningSettings, FeatureScale, TagRegions, clean_tag, measure_regions, out_of_fold_scores

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ram_core.cleaning.settings import NoRegion, Several

IMAGES, PARTS = 400, 4
SEEDS = range(4)
DETECTORS = ((0.1, 0.05), (0.1, 0.2), (0.3, 0.05), (0.3, 0.2))
"""Shares of what it misses, and of parts where it finds what is not there."""
SETTINGS = CleaningSettings()
ROWS, WIDTH, BLOCK = 300_000, 256, 4_000


def composed(trial: Trial, seed: int, missed: float, false: float) -> dict[str, Any]:
    """Return precision and recall of labels before and after cleaning, for each way."""
    random = np.random.default_rng(seed)
    parts = random.integers(len(trial.true), size=(IMAGES, PARTS))
    shows = trial.true[parts]  # (images, parts, tags)
    true: NDArray[np.bool_] = shows.any(axis=1)
    given = broken(true, seed)
    is_found = np.where(shows, random.random(shows.shape) >= missed, random.random(shows.shape) < false)
    is_found &= given[:, None, :]
    several_ways: tuple[Several, ...] = ("all", "any")
    none_ways: tuple[NoRegion, ...] = ("drop", "keep")
    ways = list(itertools.product(several_ways, none_ways))
    kept = {way: given.copy() for way in ways}
    for tag in range(given.shape[1]):
        images, places = np.nonzero(is_found[:, :, tag])
        features = trial.features[parts[images, places]]
        without = trial.features[parts[~given[:, tag]][:, 0]]
        scores = out_of_fold_scores([features], len(features), without, SETTINGS, trial.scale)
        regions = TagRegions([features], images, scores, np.flatnonzero(given[:, tag]))
        for several, none in ways:
            settings = replace(SETTINGS, several_regions=several, no_region=none)
            verdicts = clean_tag(regions, settings, scale=trial.scale).images
            kept[several, none][verdicts.image_ids[verdicts.is_dropped], tag] = False
    result = {"given": _judged(given, true)}
    return result | {f"several_regions {way[0]}, no_region {way[1]}": _judged(kept[way], true) for way in ways}


def _judged(labels: NDArray[np.bool_], true: NDArray[np.bool_]) -> dict[str, float]:
    right = int((labels & true).sum())
    precision, recall = right / int(labels.sum()), right / int(true.sum())
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / (precision + recall)}


class MadeUp:
    """Regions of a tag of some kinds, and one in ten of none of them; computed block by block, each time anew."""

    def __init__(self, kinds: int) -> None:
        self._centres = np.random.default_rng(0).normal(0, 1, (kinds, WIDTH))

    def __iter__(self) -> Iterator[NDArray[np.float16]]:
        for start in range(0, ROWS, BLOCK):
            random = np.random.default_rng(start)
            rows = (
                random.normal(0, 0.7, (BLOCK, WIDTH)) + self._centres[random.integers(len(self._centres), size=BLOCK)]
            )
            odd = random.random(BLOCK) < 0.1
            rows[odd] = random.normal(0, 1.2, (int(odd.sum()), WIDTH))
            yield rows.astype(np.float16)


def at_scale() -> dict[str, Any]:
    """Return time, memory and agreement for a tag with many regions."""
    blocks = MadeUp(12)
    scale = FeatureScale.of(itertools.islice(blocks, 2))
    found, result = {}, {"regions": ROWS, "width": WIDTH, "as_float32_bytes": ROWS * WIDTH * 4}
    for name, sample in (("sample", SETTINGS.sample), ("all", ROWS)):
        settings = replace(SETTINGS, sample=sample, clusters=12)
        tracemalloc.start()
        began = time.process_time()
        found[name] = measure_regions(blocks, ROWS, settings, scale).is_outlier
        result[f"{name}_processor_seconds"] = round(time.process_time() - began, 1)
        result[f"{name}_peak_bytes"] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    common = (found["sample"] & found["all"]).sum() / found["all"].sum()
    return result | {"share_of_outliers_in_common": round(float(common), 4)}


def main() -> None:
    """Measure, write a file."""
    parser = options(__doc__)
    parser.add_argument("--stamps", type=Path, default=Path("/usr/share/tuxpaint/stamps"))
    chosen: argparse.Namespace = parser.parse_args()
    kinds = kinds_of([stamps(chosen.stamps), photographs()])
    seen = computed(kinds)
    report = begin(images=IMAGES, parts=PARTS, seeds=list(SEEDS))
    with threadpool_limits(1):
        report["scale"] = at_scale()
        print(report["scale"], flush=True)
        report["regions"] = []
        for missed, false in DETECTORS:
            rows: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
            for seed in SEEDS:
                for name, figures in composed(Trial(kinds, seen, seed), seed, missed, false).items():
                    for figure, value in figures.items():
                        rows[name][figure].append(value)
            means = {name: {k: round(float(np.mean(v)), 4) for k, v in each.items()} for name, each in rows.items()}
            report["regions"].append({"missed": missed, "found_wrongly": false, **means})
            print(report["regions"][-1], flush=True)
    write(chosen, "cleaning-regions", report)


if __name__ == "__main__":
    main()
