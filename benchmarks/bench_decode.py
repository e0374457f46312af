"""From the bytes of a picture to a small square of pixels, by format and size, in ours and other ways.

    python -m benchmarks.bench_decode --draw FOLDER               # once: files of 2, 12 and 48 megapixels
    python -m benchmarks.bench_decode --pictures FOLDER
    python -m benchmarks.bench_decode --tags                      # what other pixels do to tags, on real photographs

The files are the largest real photograph at hand, enlarged, with the noise of a camera. Rates are pictures per second
of processor time on one core; all ways take turns. Differences are those to decoding every pixel with Pillow, of 255.
OpenCV, simplejpeg, imagecodecs, pyvips and pillow-heif are compared with where they are installed.
"""

from __future__ import annotations

import io
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from benchmarks import decode_transport
from benchmarks.decode_ways import MAX_PIXELS, full, ours, rougher, ways
from benchmarks.memory import extra_bytes
from benchmarks.report import begin, options, save
from ram_core.recognition import assigned_tags
from ram_core.registry import load_model
from ram_core.transforms import SquashTransform
from tests.photographs import photographs
from workers.pipeline.decode import decode, guard_pillow
from workers.pipeline.decoders import Decoders

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from numpy.typing import NDArray

MEGAPIXELS = {"2": (1632, 1224), "12": (4000, 3000), "48": (8000, 6000)}
ROUNDS = {"2": 7, "12": 2, "48": 1}
SIZES = (384, 260)
CHILDREN = ("jpeg420-2", "jpeg420-12", "tiffraw-12")
TRANSPORTED = {"0.1 MB": 100_000, "1.3 MB": 1_300_000, "36 MB": 36_000_000}
NOISE = 4


