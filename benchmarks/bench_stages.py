"""What each stage costs beside the model: real services, and a model that knows its answers at once.

    python -m benchmarks.bench_stages --quick

Every figure stands beside a baseline of the same run that does the bare minimum; rates depend on the machine, ratios
much less.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks.report import begin, options, write
from benchmarks.stage_ledger import Ledger
from ram_core.transforms import SquashTransform
from ramq.embedded import embedded
from storage.objects.folder import FolderStore
from storage.objects.s3 import S3Store
from tests.services.postgres import PostgresServer
from tests.services.s3 import s3_server
from workers.pipeline.decode import decode
from workers.pipeline.decoders import Decoders

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from tests.services.s3 import S3Server

MEGAPIXELS = {"12": (4000, 3000), "2": (1632, 1224), "0.3": (640, 480)}
_MAX_BYTES = 1 << 30
_MAX_PIXELS = 1 << 28


def jpeg(width: int, height: int, seed: int = 0) -> bytes:
    """Draw a picture with coarse shapes and fine noise, so that it is as hard to decode as a photograph."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (height // 80, width // 80, 3), np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    pixels += random.integers(-12, 13, pixels.shape, np.int16)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def in_turns(ours: Callable[[], object], baseline: Callable[[], object], rounds: int, units: int) -> dict[str, float]:
    """Time two calls in turns; return the median units per second of each, and the first over the second."""
    seconds: dict[str, list[float]] = {"ours": [], "baseline": []}
    for _ in range(rounds):
        for name, call in (("ours", ours), ("baseline", baseline)):
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    rates = {name: units / statistics.median(taken) for name, taken in seconds.items()}
    return {
        "ours_per_second": round(rates["ours"], 2),
        "baseline_per_second": round(rates["baseline"], 2),
        "ratio": round(rates["ours"] / rates["baseline"], 3),
    }


def measure_decode(rounds: int) -> dict[str, Any]:
    """Decode and resize, against Pillow decoding every pixel."""
    preprocessing = SquashTransform(384)
    found = {}
    for name, (width, height) in MEGAPIXELS.items():
        body = jpeg(width, height)

        def plain(body: bytes = body) -> None:
            with Image.open(io.BytesIO(body)) as image:
                preprocessing(image)

        def ours(body: bytes = body) -> None:
            decode(body, preprocessing, _MAX_PIXELS)

        found[f"decode {name} Mpx (baseline: Pillow, full size)"] = in_turns(ours, plain, rounds, 1)
    return found


def measure_children(rounds: int) -> dict[str, Any]:
    """Decode in child processes, against threads of this one; two pictures at a time."""
    preprocessing, decoders, count = SquashTransform(384), Decoders(2, _MAX_PIXELS), 24
    found = {}
    with ThreadPoolExecutor(2) as pool:
        for name, (width, height) in MEGAPIXELS.items():
            bodies = [jpeg(width, height)] * count
            found[f"decode {name} Mpx in 2 children (baseline: 2 threads)"] = in_turns(
                lambda bodies=bodies: list(pool.map(lambda body: decoders.decode(body, preprocessing), bodies)),
                lambda bodies=bodies: list(pool.map(lambda body: decode(body, preprocessing, _MAX_PIXELS), bodies)),
                rounds,
                count,
            )
    decoders.close()
    return found


def measure_fetch(server: S3Server, folder: Path, rounds: int, count: int) -> dict[str, Any]:
    """Fetch from a bucket, against boto3, and from a folder, against reading the files."""
    objects = {f"{number:05}.jpg": jpeg(640, 480, number) for number in range(count)}
    for key, body in objects.items():
        (folder / key).write_bytes(body)
    bucket = server.make_bucket()
    server.put(bucket, objects)
    store, client, files = S3Store(bucket, server.endpoint_url), server.client(), FolderStore(folder)
    versions = {info.key: info.version for page in store.pages("", None) for info in page}
    file_versions = {info.key: info.version for page in files.pages("", None) for info in page}
    found = {}
    for threads in (1, 8):
        with ThreadPoolExecutor(threads) as pool:

            def each(call: Callable[[str], object], keys: Iterable[str] = versions, pool: Any = pool) -> None:
                for _ in pool.map(call, keys):
                    pass

            found[f"fetch S3, {threads} threads (baseline: boto3)"] = in_turns(
                lambda: each(lambda key: store.fetch(key, versions[key], _MAX_BYTES)),
                lambda: each(lambda key: client.get_object(Bucket=bucket, Key=key)["Body"].read()),
                rounds,
                count,
            )
            found[f"fetch folder, {threads} threads (baseline: read the file)"] = in_turns(
                lambda: each(lambda key: files.fetch(key, file_versions[key], _MAX_BYTES)),
                lambda: each(lambda key: (folder / key).read_bytes()),
                rounds,
                count,
            )
    client.close()
    return found


def run(chosen: argparse.Namespace) -> tuple[dict[str, Any], dict[str, float]]:
    """Measure every stage; return the rates, and the bytes that an image takes."""
    rounds, keys, count = (3, 4_096, 256) if chosen.quick else (7, 20_480, 1_024)
    found = measure_decode(3 * rounds) | measure_children(rounds)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in ("services", "s3", "pictures", "keys", "data"):
            (root / part).mkdir()
        with embedded(root / "services") as services, s3_server(root / "s3") as server:
            os.environ.update(server.environment)
            found |= measure_fetch(server, root / "pictures", rounds, count)
            ledger = Ledger(PostgresServer(services.database_url).create_migrated_database(), root / "data")
            found |= ledger.measure_plan(root / "keys", keys)
            found |= ledger.measure_write()
            found |= ledger.measure_publish()
            sizes = ledger.measure_bytes()
            found |= ledger.measure_end_to_end(root / "pictures", rounds)
            ledger.close()
    return found, sizes


def main() -> None:
    """Measure, print a table, write a file."""
    parser = options(__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and images")
    chosen = parser.parse_args()
    report = begin()
    stages, sizes = run(chosen)
    for name, figures in stages.items():
        print(f"{name:60} " + "  ".join(f"{key} {value}" for key, value in figures.items()))
    print("bytes per image", sizes)
    report |= {"quick": chosen.quick, "stages": stages, "bytes_per_image": sizes}
    write(chosen, "stages", report)


if __name__ == "__main__":
    main()
