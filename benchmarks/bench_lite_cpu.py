"""How fast ``lite`` is: its network alone, and a worker from JPEGs of 2 megapixels to records.

    python -m benchmarks.bench_lite_cpu pictures --folder /tmp/pictures
    python -m benchmarks.bench_lite_cpu network --folder /tmp/pictures
    python -m benchmarks.bench_lite_cpu results --folder /tmp/pictures
    python -m benchmarks.bench_lite_cpu worker --folder /tmp/pictures --beside ../ramq-before

The pictures are the installed photographs, scaled to 2 megapixels, with the noise of a camera, at quality 88.
``network`` compares ways to run the network, in turns, also with ONNX Runtime and OpenVINO if they and ``onnx`` are
installed. ``results`` counts the stored values that differ from those of the plain network. ``worker`` compares workers
of this checkout with those of another.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from benchmarks.copies import another
from benchmarks.lite_engines import engines
from benchmarks.report import begin, options, write
from benchmarks.worker_rate import ROOT, run_worker
from ram_core.lite.model import PREPROCESSING, load_lite
from ramq.demo_photos import fetched_photographs, installed_photographs
from ramq.settings import Settings
from storage.migrate import upgrade
from tests.services.breakable import breakable_services
from tests.services.fleet import client_services, running_fleet
from tests.services.postgres import PostgresServer
from workers.pipeline.decoders import Decoders
from workers.pipeline.write import quantise

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ram_core.lite.model import Lite
    from ram_core.recognition import Prediction

Results = dict[str, list[dict[str, float]]]

PIXELS = 2_000_000
NOISE = 3.0
"""Standard deviation of the noise, in levels of 255. Without it, scaled photographs are smoother than a camera's."""
BATCH = 32


def make_pictures(folder: Path) -> None:
    """Write each photograph at 2 megapixels."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [path for path in installed_photographs() if path.suffix != ".npy"] + fetched_photographs()
    for number, path in enumerate(paths):
        picture = Image.open(path).convert("RGB")
        scale = (PIXELS / (picture.width * picture.height)) ** 0.5
        picture = picture.resize(
            (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS
        )
        levels = np.asarray(picture) + random.normal(0, NOISE, (picture.height, picture.width, 3))
        Image.fromarray(levels.round().clip(0, 255).astype(np.uint8)).save(folder / f"{number:03}.jpg", quality=88)


def in_turns(calls: dict[str, Callable[[], object]], images: int, seconds: float) -> dict[str, dict[str, float]]:
    """Time calls in turns; return images per second passed, and per second on a core."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for name, call in calls.items():
            began, began_on_cores = time.perf_counter(), time.process_time()
            call()
            taken[name].append((time.perf_counter() - began, time.process_time() - began_on_cores))
    found = {}
    for name, pairs in taken.items():
        passed, on_cores = (statistics.median(column) for column in zip(*pairs, strict=True))
        found[name] = {
            "images_per_second": round(images / passed, 1),
            "images_per_core_second": round(images / on_cores, 1),
            "rounds": len(pairs),
        }
    return found


def matrix_rate(dtype: torch.dtype) -> float:
    """Return what the machine does in one large matrix product, in 10^9 operations a second."""
    one, other = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
    rates = []
    for _ in range(20):
        began = time.perf_counter()
        one @ other
        rates.append(2 * 1024**3 / (time.perf_counter() - began) / 1e9)
    return round(statistics.median(rates), 1)


def differences(ours: list[Prediction], theirs: list[Prediction], thresholds: NDArray[np.float32]) -> dict[str, Any]:
    """Count what would be stored differently with another way to run the network."""
    values = differing = largest = tag_sets = 0
    for one, two in zip(ours, theirs, strict=True):
        stored = []
        for each in (one, two):
            units = np.zeros(len(thresholds), np.int32)
            units[each.tag_ids] = quantise(each.scores, thresholds[each.tag_ids])
            stored.append(units)
        steps = np.abs(stored[0] - stored[1])
        values += int(((stored[0] > 0) | (stored[1] > 0)).sum())
        differing += int((steps > 0).sum())
        largest = max(largest, int(steps.max()))
        sets = [set(each.tag_ids[each.scores > thresholds[each.tag_ids]].tolist()) for each in (one, two)]
        tag_sets += sets[0] != sets[1]
    return {
        "images": len(ours),
        "images_with_other_tags": tag_sets,
        "stored_scores": values,
        "stored_scores_that_differ": differing,
        "largest_difference_in_units": largest,
        "largest_difference_of_vectors": float(
            max(np.abs(one.vector - two.vector).max() for one, two in zip(ours, theirs, strict=True))
        ),
    }


def decoded(folder: Path) -> tuple[NDArray[np.uint8], float]:
    """Return the pixels of all pictures, and how many are decoded in a second by one child for each core."""
    bodies = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    decoders = Decoders(os.cpu_count() or 1, 1 << 28)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in range(2):
            began = time.perf_counter()
            found = list(pool.map(lambda body: decoders.decode(body, PREPROCESSING).pixels, bodies))
            seconds = time.perf_counter() - began
    decoders.close()
    return np.stack(found), round(len(bodies) / seconds, 1)