def draw(folder: Path) -> None:
    """Write the pictures that are decoded, each as "format-megapixels"."""
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(max(photographs(), key=_pixels)) as opened:
        photograph = opened.convert("RGB")
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, size in MEGAPIXELS.items():
        pixels = np.asarray(photograph.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        pixels += np.random.default_rng(0).integers(-NOISE, NOISE + 1, pixels.shape, np.int16)
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

        def write(kind: str, file_format: str, picture: Image.Image = picture, name: str = name, **how: Any) -> None:
            picture.save(folder / f"{kind}-{name}", file_format, **how)

        write("jpeg420", "JPEG", quality=88)
        write("jpeg444", "JPEG", quality=88, subsampling=0)
        write("jpegprog", "JPEG", quality=88, progressive=True)
        write("jpegturned", "JPEG", quality=88, exif=turned)
        write("jpeggrey", "JPEG", picture.convert("L"), quality=88)
        write("jpegcmyk", "JPEG", picture.convert("CMYK"), quality=88)
        write("png", "PNG", compress_level=3)
        write("webp", "WEBP", quality=85, method=2)
        write("tiff", "TIFF", compression="tiff_lzw")
        write("tiffraw", "TIFF")
        if ways("heic"):  # which also teaches Pillow to write them
            write("heic", "HEIF", quality=80)


def _pixels(path: Path) -> int:
    with Image.open(path) as image:
        return image.width * image.height


def measure_formats(folder: Path, megapixels: list[str]) -> list[dict[str, Any]]:
    """Return one row for each file, size and way."""
    rows = []
    for name in megapixels:
        for path in sorted(folder.glob(f"*-{name}"), key=lambda path: path.name):
            for size in SIZES if path.name.startswith("jpeg420") else SIZES[:1]:
                rows += [
                    {"file": path.name, "bytes": path.stat().st_size, "size": size, **row}
                    for row in _file(path, size, ROUNDS[name])
                ]
    return rows


def _file(path: Path, size: int, rounds: int) -> list[dict[str, Any]]:
    body, found = path.read_bytes(), ways(path.name.partition("-")[0])
    try:
        wanted = full(body, size).astype(np.int16) if found else None
    except Exception as error:  # noqa: BLE001  (HEIC of 48 megapixels exceeds a limit of its library)
        print(f"{path.name}: {error}")
        return []
    peak, taken, differences = {}, {}, {}
    for name, way in list(found.items()):
        kept: list[NDArray[np.uint8]] = []
        try:
            peak[name] = extra_bytes(lambda way=way, kept=kept: kept.append(way(body, size)), torch.device("cpu"))
        except Exception as error:  # noqa: BLE001  (a library that cannot read this file; said in the result)
            print(f"{path.name}: {name}: {error}")
            del found[name]
            continue
        differences[name] = np.abs(kept[0].astype(np.int16) - wanted)
        taken[name] = []
    for _ in range(rounds):
        for name, way in found.items():
            began = time.process_time()
            way(body, size)
            taken[name].append(time.process_time() - began)
    rows = []
    for name in found:
        row = {
            "way": name,
            "per_second": round(1 / min(taken[name]), 2),
            "peak_mb": round(peak[name] / 1e6, 1),
            "mean_difference": round(float(differences[name].mean()), 3),
            "largest_difference": int(differences[name].max()),
        }
        print(f"{path.name:14} {size} {row}", flush=True)
        rows.append(row)
    return rows


def measure_children(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Decode in one child and in this process, in turns, and in two children and two threads."""
    preprocessing, pool = SquashTransform(384), Decoders(2, MAX_PIXELS)
    found = {}
    with ThreadPoolExecutor(2) as threads:
        for name in CHILDREN:
            body = (folder / name).read_bytes()
            here: Callable[[int], object] = lambda _, body=body: decode(body, preprocessing, MAX_PIXELS)  # noqa: E731
            child: Callable[[int], object] = lambda _, body=body: pool.decode(body, preprocessing)  # noqa: E731
            calls: dict[str, Callable[[], object]] = {
                "here": lambda here=here: here(0),
                "in a child": lambda child=child: child(0),
                "two threads": lambda here=here: list(threads.map(here, range(8))),
                "two children": lambda child=child: list(threads.map(child, range(8))),
            }
            seconds: dict[str, list[float]] = {each: [] for each in calls}
            for _ in range(rounds):
                for each, call in calls.items():
                    began = time.perf_counter()
                    call()
                    seconds[each].append(time.perf_counter() - began)
            found[name] = {
                each: round(statistics.median(taken[1:]) * 1000 / (8 if "two" in each else 1), 2)
                for each, taken in seconds.items()
            }
            print(name, "ms per picture:", found[name], flush=True)
    pool.close()
    return found


def measure_tags() -> dict[str, Any]:
    """Return, by way, how far pixels are from a full decode, and on how many photographs tags of ``lite`` change."""
    model = load_model("lite")
    size = model.preprocessing.size
    bodies = []
    for path in photographs():
        with Image.open(path) as image:
            if min(image.size) >= 2 * size:  # smaller ones are decoded in full by nearly every way
                buffer = io.BytesIO()
                image.convert("RGB").save(buffer, "JPEG", quality=92)
                bodies.append(buffer.getvalue())
    kept = {"ours": ours, "at 1.5 times": rougher(1.5), "at 1 times": rougher(1)}
    wanted = [full(body, size) for body in bodies]
    told = [_tags(model, pixels) for pixels in wanted]
    found = {}
    for name, way in kept.items():
        pixels = [way(body, size) for body in bodies]
        tags = [_tags(model, each) for each in pixels]
        differences = [np.abs(a.astype(int) - b) for a, b in zip(pixels, wanted, strict=True)]
        found[name] = {
            "mean_difference": round(float(np.mean([each.mean() for each in differences])), 3),
            "largest_difference": int(max(each.max() for each in differences)),
            "photographs_with_other_tags": sum(a != b for a, b in zip(tags, told, strict=True)),
            "tags_that_changed": sum(len(a ^ b) for a, b in zip(tags, told, strict=True)),
        }
        print(name, found[name], flush=True)
    return {"photographs": len(bodies), "tags": sum(map(len, told)), "ways": found}


def _tags(model: Any, pixels: NDArray[np.uint8]) -> set[int]:
    [prediction] = model.predict(pixels[None])
    return {tag.id for tag in assigned_tags(prediction, model.vocabulary)}


def run(chosen: argparse.Namespace) -> None:
    """Measure what was asked for and write it."""
    if chosen.tags:
        print(save(chosen, "decode-tags", begin() | measure_tags()))
    if chosen.pictures:
        report = begin()
        report["children_ms"] = measure_children(chosen.pictures, 9)
        report["transport_ms"] = decode_transport.measure(TRANSPORTED, 9)
        print(report["transport_ms"])
        report["formats"] = measure_formats(chosen.pictures, chosen.megapixels)
        print(save(chosen, "decode", report))


def main() -> None:
    """Draw pictures, or measure."""
    parser = options(__doc__)
    parser.add_argument("--draw", type=Path, help="write the pictures into this folder")
    parser.add_argument("--pictures", type=Path, help="measure with the pictures in this folder")
    parser.add_argument("--megapixels", nargs="+", choices=MEGAPIXELS, default=list(MEGAPIXELS))
    parser.add_argument("--tags", action="store_true", help="count the tags that change on real photographs")
    chosen = parser.parse_args()
    guard_pillow(MAX_PIXELS)
    if chosen.draw:
        draw(chosen.draw)
    run(chosen)


if __name__ == "__main__":
    main()
