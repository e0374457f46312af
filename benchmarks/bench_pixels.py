"""Are the pixels right, and what does it cost? Every picture at hand, ours against libvips; and plain JPEGs, timed.

    python -m benchmarks.bench_pixels                         # pictures that it writes, photographs, installed packages
    python -m benchmarks.bench_pixels --folder FOLDER …       # these too
    python -m benchmarks.bench_pixels --cost                  # milliseconds a picture needs in our way and in Pillow's

A picture is right if it differs by no more than ``tests/second_decoder.py`` says. Those that we do not read are counted
by reason, and so are those that libvips does not read. The names of all that differ are written down.
"""

from __future__ import annotations

import io
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import PIL
from PIL import Image

from benchmarks.report import begin, options, write
from ram_core.errors import UnreadableImageError
from ram_core.pictures import DRAFT_FACTOR, FORMATS, MAX_PIXELS, decode_for_all
from ram_core.transforms import SquashTransform
from tests import profiles, second_decoder
from tests.photographs import UNPACKED, photographs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

SIZE = 384
ROUNDS = 40


def sources(folders: list[Path]) -> Iterator[tuple[str, str, bytes]]:
    """Yield where a picture is from, its name, and its bytes."""
    for name, body in second_decoder.written().items():
        yield "written here", name, body
    found = [("photographs", UNPACKED), ("installed packages", Path(sys.prefix) / "lib")]
    for kind, folder in (*found, *((folder.name, folder) for folder in folders)):
        for path in second_decoder.pictures_in(folder):
            yield kind, str(path.relative_to(folder)), path.read_bytes()


def compare_all(folders: list[Path]) -> dict[str, Any]:
    """Return how many pictures of each source are right, and what is said of the others."""
    found: dict[str, Counter[str]] = {}
    worst: dict[str, second_decoder.Difference] = {}
    differ, refused = [], []
    for kind, name, body in sources(folders):
        counts = found.setdefault(kind, Counter())
        try:
            apart = second_decoder.compare(body)
        except UnreadableImageError as error:
            counts[error.reason] += 1
            refused.append(f"{kind}: {name}: {error}")
            continue
        except AssertionError as error:
            counts["another size"] += 1
            differ.append(f"{kind}: {name}: {error}")
            continue
        if apart is None:
            counts["libvips does not read it"] += 1
            continue
        counts["right" if apart.is_bounded else "differs"] += 1
        if not apart.is_bounded:
            differ.append(f"{kind}: {name}: {apart}")
        elif kind not in worst or apart.mean > worst[kind].mean:
            worst[kind] = apart
    return {
        "bound": {
            "mean": second_decoder.MOST_MEAN,
            "share_of_samples": second_decoder.MOST_SHARE,
            "that_differ_by_more_than": second_decoder.FAR,
        },
        "pictures": {kind: dict(counts) for kind, counts in found.items()},
        "worst_of_the_right_ones": {kind: str(apart) for kind, apart in worst.items()},
        "differ": differ,
        "not_read": refused,
    }


def measure_cost() -> dict[str, Any]:
    """Return milliseconds of processor time, ours and the same decoding without a look at what a file is."""
    found = {}
    photograph = max(photographs(), key=lambda path: path.stat().st_size)
    with Image.open(photograph) as opened:
        picture = opened.convert("RGB")
    for name, size in {"0.3 megapixels": (640, 480), "12 megapixels": (4000, 3000)}.items():
        buffer = io.BytesIO()
        picture.resize(size).save(buffer, "JPEG", quality=88)
        bodies = {"JPEG": buffer.getvalue()}
        buffer = io.BytesIO()
        picture.resize(size).save(buffer, "JPEG", quality=88, icc_profile=profiles.srgb())
        bodies["JPEG with sRGB"] = buffer.getvalue()
        buffer = io.BytesIO()
        picture.resize(size).save(buffer, "JPEG", quality=88, icc_profile=profiles.exchanged())
        bodies["JPEG with another profile"] = buffer.getvalue()
        for kind, body in bodies.items():
            seconds: dict[str, list[float]] = {"ours": [], "plain": []}
            for _ in range(ROUNDS):
                for way, call in (("ours", _ours), ("plain", _plain)):
                    began = time.process_time()
                    call(body)
                    seconds[way].append(time.process_time() - began)
            found[f"{kind}, {name}"] = {way: round(median(each) * 1000, 3) for way, each in seconds.items()}
            print(kind, name, found[f"{kind}, {name}"], flush=True)
    return found


def _ours(body: bytes) -> None:
    decode_for_all(body, [SquashTransform(SIZE)], MAX_PIXELS)


def _plain(body: bytes) -> None:
    image = Image.open(io.BytesIO(body), formats=FORMATS)
    scale = SIZE * DRAFT_FACTOR / min(image.size)
    if scale <= 1:
        image.draft(None, (round(image.width * scale), round(image.height * scale)))
    image.load()
    image.getexif().get(0x0112, 1)
    SquashTransform(SIZE)(image)


def run(chosen: argparse.Namespace) -> None:
    """Compare, or measure the cost."""
    if chosen.cost:
        write(chosen, "pixels-cost", begin(pillow=PIL.__version__) | {"processor_ms": measure_cost()})
        return
    report = begin(pillow=PIL.__version__) | compare_all(chosen.folder)
    print(report["pictures"], *report["differ"], sep="\n")
    write(chosen, "pixels", report)


def main() -> None:
    """Read the options."""
    parser = options(__doc__)
    parser.add_argument("--folder", type=Path, action="append", default=[], help="compare the pictures below it too")
    parser.add_argument("--cost", action="store_true", help="time plain JPEGs instead")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
