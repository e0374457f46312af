"""Near copies: what a hash costs, how many variants of photographs are found, and how long it takes for millions.

    python -m benchmarks.bench_near --rows 1000000 --pairs 10000000

* ``hash``: milliseconds to decode a photograph of 12 megapixels as a JPEG for ``lite`` and RAM, and to hash it;
* ``photographs``: those of ``tests.photographs``, with 15 variants of each, all in one archive. ``of_variants``: which
  share is in the group of its photograph, by the most bits and the least cosine. ``joined``: photographs that share
  a group though they are different files;
* ``pairs``: seconds and memory of ``near_pairs`` for random hashes, a tenth of them copies with up to 8 other bits.
  ``cpu_seconds`` is the processor time of it, which neighbours lengthen less;
* ``search``: the whole search in a database of made-up images, a tenth of them copies, all with the same vector: then
  the time of a page of groups, of the state, and of how many near copies each of 60 hits has.
"""

from __future__ import annotations

import io
import resource
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from sqlalchemy import text

from benchmarks.report import begin, options, write
from benchmarks.search_data import prepare
from ram_core import load_model
from ram_core.picture_hashes import pixels_of, shape_of
from ram_core.pictures import decode_for_all
from ram_core.transforms import SquashTransform
from ramq.embedded import embedded
from storage import migrate
from storage.database import driver_connection, make_engine, unit_of_work
from storage.index.hash_pairs import near_pairs
from storage.index.near_groups import stars
from storage.index.near_search import search_once
from storage.results import near_copies, near_views
from storage.results.nearness import MOST_DISTANCE, Thresholds
from tests.photographs import photographs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from sqlalchemy import Engine

    from ram_core.recognition import Recognizer

_BATCH = 32
_SEED = 20_261_129
_COSINES = (0.65, 0.75, 0.85, 0.95)
_DISTANCES = (2, 4, 6, 8)
_ROUNDS = 15
_FLAT = np.full(512, 512**-0.5, dtype="<f2").tobytes().hex()


