"""How well text in pictures is read, and how fast: on pictures that the benchmark draws, and on photographs.

    python -m benchmarks.bench_reading

Character error rates are edits per character (Levenshtein), spaces ignored. Everything has fixed seeds, so a second run
draws the same pictures. Rates with and without the first look, tiles and batches are from one process, one after the
other: compare them with each other.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from rapidocr.utils.process_img import get_rotate_crop_image

from benchmarks.report import begin, options, write
from ram_core.reading import load_reader, reader, recognition
from ram_core.reading.order import reading_order
from tests.lettering import edits, font, has, pixels, sentence, sheet, spoil
from tests.photographs import photographs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ram_core.reading import Reader, Reading

_PLAIN: dict[str, Any] = {"face": "sans", "size": 24}
# What differs from plain lines: black on white, upright, sharp, 24 pixels high.
CONDITIONS: dict[str, dict[str, Any]] = {
    **{f"size {size}": {"size": size} for size in (8, 10, 12, 16, 24, 40, 120)},
    **{f"face {face}": {"face": face} for face in ("serif", "italic", "narrow", "mono", "hand")},
    **{f"angle {angle}": {"angle": angle} for angle in (3, 8, 14, 20)},
    **{f"angle {angle}": {"angle": angle} for angle in (90, 180, 270)},
    **{f"contrast {128 - ink}": {"ink": ink, "paper": 128} for ink in (64, 96, 112)},
    "white on black": {"ink": 255, "paper": 0},
    **{f"blur {blur}": {"blur": blur} for blur in (1, 2, 3)},
    **{f"noise {noise}": {"noise": noise} for noise in (20, 50)},
    **{f"JPEG {quality}": {"quality": quality} for quality in (50, 20, 8)},
    "size 12, JPEG 30": {"size": 12, "quality": 30},
    "size 12, blur 1": {"size": 12, "blur": 1},
}
_LINES = 4
_SHEETS = 2
_PHOTOGRAPHS = 36
_LARGE = 6
_THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8)


def texts(reading: Reading) -> list[str]:
    """Return the lines that were read."""
    return [line.text for line in reading.lines]


def plain(text: str) -> str:
    """Return a text without spaces."""
    return "".join(text.split())


class Errors:
    """Adds up character errors, and words that are found as they were written."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()

    def add(self, said: Sequence[str], written: Sequence[str]) -> None:
        """Compare all lines of a picture, in their order."""
        words, found = " ".join(written).split(), Counter(" ".join(said).split())
        self.count["edits"] += edits(plain("".join(said)), plain("".join(written)))
        self.count["characters"] += len(plain("".join(written)))
        self.count["words"] += len(words)
        self.count["found"] += sum((Counter(words) & found).values())

    def report(self) -> dict[str, float]:
        """Return the rates."""
        return {
            "character_error_rate": round(self.count["edits"] / self.count["characters"], 4),
            "words_found": round(self.count["found"] / self.count["words"], 3),
        }


def drawn(kind: str, seed: int, condition: dict[str, Any]) -> tuple[Image.Image, list[str]]:
    """Return a picture of a few lines, and the lines."""
    rng = np.random.default_rng(seed)
    how = _PLAIN | {key: value for key, value in condition.items() if key not in {"blur", "noise", "quality"}}
    if kind == "chinese":
        how["face"] = "chinese"
    lines = [sentence(rng, kind, 28 if how["size"] < 100 else 12) for _ in range(_LINES)]
    spoiling = {key: value for key, value in condition.items() if key in {"blur", "noise", "quality"}}
    return spoil(sheet(lines, **how), **spoiling), lines


def conditions(model: Reader, kinds: Sequence[str]) -> dict[str, Any]:
    """Measure error rates by kind of text and condition."""
    result: dict[str, Any] = {}
    for name, condition in CONDITIONS.items():
        for kind in kinds:
            if kind == "chinese" and "face" in condition:
                continue
            errors = Errors()
            for seed in range(_SHEETS):
                picture, lines = drawn(kind, seed, condition)
                errors.add(texts(model.read([pixels(picture)])[0]), lines)
            result.setdefault(name, {})[kind] = errors.report()
    return result


