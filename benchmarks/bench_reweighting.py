"""RAM++'s re-weighting alone, beside the loop over images that the official code runs.

With one thread nothing waits for a neighbour, so processor time there is what the arithmetic costs, on a busy machine
too. With more threads wall time is what counts, and needs a quiet machine: the load is written down.

    python -m benchmarks.bench_reweighting --threads 1 2
"""

from __future__ import annotations

import json
import os
import time
from statistics import median
from typing import Any

import torch
from torch.nn import functional

from benchmarks.report import begin, options, write
from benchmarks.straightforward import Straightforward
from ram_core.modeling.label_embeddings import reweight
from ram_core.modeling.published import DESCRIPTIONS

TAGS, WIDTH = 4585, 512
SCALE = 1 / 0.07  # where training starts it


def clocks(job: Any) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, worked = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - worked


@torch.inference_mode()
def main() -> None:
    """Take turns, print and write the medians."""
    parser = options(__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    report = begin()
    generator = torch.Generator().manual_seed(0)
    labels = functional.normalize(torch.randn(TAGS * DESCRIPTIONS, WIDTH, generator=generator), dim=1)
    plain = Straightforward.__new__(Straightforward)  # its re-weighting needs no image encoder
    plain.weights = {"label_embed": labels, "reweight_scale": torch.tensor(SCALE).log()}
    plain.descriptions = DESCRIPTIONS
    rows = []
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        for batch in chosen.batches:
            images = functional.normalize(torch.randn(batch, WIDTH, generator=generator), dim=1)
            descriptions = labels.view(TAGS, DESCRIPTIONS, WIDTH)
            scale = torch.tensor(SCALE)
            jobs = (lambda: plain.reweight(images), lambda: reweight(descriptions, images, scale))  # noqa: B023  (called within this round of the loop)
            apart = float((jobs[0]() - jobs[1]()).abs().max())
            pairs = [(clocks(jobs[0]), clocks(jobs[1])) for _ in range(chosen.rounds)]
            rows.append(
                {
                    "threads": threads,
                    "batch": batch,
                    "load_average": os.getloadavg()[0],
                    "max_abs_difference": apart,
                    "straightforward_seconds": median(slow[0] for slow, _ in pairs),
                    "ours_seconds": median(fast[0] for _, fast in pairs),
                    "wall_speedup_median": median(slow[0] / fast[0] for slow, fast in pairs),
                    "processor_time_speedup_median": median(slow[1] / fast[1] for slow, fast in pairs),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    write(chosen, "reweighting", report | {"rows": rows}, to_the_minute=True)


if __name__ == "__main__":
    main()