def again(image: Image.Image, quality: int) -> Image.Image:
    """A JPEG of this quality."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def smaller(image: Image.Image, times: int) -> Image.Image:
    """A smaller picture."""
    return image.resize((max(1, image.width // times), max(1, image.height // times)), Image.Resampling.LANCZOS)


def cropped(image: Image.Image, share: float) -> Image.Image:
    """Without this share of the width and of the height, half of it on each side."""
    across, down = image.width * share / 2, image.height * share / 2
    return image.crop((round(across), round(down), round(image.width - across), round(image.height - down)))


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half": lambda image: smaller(image, 2),
    "quarter": lambda image: smaller(image, 4),
    "quality 75": lambda image: again(image, 75),
    "quality 30": lambda image: again(image, 30),
    "half, quality 50": lambda image: again(smaller(image, 2), 50),
    "brighter by 15 %": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "contrast 20 % more": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "colour 40 % more": lambda image: ImageEnhance.Color(image).enhance(1.4),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "gamma 0.8": lambda image: image.point(lambda level: 255 * (level / 255) ** 0.8),
    "automatic contrast": lambda image: ImageOps.autocontrast(image, cutoff=1),
    "cropped by 2 %": lambda image: cropped(image, 0.02),
    "cropped by 5 %": lambda image: cropped(image, 0.05),
    "cropped by 10 %": lambda image: cropped(image, 0.1),
    "one side cut by 5 %": lambda image: image.crop((0, 0, round(image.width * 0.95), image.height)),
}


def milliseconds(call: Callable[[], object], rounds: int = _ROUNDS) -> float:
    """Return the median time of a call."""
    taken = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - begun))
    return round(statistics.median(taken[1:]), 3)


def hashes_of(pixels: NDArray[np.uint8]) -> tuple[int, int]:
    """Hash prepared pixels as workers do."""
    return shape_of(pixels), pixels_of(pixels, 4000, 3000)


def hashing() -> dict[str, Any]:
    """Time the hashes of a picture as a model gets it, beside decoding it."""
    with Image.open(photographs(1)[0]) as opened:
        large = opened.convert("RGB").resize((4000, 3000), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    large.save(stream, "JPEG", quality=88)
    body = stream.getvalue()
    report = {}
    for name, side in (("lite", 260), ("ram", 384)):
        transform = SquashTransform(side)
        pixels = decode_for_all(body, [transform])[0].pixels
        decoding = milliseconds(partial(decode_for_all, body, [transform]))
        hashed = milliseconds(partial(hashes_of, pixels))
        report[name] = {"decode": decoding, "hash": hashed, "share": round(hashed / decoding, 4)}
    return report


def seen(model: Recognizer, images: list[Image.Image]) -> tuple[NDArray[np.uint64], NDArray[np.float16]]:
    """Return the hashes (N,) and the unit vectors (N, D) of images."""
    hashes: list[int] = []
    vectors: list[NDArray[np.float32]] = []
    for start in range(0, len(images), _BATCH):
        pixels = np.stack([model.preprocessing(image) for image in images[start : start + _BATCH]])
        hashes += map(shape_of, pixels)
        vectors += [prediction.vector for prediction in model.predict(pixels)]
    every = np.stack(vectors).astype(np.float32)
    every /= np.linalg.norm(every, axis=1, keepdims=True)
    return np.array(hashes, dtype=np.int64).view(np.uint64), every.astype(np.float16)


def on_photographs(most: int) -> dict[str, Any]:
    """Group photographs and their variants with each threshold, and count what is found."""
    model = load_model("lite")
    every = photographs(100)
    paths = every[:: max(1, len(every) // most)][:most]
    originals = []
    for path in paths:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        image.thumbnail((1024, 1024), Image.Resampling.LANCZOS)
        originals.append(image)
    parts = [seen(model, originals)]
    parts += [seen(model, [change(image) for image in originals]) for change in VARIANTS.values()]
    hashes, vectors = (np.concatenate([part[n] for part in parts]) for n in (0, 1))
    source = np.tile(np.arange(len(paths)), len(parts))
    ids = np.arange(len(hashes), dtype=np.int64)
    report: dict[str, Any] = {"photographs": len(paths), "variants_each": len(VARIANTS), "found": {}}
    for distance in _DISTANCES:
        for cosine in _COSINES:
            values = np.unique(hashes)
            found = stars(ids, hashes, ids, vectors, (values, near_pairs(values, distance)), cosine)
            group = ids.copy()
            group[found.ids] = found.groups
            # A group may be around a variant: that of a photograph is the one its original is in.
            is_found = group == group[source]
            shares = is_found.reshape(len(parts), -1)[1:].mean(axis=1)
            alone = np.unique(group, return_counts=True)[1]
            wrong = [
                sorted({paths[n].name for n in source[group == number]})
                for number in np.unique(group)
                if len(np.unique(source[group == number])) > 1
            ]
            report["found"][f"{distance} bits, cosine {cosine}"] = {
                "recall": round(float(is_found[len(paths) :].mean()), 4),
                "of_variants": dict(zip(VARIANTS, np.round(shares, 3).tolist(), strict=True)),
                "precision_of_pairs": precision(group, source),
                "largest_group": int(alone.max()),
                "joined": wrong,
            }
    return report


def precision(group: NDArray[np.int64], source: NDArray[np.int64]) -> float:
    """Return the share of pairs within a group that are of one photograph."""

    def pairs(labels: NDArray[np.int64]) -> int:
        counts = np.unique(labels, return_counts=True)[1]
        return int((counts * (counts - 1) // 2).sum())

    return round(pairs(group * (int(source.max()) + 1) + source) / max(1, pairs(group)), 5)


def made_up(rows: int) -> NDArray[np.uint64]:
    """Return random hashes, of which every tenth is one before it with up to 8 bits changed."""
    rng = np.random.default_rng(_SEED)
    hashes = rng.integers(0, 2**64, rows, dtype=np.uint64)
    copies = np.arange(9, rows, 10)
    changed = hashes[copies - 1]
    for _ in range(MOST_DISTANCE):
        changed ^= np.where(
            rng.random(len(copies)) < 0.5,
            np.uint64(1) << rng.integers(0, 64, len(copies), dtype=np.uint64),
            np.uint64(0),
        )
    hashes[copies] = changed
    return hashes


def pairing(rows: int) -> dict[str, Any]:
    """Time the search for pairs of hashes."""
    hashes = made_up(rows)
    copies = np.arange(9, rows, 10)
    differing = np.bitwise_count(hashes[copies] ^ hashes[copies - 1])
    values = np.unique(hashes)
    begun, used = time.perf_counter(), time.process_time()
    found = near_pairs(values, MOST_DISTANCE)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - used
    known = set(zip(values[found.left].tolist(), values[found.right].tolist(), strict=True))
    pairs = zip(hashes[copies].tolist(), hashes[copies - 1].tolist(), strict=True)
    hit = np.array([one == other or (min(one, other), max(one, other)) in known for one, other in pairs])
    return {
        "hashes": len(values),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "pairs": len(found.left),
        "given_up": int(found.is_common.sum()),
        "found_by_bits": {
            bits: round(float(hit[differing == bits].mean()), 4) for bits in np.unique(differing).tolist()
        },
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


_FILL = (
    """INSERT INTO image (archive_id, key, version, size)
       SELECT (SELECT min(id) FROM archive), lpad(n::text, 12, '0'), 'v' || n, 1000 + mod(n, 1000)
       FROM generate_series(1, {rows}) AS n""",
    """INSERT INTO record (image_id, generation_id, job_id, version, tags, scores, caption, captioner, width, height)
       SELECT id, {generation_id}, 1, version, '{{1,2,3,4,5,6,7,8}}', '{{1,2,3,4,5,6,7,8}}', NULL, 'none', 640, 480
       FROM image""",
    """INSERT INTO vector (image_id, generation_id, v)
       SELECT id, {generation_id}, decode('{flat}', 'hex') FROM image""",
    """INSERT INTO content (image_id, version, hash, shape, pixels)
       SELECT id, version, substring(sha256(convert_to(id::text, 'UTF8')) FOR 16),
           hashint8extended(CASE WHEN mod(id, 10) = 0 THEN id - 1 ELSE id END, 0)
               # CASE WHEN mod(id, 10) = 0 THEN (1::bigint << mod(id, 61)::int) | (1::bigint << mod(id, 37)::int)
                 ELSE 0 END, id
       FROM image""",
    "VACUUM ANALYZE",
)


def whole_search(engine: Engine, rows: int) -> dict[str, Any]:
    """Fill a database, search it, and time what people see."""
    generation_id = prepare(engine).generation_id
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in _FILL:
            connection.exec_driver_sql(statement.format(rows=rows, generation_id=generation_id, flat=_FLAT))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, used = time.perf_counter(), time.process_time()
    state = search_once(engine, Thresholds(MOST_DISTANCE, 0.75))
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - used
    assert state is not None
    counting = f"SELECT id, {near_copies.COUNT_OF.format(image_id='id')} FROM unnest(%(ids)s::bigint[]) AS wanted (id)"

    def page() -> None:
        with unit_of_work(engine) as session:
            assert near_views.groups(
                session, generation_id=generation_id, archive_id=None, distance=8, after=None, limit=12
            )

    def count() -> None:
        with unit_of_work(engine) as session:
            driver_connection(session).execute(counting, {"ids": list(range(1, 61))}).fetchall()

    def say() -> None:
        with unit_of_work(engine) as session:
            near_copies.state(session)

    def every() -> None:
        with unit_of_work(engine) as session:
            near_copies.every(session)

    with unit_of_work(engine) as session:
        size = session.scalar(text("SELECT pg_total_relation_size('near_copy')"))
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "grouped": state.grouped,
        "grown_megabytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024,
        "bytes_each_grouped": round(int(size or 0) / max(1, state.grouped), 1),
        "page": milliseconds(page, 5),
        "counts_of_60_hits": milliseconds(count),
        "state": milliseconds(say),
        "every": milliseconds(every, 5),
    }


def main() -> None:
    """Measure; write a file."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="images in the database; 0: no database")
    parser.add_argument("--pairs", type=int, nargs="*", default=[1_000_000], help="numbers of hashes")
    parser.add_argument("--photographs", type=int, default=300, help="how many photographs at most")
    chosen = parser.parse_args()
    report: dict[str, Any] = {**begin(rows=chosen.rows), "hash": hashing()}
    report["pairs"] = [pairing(count) for count in chosen.pairs]
    if chosen.rows:
        with tempfile.TemporaryDirectory() as folder, embedded(Path(folder) / "services") as services:
            engine = make_engine(services.database_url)
            migrate.upgrade(engine)
            report["search"] = whole_search(engine, chosen.rows)
            engine.dispose()
    if chosen.photographs:
        report["photographs"] = on_photographs(chosen.photographs)
    print(report)
    write(chosen, "near", report)


if __name__ == "__main__":
    main()