def scales(model: Reader) -> dict[str, Any]:
    """Measure how far a picture can be reduced before the lines of a dense paragraph are no longer found."""
    result: dict[str, Any] = {}
    for size in (10, 14, 20, 28):
        rng = np.random.default_rng(size)
        lines = [sentence(rng, "latin", 60) for _ in range(10)]
        picture = pixels(sheet(lines, "serif", size, spacing=1.3))
        for scale in (0.35, 0.5, 0.75, 1.0, 1.5):
            boxes = model._detector._boxes(model._detector.marks(picture, scale), *picture.shape[1::-1]).boxes  # noqa: SLF001
            said = model._recognizer.recognise(picture, boxes[reading_order(boxes)])  # noqa: SLF001
            errors = Errors()
            errors.add([each.text for each in said if each.confidence >= reader.LEAST_CONFIDENCE], lines)
            result.setdefault(f"size {size}", {})[f"{scale:g}"] = errors.report()["character_error_rate"]
    return result


def vertical(model: Reader) -> dict[str, float]:
    """Measure text whose upright characters stand below each other."""
    errors = Errors()
    for seed in range(4):
        text = sentence(np.random.default_rng(seed), "chinese", 16)
        picture = Image.new("RGB", (200, 60 * len(text) + 60), "white")
        for i, character in enumerate(text):
            ImageDraw.Draw(picture).text((80, 30 + 60 * i), character, font=font("chinese", 48), fill="black")
        errors.add(texts(model.read([pixels(picture)])[0]), [text])
    return errors.report()


