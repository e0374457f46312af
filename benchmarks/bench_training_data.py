"""How fast pictures become batches of a training, by threads and processes, and what a million images take in memory.

Photographs as JPEG files of two sizes, the recipe ``pretrain``: read, decode, random view, normalise. Beside it, in the
same rounds, a plain loop over Pillow that does the same for one image after the other, as a data set of the official
code does. Then an official file with a million entries, and what it takes as Python objects. Needs scikit-image for the
photographs.

    python -m benchmarks.bench_training_data --name my-machine
"""

from __future__ import annotations

import gc
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import skimage
import torch
from PIL import Image, ImageOps

from benchmarks.memory import extra_bytes
from benchmarks.report import begin, options, write
from ram_core import TagVocabulary
from ram_core.training.augmentation import OPERATIONS
from ram_core.training.data import ImageBatches, Sample, open_dataset, write_official
from ram_core.training.recipes import PRETRAIN
from ramq.services.training_data import DecodeInProcesses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
SIZES = {"640 x 480": (640, 480), "4000 x 3000": (4000, 3000)}
LARGE = "4000 x 3000"  # one round, since it takes long
VOCABULARY = TagVocabulary.from_names("made up", [f"tag {number}" for number in range(4585)])
CAPTIONS = Path(__file__).parent / "parse_captions.jsonl"
_PIXELS = 200_000_000


def write_photographs(folder: Path, size: tuple[int, int], count: int) -> Path:
    """Write JPEG files and their official file."""
    folder.mkdir()
    samples = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        with Image.open(Path(skimage.__file__).parent / "data" / PHOTOGRAPHS[number % len(PHOTOGRAPHS)]) as photograph:
            photograph.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
        samples.append(Sample(path.name, ["a dog"], [[1]], [1, 2]))
    write_official(folder / "train.json", samples)
    return folder / "train.json"


def plain(path: Path) -> int:
    """Load every image as an official data set does, and put them into batches."""
    entries = json.loads(path.read_text())
    random.seed(0)
    operations = list(OPERATIONS.values())
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (PRETRAIN.mean, PRETRAIN.std))
    done = 0
    waiting = []
    for entry in entries:
        with Image.open(path.parent / entry["image_path"]) as file:
            image = file.convert("RGB")
        image = _crop(image).resize((224, 224), Image.Resampling.BICUBIC)
        if random.random() < 0.5:
            image = ImageOps.mirror(image)
        for operation in random.choices(operations, k=2):
            if random.random() < 0.5:
                image = operation(image, random.choice((-0.5, 0.5)))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        waiting.append((pixels - mean) / std)
        if len(waiting) == PRETRAIN.batch_size:
            done += len(torch.stack(waiting))
            waiting = []
    return done


def _crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    for _ in range(10):
        area, ratio = width * height * random.uniform(0.2, 1), np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if wide <= width and high <= height:
            left, top = random.randint(0, width - wide), random.randint(0, height - high)
            return image.crop((left, top, left + wide, top + high))
    return image


def batches(path: Path, threads: int, processes: DecodeInProcesses | None) -> Callable[[], int]:
    """Return what loads an epoch."""
    data = ImageBatches(
        open_dataset(path, vocabulary=VOCABULARY), PRETRAIN, VOCABULARY, workers=threads, decode=processes
    )
    return lambda: sum(len(batch) for batch in data.epoch(0))


def speeds(path: Path, counts: list[int], rounds: int) -> dict[str, Any]:
    """Return images per second of each way, and how many times as fast as the plain loop it is.

    Processor time, which busy neighbours do not change, is that of this process: without decoders in others.
    """
    pools = {count: DecodeInProcesses(count, _PIXELS) for count in counts}
    jobs: dict[str, Callable[[], int]] = {"plain": lambda: plain(path), "inline": batches(path, 0, None)}
    jobs |= {f"threads_{count}": batches(path, count, None) for count in counts}
    jobs |= {f"processes_{count}": batches(path, count, pools[count]) for count in counts}
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    worked: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():  # what is loaded or started once
        job()
    for _ in range(rounds):
        for name, job in jobs.items():
            start, before = time.perf_counter(), time.process_time()
            images = job()
            rates[name].append(images / (time.perf_counter() - start))
            worked[name].append((time.process_time() - before) / images)
    for pool in pools.values():
        pool.close()
    return {
        name: {
            "images_per_second_best": max(own),
            "times_as_fast_as_plain_median": median(
                ours / theirs for ours, theirs in zip(own, rates["plain"], strict=True)
            ),
            "own_processor_milliseconds_per_image": 1000 * min(worked[name]),
        }
        for name, own in rates.items()
    }


def write_large(path: Path, count: int) -> None:
    """Write an official file of images with one or two captions of the labelled ones, and up to ten tags."""
    captions = [json.loads(line)["text"] for line in CAPTIONS.read_text(encoding="utf-8").splitlines()]
    draw = random.Random(0)

    def samples() -> Iterator[Sample]:
        for number in range(count):
            own = draw.sample(captions, 1 + number % 2)
            tags = [sorted(draw.sample(range(4585), draw.randint(1, 5))) for _ in own]
            yield Sample(
                f"cc12m/{number // 10_000:05}/{number:09}.jpg",
                own,
                tags,
                sorted({tag for each in tags for tag in each}),
            )

    write_official(path, samples())
    first = path.parent / "cc12m/00000/000000000.jpg"
    first.parent.mkdir(parents=True)
    first.touch()


def memory(path: Path, count: int) -> dict[str, Any]:
    """Return what the file takes, opened as data and as Python objects."""
    kept: list[Any] = []
    cpu = torch.device("cpu")
    start = time.process_time()
    grown = extra_bytes(lambda: kept.append(open_dataset(path, vocabulary=VOCABULARY)), cpu)
    seconds = time.process_time() - start
    samples = kept.pop().samples
    texts = sum(len(each.name) + sum(len(caption.encode()) for caption in each.captions) for each in samples[:10_000])
    held = samples.held_bytes / count
    start = time.process_time()
    for number in range(0, count, 100):
        samples[number]
    read = (time.process_time() - start) / (count / 100)
    del samples
    gc.collect()
    found = {
        "images": count,
        "file_bytes_per_image": path.stat().st_size / count,
        "bytes_per_image": held,
        "of_them_texts": texts / 10_000,
        "peak_growth_bytes_per_image": grown / count,
        "open_processor_seconds": seconds,
        "read_one_microseconds": read * 1e6,
    }
    found["as_python_objects_bytes_per_image"] = extra_bytes(lambda: kept.append(_objects(path)), cpu) / count
    return found


def _objects(path: Path) -> Any:
    with path.open() as file:
        return json.load(file)


def main() -> None:
    """Run the benchmark."""
    parser = options(__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--images", type=int, default=52)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--entries", type=int, default=1_000_000)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    report = begin(torch=torch.__version__) | {"recipe": PRETRAIN.name, "batch": PRETRAIN.batch_size, "by_size": {}}
    with tempfile.TemporaryDirectory() as place:
        write_large(Path(place) / "large.json", chosen.entries)
        report["memory"] = memory(Path(place) / "large.json", chosen.entries)
        sys.stderr.write(json.dumps(report["memory"]) + "\n")
        for name, size in SIZES.items():
            path = write_photographs(Path(place) / name, size, chosen.images)
            report["by_size"][name] = speeds(path, chosen.workers, 1 if name == LARGE else chosen.rounds)
            sys.stderr.write(json.dumps({name: report["by_size"][name]}) + "\n")
    write(chosen, "training-data", report)


if __name__ == "__main__":
    main()