def measure_network(folder: Path, seconds: float, numbers: list[int]) -> dict[str, Any]:
    """Compare ways to run the network, with several numbers of threads; decoding beside it."""
    pixels, rate = decoded(folder)
    found: dict[str, Any] = {"pictures": len(pixels), "decoded_per_second": rate}
    found["mean_bytes"] = round(statistics.mean(path.stat().st_size for path in folder.glob("*.jpg")))
    cores = torch.get_num_threads()
    with torch.inference_mode():
        for threads in numbers:
            torch.set_num_threads(threads)
            rates = {f"matrix_product_{name}": matrix_rate(getattr(torch, name)) for name in ("float32", "bfloat16")}
            found[f"{threads} threads"] = rates | in_turns(engines(pixels[:BATCH], threads), BATCH, seconds)
            for name, rate in found[f"{threads} threads"].items():
                print(threads, name, rate, flush=True)
    torch.set_num_threads(cores)
    return found


def measure_results(folder: Path) -> dict[str, Any]:
    """Count what differs from the plain network."""
    pixels, _ = decoded(folder)
    model = plain_lite()
    plain, thresholds, device = model.predict(pixels), model.vocabulary.thresholds, torch.device("cpu")
    return {
        name: differences(plain, load_lite(device=device, dtype=dtype).predict(pixels), thresholds)
        for name, dtype in (("shipped", torch.float32), ("bfloat16", torch.bfloat16))
    }


def plain_lite() -> Lite:
    """Return ``lite`` with its network as torch runs it by itself."""
    from unittest.mock import patch  # noqa: PLC0415

    with patch("ram_core.lite.network.fused", lambda network: network):
        return load_lite(device=torch.device("cpu"))


def ways(beside: Path | None, *, with_others: bool) -> dict[str, tuple[Path, dict[str, str]]]:
    """Return checkouts and settings of workers, by name."""
    cores = os.cpu_count() or 1
    usual = {"OMP_NUM_THREADS": str(cores), "RAMQ_DECODE_THREADS": str(cores), "RAMQ_BATCH_SIZE": str(BATCH)}
    others = {
        "1 thread for the model": {"OMP_NUM_THREADS": "1"},
        "1 decoder": {"RAMQ_DECODE_THREADS": "1"},
        "batches of 16": {"RAMQ_BATCH_SIZE": "16"},
        "batches of 64": {"RAMQ_BATCH_SIZE": "64"},
    }
    return {
        **({"before": (beside.resolve(), usual)} if beside else {}),
        "now": (ROOT, usual),
        **{f"now, {name}": (ROOT, usual | changed) for name, changed in others.items() if with_others},
    }


def measure_workers(folder: Path, chosen: dict[str, tuple[Path, dict[str, str]]], rounds: int, copies: int) -> Results:
    """Compare workers of several checkouts and settings, in turns. After the first round, only the first two."""
    found: Results = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory(prefix="ramq-lite-") as name:
        root = Path(name)
        sources = root / "warm", root / "pictures"
        for source, count in zip(sources, (1, copies), strict=True):
            source.mkdir()
            for path in sorted(folder.glob("*.jpg"))[: None if count > 1 else 64]:
                for number in range(count):
                    body = another(path.read_bytes(), number if count > 1 else copies)
                    (source / f"{number}-{path.name}").write_bytes(body)
        with breakable_services(root / "services") as running:
            for number in range(rounds):
                for place, (label, (checkout, environment)) in enumerate(chosen.items()):
                    if number and place > 1:
                        continue
                    data = root / f"way{place}round{number}"
                    data.mkdir()
                    url = PostgresServer(running.database_url).create_database(data.name)
                    settings = Settings(data_dir=data, database_url=url, broker_url=running.broker_url)
                    leases = {"RAMQ_LEASE_SECONDS": "30", "RAMQ_SHARD_SIZE": "256"}
                    with (
                        client_services(settings) as services,
                        running_fleet(settings, data, is_null=False, **environment, **leases) as fleet,
                    ):
                        upgrade(services.engine)
                        found[label].append(run_worker(services, fleet, checkout, sources))
                        print(label, found[label][-1], flush=True)
    return found


def main() -> None:
    """Measure, print, write a file."""
    parser = options(__doc__)
    parser.add_argument("part", choices=("pictures", "network", "results", "worker"))
    parser.add_argument("--folder", type=Path, required=True, help="of the pictures")
    parser.add_argument("--seconds", type=float, default=30, help="for the network, with each number of threads")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1], help="for the network")
    parser.add_argument("--settings", action="store_true", help="measure workers with other settings too")
    parser.add_argument("--beside", type=Path, help="another checkout, whose worker is measured in turns with this one")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--copies", type=int, default=4, help="of each picture, for the worker")
    chosen: argparse.Namespace = parser.parse_args()
    if chosen.part == "pictures":
        make_pictures(chosen.folder)
        return
    report = begin()
    if chosen.part == "network":
        report |= measure_network(chosen.folder, chosen.seconds, chosen.threads)
    elif chosen.part == "results":
        report |= measure_results(chosen.folder)
        print(report)
    else:
        report |= measure_workers(
            chosen.folder, ways(chosen.beside, with_others=chosen.settings), chosen.rounds, chosen.copies
        )
    write(chosen, f"lite-{chosen.part}", report)


if __name__ == "__main__":
    main()