def direction(model: Reader) -> dict[str, Any]:
    """Count the lines that the direction model gets wrong, shown their starts and squeezed, and the reader's errors."""
    count, wrong = 0, Counter[str]()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        lines = [sentence(rng, ("latin", "digits")[seed % 2], (30, 70)[seed // 6]) for _ in range(6)]
        picture = pixels(sheet(lines, ("sans", "serif", "narrow", "mono")[seed % 4], 24))
        boxes = model._detector.find(picture).boxes  # noqa: SLF001
        upright = [get_rotate_crop_image(picture, box.copy()) for box in boxes]
        turned = [np.ascontiguousarray(crop[::-1, ::-1]) for crop in upright]
        for shape, shown in (("start", lambda crop: crop), ("squeezed", _squeezed)):
            marks = [model._recognizer._turned([shown(crop) for crop in crops]) for crops in (upright, turned)]  # noqa: SLF001
            wrong[f"upright_lines_marked, {shape}"] += int(marks[0].sum())
            wrong[f"turned_lines_not_marked, {shape}"] += int((~marks[1]).sum())
        # The first corner of a line that is read upside down is below the third.
        for name, sign, shown in (("upright", 1, picture), ("turned", -1, picture[::-1, ::-1])):
            read = model.read([np.ascontiguousarray(shown)])[0].lines
            wrong[f"{name}_lines_read_the_wrong_way"] += sum(
                sign * line.polygon[0][1] > sign * line.polygon[2][1] for line in read
            )
        count += len(boxes)
    return {"lines": count, **wrong}


def _squeezed(crop: Any) -> Any:
    """Return a line as wide as the direction model's input is, whatever it was before."""
    return np.asarray(Image.fromarray(crop).resize((min(crop.shape[1], 4 * crop.shape[0]), crop.shape[0])))


class Lettered(NamedTuple):
    """A photograph with words on it, their size, and where they are: left, top, right, bottom in pixels."""

    picture: Image.Image
    text: str
    size: int
    place: tuple[int, int, int, int]


def lettered(image: Image.Image, rng: np.random.Generator) -> Lettered | None:
    """Write a few words anywhere on a photograph, black or white, if they fit on it."""
    image, size = image.copy(), int(rng.choice([12, 16, 24, 36, 60]))
    text = sentence(rng, str(rng.choice(["latin", "digits"])), int(rng.integers(6, 24)))
    face = font(str(rng.choice(["sans", "serif", "narrow", "mono"])), size)
    width = int(face.getlength(text))
    if width + 8 > image.width:
        return None
    x, y = int(rng.integers(4, image.width - width - 3)), int(rng.integers(4, image.height - 2 * size))
    is_light = np.asarray(image.crop((x, y, x + width, y + 2 * size)).convert("L")).mean() > 128
    ImageDraw.Draw(image).text((x, y), text, font=face, fill="black" if is_light else "white")
    return Lettered(spoil(image, quality=85), text, size, (x, y, x + width, y + round(1.4 * size)))


def looks(model: Reader, written: Lettered) -> dict[float, float]:
    """Return the highest probability that the network gives to the words, by the height of an em in the small copy."""
    found = {}
    shown = pixels(written.picture)
    for side in (448, 640, 960):
        scale = side / max(shown.shape[:2])
        marks = model._detector.marks(shown, scale)  # noqa: SLF001
        across, down = marks.shape[1] / shown.shape[1], marks.shape[0] / shown.shape[0]
        left, top, right, bottom = written.place
        part = marks[int(top * down) : int(bottom * down) + 1, int(left * across) : int(right * across) + 1]
        found[written.size * scale] = float(part.max())
    return found


def seen(heights: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Return the share of texts that each threshold sees, by their height in the small copy."""
    result: dict[str, Any] = {}
    for least, most in ((0, 4), (4, 6), (6, 8), (8, 12), (12, 99)):
        values = [value for height, value in heights if least <= height < most]
        if values:
            shares = {f"{each:g}": round(float(np.mean(np.array(values) >= each)), 3) for each in (0.1, 0.2, 0.3, 0.5)}
            result[f"{least} to {most} pixels"] = {"texts": len(values), **shares}
    return result


def is_read(reading: Reading, text: str) -> bool:
    """Say whether a text was read with few errors."""
    return any(edits(plain(line), plain(text)) <= 0.3 * len(plain(text)) for line in texts(reading))


def first_look(model: Reader, enlarge: float, count: int) -> dict[str, Any]:
    """Measure what the first look saves, on photographs as they are, and what it misses, on photographs with words.

    Args:
        model: the reader.
        enlarge: the photographs are enlarged by this first, as cameras make larger ones.
        count: photographs, spread over all that there are.
    """
    rng, usual = np.random.default_rng(0), reader.LEAST_CONFIDENCE
    paths = [path for path in photographs() if max(Image.open(path).size) >= 700]
    seconds, processor, lines = Counter[bool](), Counter[bool](), {True: Counter[float](), False: Counter[float]()}
    missed, read = Counter[int](), Counter[int]()
    heights: list[tuple[float, float]] = []
    sizes, pictures = [], 0
    for path in paths[:: max(1, len(paths) // count)][:count]:
        image = Image.open(path).convert("RGB")
        image = image.resize((round(image.width * enlarge), round(image.height * enlarge)), Image.Resampling.BICUBIC)
        pictures, sizes = pictures + 1, [*sizes, max(image.size)]
        for has_look in (True, False):
            model._detector.has_first_look = has_look  # noqa: SLF001
            reader.LEAST_CONFIDENCE = min(_THRESHOLDS)
            start, used = time.perf_counter(), time.process_time()
            found = model.read([model.preprocessing(image)])[0].lines
            seconds[has_look] += time.perf_counter() - start  # type: ignore[assignment]
            processor[has_look] += time.process_time() - used  # type: ignore[assignment]
            for least in _THRESHOLDS:
                lines[has_look][least] += sum(line.confidence >= least for line in found)
        reader.LEAST_CONFIDENCE = usual
        if (written := lettered(image, rng)) is not None:
            shown = model.preprocessing(written.picture)
            if is_read(model.read([shown])[0], written.text):  # without the first look
                read[written.size] += 1
                model._detector.has_first_look = True  # noqa: SLF001
                missed[written.size] += not is_read(model.read([shown])[0], written.text)
                heights += looks(model, written).items()
    model._detector.has_first_look = True  # noqa: SLF001
    return {
        "photographs": pictures,
        "median_longer_side": int(np.median(sizes)),
        "images_per_second": {name: round(pictures / seconds[key], 2) for name, key in _WITH.items()},
        "processor_seconds_per_image": {name: round(processor[key] / pictures, 3) for name, key in _WITH.items()},
        "lines_in_photographs_by_confidence": {name: dict(lines[key]) for name, key in _WITH.items()},
        "written_texts_read_without": sum(read.values()),
        "of_these_missed_with": sum(missed.values()),
        "read_by_size": dict(sorted(read.items())),
        "missed_by_size": dict(sorted(missed.items())),
        "seen_by_height_and_threshold": seen(heights),
    }


_WITH = {"with_first_look": True, "without": False}


def page(rng: np.random.Generator, size: int, columns: int, rows: int) -> tuple[Image.Image, list[str]]:
    """Return a page of small print in columns, 4:3, and its lines in reading order."""
    width, face = 3800 // columns, font("serif", size)
    picture, lines = Image.new("RGB", (4000, 3000), "white"), []
    for column in range(columns):
        for row in range(rows):
            line = sentence(rng, "latin", 10)
            while face.getlength(more := f"{line} {sentence(rng, 'latin', 2)}") < width - 3 * size:
                line = more
            spot = (100 + column * width, 60 + row * 2880 / rows)
            ImageDraw.Draw(picture).text(spot, line, font=face, fill="black")
            lines.append(line)
    return picture, lines


def tiles(model: Reader) -> dict[str, Any]:
    """Compare tiles with one look at a page that was made as small as one look can take."""
    result: dict[str, Any] = {}
    for size in (14, 20, 28):
        picture, lines = page(np.random.default_rng(size), size, columns=3, rows=18)
        shown = pixels(picture)
        once = model._detector._boxes(model._detector.marks(shown, 1536 / 4000), 4000, 3000).boxes  # noqa: SLF001
        errors = {"with_tiles": Errors(), "in_one": Errors()}
        errors["with_tiles"].add(texts(model.read([shown])[0]), lines)
        said = model._recognizer.recognise(shown, once[reading_order(once)])  # noqa: SLF001
        errors["in_one"].add([each.text for each in said if each.confidence >= reader.LEAST_CONFIDENCE], lines)
        result[f"size {size}"] = {name: each.report() for name, each in errors.items()}
    return result


def batches(model: Reader) -> dict[str, Any]:
    """Compare reading lines in batches with one by one."""
    picture, _ = page(np.random.default_rng(0), 28, columns=6, rows=10)
    shown = pixels(picture)
    boxes = model._detector.find(shown).boxes  # noqa: SLF001
    used = {}
    usual = recognition._BATCH_WIDTH  # noqa: SLF001
    for name, width in (("batches", usual), ("singles", 1), ("batches again", usual)):
        recognition._BATCH_WIDTH = width  # noqa: SLF001
        start = time.process_time()
        model._recognizer.recognise(shown, boxes)  # noqa: SLF001
        used[name] = round((time.process_time() - start) * 1000 / len(boxes), 1)
    recognition._BATCH_WIDTH = usual  # noqa: SLF001
    return {"lines": len(boxes), "processor_milliseconds_per_line": used}


def bounds(model: Reader) -> dict[str, Any]:
    """Measure the pictures that take the longest: noise, and a page of 10,000 words."""
    noise = np.random.default_rng(0).integers(0, 256, (3072, 4096, 3), dtype=np.uint8)
    full, lines = page(np.random.default_rng(1), 15, columns=8, rows=135)
    result = {}
    for name, picture in (("noise", noise), ("full page", pixels(full))):
        start = time.perf_counter()
        reading = model.read([picture])[0]
        result[name] = {
            "seconds": round(time.perf_counter() - start, 1),
            "lines": len(reading.lines),
            "is_cut": reading.is_cut,
        }
    return result | {"words on the full page": sum(len(line.split()) for line in lines)}


def main() -> None:
    """Measure everything and write a file."""
    chosen = options(__doc__).parse_args()
    began = time.perf_counter()
    model = load_reader()
    kinds = ["latin", "digits", *(["chinese"] if has("chinese") else [])]
    report = begin() | {"spec": {"model": model.spec.model, "fingerprint": model.spec.fingerprint}}
    parts = {
        "bounds": lambda: bounds(model),
        "tiles": lambda: tiles(model),
        "batches": lambda: batches(model),
        "scales": lambda: scales(model),
        "direction": lambda: direction(model),
        "vertical": lambda: vertical(model) if has("chinese") else None,
        "first_look": lambda: first_look(model, 1.0, _PHOTOGRAPHS),
        "first_look_large": lambda: first_look(model, 3.0, _LARGE),
        "error_rates": lambda: conditions(model, kinds),
    }
    for name, part in parts.items():
        report[name] = part()
        print(
            name,
            json.dumps(report[name], indent=1, ensure_ascii=False),
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )
    report |= {"seconds": round(time.perf_counter() - began), "processor_seconds": round(time.process_time())}
    write(chosen, "reading", report)


if __name__ == "__main__":
    main()
