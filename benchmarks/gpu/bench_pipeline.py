"""The whole pipeline on a device, from files to the database, beside the speed of its model alone.

A network with made-up weights, of the published size. Its model is measured three ways in this process: the network
alone on pixels that are on the device already, batches one by one from pixels of the host, and batches of which the
next one is given before the results of the last one are read, as workers do. Then one `ramq worker` recognises a
folder of pictures, with PostgreSQL and Redis on the same machine. The file is written after each of them.

Needs what a worker needs: on a machine without, `gpu/pack.sh` packs it.

    python -m benchmarks.gpu.bench_pipeline --device cuda
    python -m benchmarks.gpu.bench_pipeline --device cpu --tiny --images 60
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from benchmarks.bench_throughput import run_job, settings_of, warm_up
from benchmarks.copies import another
from benchmarks.report import begin, options, save
from ram_core import load_model
from ram_core.modeling.published import CHECKPOINTS
from ram_core.modeling.tiny import write_tiny_models
from ram_core.transforms import normalise
from storage.migrate import upgrade
from tests.services.breakable import breakable_services
from tests.services.fleet import check_counters, client_services, running_fleet

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ram_core.recognition import Pending
    from tests.services.breakable import BreakableServices

RAM_TAGS = 4585
DISTINCT = 64
SIDES = (1152, 864)
SHARE_STORED = 0.015
"""Of the tags, as of a photograph: some 70 have a score that is stored."""
FLOOR_LOGIT = -0.85


def picture(number: int, sides: tuple[int, int]) -> bytes:
    """Return a JPEG of coloured shapes with the grain of a sensor."""
    random = np.random.default_rng(number)
    coarse = Image.fromarray(random.integers(0, 255, (18, 24, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize(sides, Image.Resampling.BICUBIC), dtype=np.int16)
    grain = random.integers(-6, 7, pixels.shape, dtype=np.int16)
    body = BytesIO()
    Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(body, "JPEG", quality=88)
    return body.getvalue()


def fill(folder: Path, bodies: list[bytes], count: int, first: int = 0) -> None:
    """Fill a folder with that many copies of these pictures, no two with equal bytes."""
    folder.mkdir()
    for number in range(first, first + count):
        (folder / f"{number:06}.jpg").write_bytes(another(bodies[number % len(bodies)], number))


def ways(chosen: argparse.Namespace) -> list[tuple[int, dict[str, str]]]:
    """Return batch sizes and settings of workers, most valuable first."""
    recorded, compiled = {"RAMQ_RECORDED": "true"}, {"RAMQ_COMPILED": "true"}
    same = [(chosen.batch, {}), (chosen.batch, recorded)]
    return same if chosen.tiny else [*same, (4 * chosen.batch, recorded), (4 * chosen.batch, recorded | compiled)]


def make_model(models: Path, chosen: argparse.Namespace, pixels: NDArray[np.uint8], dtype: torch.dtype) -> Any:
    """Write a checkpoint whose tags are about as many as those of a photograph. Return the loaded model."""
    tags = None if chosen.tiny else RAM_TAGS
    path = write_tiny_models(chosen.model, models, tags=tags, full=not chosen.tiny)
    model: Any = load_model(chosen.model, models_dir=models, device=chosen.device, dtype=dtype)
    logits = model.tag_logits(normalise(torch.from_numpy(pixels), model.preprocessing.mean, model.preprocessing.std))
    shift = FLOOR_LOGIT - float(logits.float().flatten().kthvalue(int((1 - SHARE_STORED) * logits.numel())).values)
    stored = torch.load(path, weights_only=True, mmap=True)
    stored["model"]["fc.bias"] = stored["model"]["fc.bias"] + shift
    changed = path.with_suffix(".new")
    torch.save(stored, changed)
    changed.rename(path)
    model.runner.network.fc.bias += shift
    return model


def rate(device: torch.device, images: int, work: Callable[[], object], seconds: float) -> float:
    """Return images per second of work that is repeated for about that long, after one call to warm up."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        done += images
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return done / (time.perf_counter() - began)


def model_alone(model: Any, pixels: NDArray[np.uint8], seconds: float) -> dict[str, Any]:
    """Measure the model without the pipeline."""
    device, batch = model.runner.device, len(pixels)
    ready = normalise(torch.from_numpy(pixels).to(device), model.preprocessing.mean, model.preprocessing.std)
    waiting: list[Pending] = [model.submit(pixels)]

    def ahead() -> None:
        waiting.append(model.submit(pixels))
        waiting.pop(0).result()

    return {
        "batch": batch,
        "network_images_per_second": round(rate(device, batch, lambda: model.runner(ready), seconds), 2),
        "one_by_one_images_per_second": round(rate(device, batch, lambda: model.predict(pixels), seconds), 2),
        "ahead_images_per_second": round(rate(device, batch, ahead, seconds), 2),
        "stored_tags_per_image": float(np.mean([len(each.tag_ids) for each in model.predict(pixels)])),
    }


