"""How long it takes to find words in the names of many files, the first time and again.

    .venv/bin/python benchmarks/bench_names.py --images 10000000 --out benchmarks/results/names-DATE-MACHINE.json

Keys are made up as cameras and people name files, in folders. One thread walks them.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from storage.index.columns import Keys
from storage.index.names import words_in

WORDS = ("IMG", "2034", "beach", "café", "海边", "nothing")
NAMES = (
    "IMG_{:07d}.jpg",
    "DSC{:05d}.JPG",
    "beach {}.jpg",
    "Café-{}.jpeg",
    "去海边{}.jpg",
    "P{:07d}.jpg",
    "{}-scan.tif",
)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    keys = [f"{2000 + n % 24}/{n % 13:02d}/{NAMES[n % len(NAMES)].format(n)}".encode() for n in range(asked.images)]
    offsets = np.concatenate([[0], np.cumsum([len(key) for key in keys])]).astype(np.int64)
    column = Keys(offsets, np.frombuffer(b"".join(keys), dtype=np.uint8), np.empty(0, dtype=np.uint32))
    found = []
    for word in WORDS:
        [written] = words_in(word)
        seconds = []
        for _ in range(2):
            begun = time.perf_counter()
            rows = column.named(written, is_beginning=False)
            seconds.append(time.perf_counter() - begun)
        found.append({"word": word, "rows": len(rows), "first_seconds": seconds[0], "again_seconds": seconds[1]})
    result = {
        "images": asked.images,
        "key_bytes": int(offsets[-1]),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "words": found,
    }
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    if asked.out:
        asked.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