def pipeline(
    running: BreakableServices, folder: Path, chosen: argparse.Namespace, batch: int, environment: dict[str, str]
) -> dict[str, Any]:
    """Measure a worker on the folder of pictures."""
    warm = folder / f"warm{batch}"
    settings = settings_of(running, folder, "_".join([f"batches_of_{batch}", *environment]).lower())
    settings = settings.model_copy(update={"model": chosen.model, "models_dir": folder / "models"})
    with (
        client_services(settings) as services,
        running_fleet(
            settings, settings.data_dir, is_null=False,
            RAMQ_DEVICE=chosen.device, RAMQ_MODELS_DIR=str(folder / "models"), RAMQ_BATCH_SIZE=str(batch),
            RAMQ_SHARD_SIZE=str(8 * batch), RAMQ_LEASE_SECONDS="30", RAMQ_STAGES="recognition",
            OMP_NUM_THREADS=str(os.cpu_count()), **environment,
        ) as fleet,
    ):  # fmt: skip
        upgrade(services.engine)
        began = time.monotonic()
        warm_up(services, fleet, 1, warm)
        ready = time.monotonic() - began
        view, seconds = run_job(services, fleet, folder / "all")
        check_counters(services, view.id)
        busy = {stage.stage: round(stage.seconds, 2) for stage in view.stages}
        if view.done < chosen.images or not busy["infer"]:
            failures = services.jobs.failures(view.id, limit=3).items
            sys.exit(f"the figures mean nothing: {view}\n{failures}\n{fleet.log()[-6000:]}")
    return {
        "batch": batch,
        "settings": environment,
        "images": view.done,
        "first_seconds": round(ready, 2),
        "images_per_second": round(view.done / seconds, 2),
        "seconds": round(seconds, 2),
        "busy_seconds": busy,
        "model_busy_images_per_second": round(view.done / busy["infer"], 2),
    }


def main() -> None:
    """Measure, write."""
    parser = options(__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", choices=("ram", "ram_plus"), default="ram_plus")
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement of the model alone")
    parser.add_argument("--tiny", action="store_true", help="try the script, not the model")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    on_gpu = device.type == "cuda"
    report = begin(
        torch=torch.__version__,
        device=torch.cuda.get_device_name(device) if on_gpu else "cpu",
        threads=torch.get_num_threads(),
    )
    report |= {"model": chosen.model, "weights": "made up, " + ("tiny" if chosen.tiny else "full size")}
    assert chosen.model in CHECKPOINTS
    with tempfile.TemporaryDirectory(prefix="ramq-pipeline-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user if this one is root
        sides = (288, 216) if chosen.tiny else SIDES
        bodies = [picture(number, sides) for number in range(min(DISTINCT, chosen.images))]
        report["picture_bytes"] = round(sum(map(len, bodies)) / len(bodies))
        drawn = [Image.open(BytesIO(bodies[n % len(bodies)])) for n in range(chosen.batch)]
        side = (384, 384)
        pixels = np.stack([np.asarray(each.resize(side, Image.Resampling.BILINEAR)) for each in drawn])
        dtype = torch.float16 if on_gpu else torch.float32
        model = make_model(folder / "models", chosen, pixels, dtype)
        report["model_alone"] = model_alone(model, pixels, chosen.seconds)
        print(report["model_alone"], flush=True)
        save(chosen, "pipeline", report)
        del model
        if on_gpu:
            torch.cuda.empty_cache()
        fill(folder / "all", bodies, chosen.images)
        alone = report["model_alone"]["network_images_per_second"]
        report["pipelines"] = []
        with breakable_services(folder / "services") as running:
            for batch, environment in ways(chosen):
                if not (folder / f"warm{batch}").exists():
                    fill(folder / f"warm{batch}", bodies, 2 * batch, first=chosen.images)
                found = pipeline(running, folder, chosen, batch, environment)
                found["over_network"] = round(found["images_per_second"] / alone, 3)
                report["pipelines"].append(found)
                print(found, flush=True)
                save(chosen, "pipeline", report)
    print(save(chosen, "pipeline", report))


if __name__ == "__main__":
    main()
