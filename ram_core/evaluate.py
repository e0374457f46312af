"""Evaluate a model on the official benchmarks: ``python -m ram_core.evaluate --help``.

Scores every image of an annotation file, stores the scores on disk batch by batch, and reports mAP, precision, recall
and F1 in the official protocol. An interrupted run can be continued. An unreadable image is named, excluded from the
figures, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ram_core.annotations import PUBLISHED, locate, read_benchmark, read_descriptions
from ram_core.errors import ImageError, ModelError
from ram_core.hierarchy.wordnet import shipped_hierarchy
from ram_core.metrics import Metrics, measure
from ram_core.registry import load_model, load_vocabulary, model_names
from ram_core.score_table import ScoreTable
from ram_core.vocabulary import TagVocabulary
from ram_core.vocabulary_file import read_vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ram_core.annotations import Benchmark
    from ram_core.recognition import Preprocessing

EXAMPLE = """example:
  python -m ram_core.evaluate --model ram_plus --models-dir ~/models \\
    --images openimages/imgs --annotations openimages_common_214_ram_annots.txt \\
    --taglist openimages_common_214_ram_taglist.txt --output results/ram_plus"""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image without scores: its name in the annotation file, and the reason."""

    name: str
    reason: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Return the exit status: 0; 1 if images could not be read; 2 if nothing was measured."""
    chosen = _parser().parse_args(arguments)
    try:
        return _evaluate(chosen)
    except ModelError as error:
        sys.stderr.write(f"evaluate: {error}\n")
        return 2


def score_images(
    model: Any, benchmark: Benchmark, images: Path, columns: NDArray[np.intp], table: ScoreTable, batch_size: int = 32
) -> list[Unreadable]:
    """Score the images that the table lacks. The next batch is read while the model works on the current one.

    Args:
        model: a recogniser with ``tag_logits``.
        benchmark: the images.
        images: their folder.
        columns: (C,) the model's tag for each tag of the benchmark.
        table: storage for the scores.
        batch_size: images per batch.

    Returns:
        The images that could not be read.
    """
    failed: list[Unreadable] = []
    for rows, pixels in _batches(model.preprocessing, benchmark, images, table.pending(), batch_size):
        read = {row: each for row, each in zip(rows, pixels, strict=True) if isinstance(each, np.ndarray)}
        failed += [each for each in pixels if isinstance(each, Unreadable)]
        scores = np.empty((0, len(columns)), dtype=np.float32)
        if read:
            scores = tag_scores(model, np.stack(list(read.values())))[:, columns]
        table.store(list(read), scores, [row for row in rows if row not in read])
        sys.stderr.write(f"\r{rows[-1] + 1:,} of {len(benchmark.images):,} images")
    sys.stderr.write("\n")
    return failed


def match_tags(model_tags: TagVocabulary, benchmark: Benchmark, *, by_position: bool = False) -> NDArray[np.intp]:
    """Return the id of the model's tag for each tag of the benchmark, (C,).

    Raises:
        ModelError: the model has no such tag.
    """
    if by_position:
        # ``lite`` has tags above its classes, behind them.
        if len(shipped_hierarchy().classes_of(model_tags.names)) == len(benchmark.tags):
            return np.arange(len(benchmark.tags))
        if len(model_tags) != len(benchmark.tags):
            raise ModelError(f"the model has {len(model_tags)} tags, but the tag list has {len(benchmark.tags)}")
        return np.arange(len(model_tags))
    if benchmark.has_ids:
        ids = np.array([int(tag) for tag in benchmark.tags], dtype=np.intp)
        if ids.max() >= len(model_tags):
            raise ModelError(f"the tag list has id {ids.max()}, but the model has only {len(model_tags)} tags")
        return ids
    known = {name: i for i, name in reversed(list(enumerate(model_tags.names)))}
    found = [known.get(" ".join(tag.split())) for tag in benchmark.tags]
    for column, tag in enumerate(benchmark.tags):
        if found[column] is None and not tag.isdecimal() and (meant := model_tags.resolve(tag)):
            names = sorted({model_tags.names[i] for i in meant})
            if len(names) > 1:
                raise ModelError(f"{tag!r} in the tag list means several tags; use one of {', '.join(names)}")
            found[column] = meant[0]
    lacking = [tag for tag, tag_id in zip(benchmark.tags, found, strict=True) if tag_id is None]
    if lacking:
        raise ModelError(
            f"the model lacks {len(lacking)} tags of the list, first {lacking[0]!r}; "
            "use --open-set for RAM and RAM++, or --by-position if both lists have the same order"
        )
    return np.array(found, dtype=np.intp)


def _evaluate(chosen: argparse.Namespace) -> int:
    benchmark = read_benchmark(chosen.annotations, chosen.taglist, _names(chosen))
    if not chosen.images.is_dir():
        raise ModelError(f"{chosen.images} is not a folder")
    model = _model(chosen, benchmark)
    columns = match_tags(model.vocabulary, benchmark, by_position=chosen.by_position)
    folder = chosen.output or Path("evaluation") / f"{chosen.model}-{chosen.annotations.stem}"
    made_by = {
        "model": chosen.model,
        "generation": model.spec.fingerprint,
        "annotations": benchmark.sha256,
        "tags": hashlib.sha256(json.dumps([benchmark.tags, columns.tolist()]).encode()).hexdigest(),
        "dtype": chosen.dtype,
    }
    table = ScoreTable(folder, benchmark.targets.shape, made_by)
    failed = score_images(model, benchmark, chosen.images, columns, table, chosen.batch_size)
    for each in failed:
        sys.stderr.write(f"not read: {each.name}: {each.reason}\n")
    rows = table.scored()
    if not len(rows):
        raise ModelError(
            f"none of the {len(benchmark.images):,} images could be read; check that {chosen.images} is their folder"
        )
    thresholds = _thresholds(chosen, model.vocabulary, columns)
    metrics = measure(np.asarray(table.scores[rows]), benchmark.targets[rows], thresholds)
    _write_results(folder, benchmark, metrics, len(failed))
    sys.stdout.write(report(chosen.model, benchmark, metrics, len(failed)))
    return 1 if failed else 0


def _model(chosen: argparse.Namespace, benchmark: Benchmark) -> Any:
    import torch  # noqa: PLC0415  (`--help` and wrong arguments need no torch)

    vocabulary = _vocabulary(chosen.vocabulary) if chosen.vocabulary else None
    model: Any = load_model(
        chosen.model,
        checkpoint=chosen.checkpoint,
        vocabulary=vocabulary,
        device=chosen.device,
        dtype=getattr(torch, chosen.dtype),
        models_dir=chosen.models_dir,
    )
    if not chosen.open_set:
        return model
    if not hasattr(model, "runner"):  # lite computes other tags from a vector and has no logits for them
        raise ModelError(f"{chosen.model} cannot take other tags; --open-set is for ram and ram_plus")
    tags = list(dict.fromkeys(benchmark.tags))
    return model.with_vocabulary(read_descriptions(chosen.descriptions, tags) if chosen.descriptions else tags)


def _names(chosen: argparse.Namespace) -> TagVocabulary | None:
    """Return the tags whose other names annotations may have; None if the model is not to use its own."""
    if chosen.open_set or chosen.by_position:
        return None
    return _vocabulary(chosen.vocabulary) if chosen.vocabulary else load_vocabulary(chosen.model, chosen.models_dir)


def _vocabulary(path: Path) -> TagVocabulary:
    is_table = path.suffix.lower() in {".csv", ".jsonl", ".labels"}
    return read_vocabulary(path) if is_table else TagVocabulary.from_files(path)


def _thresholds(
    chosen: argparse.Namespace, vocabulary: TagVocabulary, columns: NDArray[np.intp]
) -> NDArray[np.float32]:
    if chosen.threshold is not None:
        return np.full(len(columns), chosen.threshold, dtype=np.float32)
    return np.asarray(vocabulary.thresholds[columns])


def tag_scores(model: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (B, T) scores in 0..1 of (B, S, S, 3) uint8 pixels, made by the ``preprocessing`` of a recogniser.

    ``lite`` with tags of other names has no logits: those of its scores that it does not keep are 0.
    """
    if not hasattr(model, "tag_logits"):
        scores = np.zeros((len(pixels), len(model.vocabulary)), dtype=np.float32)
        for row, prediction in zip(scores, model.predict(pixels), strict=True):
            row[prediction.tag_ids] = prediction.scores
        return scores
    import torch  # noqa: PLC0415

    from ram_core.transforms import normalise  # noqa: PLC0415

    with torch.inference_mode():
        batch = normalise(torch.from_numpy(pixels), model.preprocessing.mean, model.preprocessing.std)
        logits = model.tag_logits(batch).float()
        # The classes of `lite` are mutually exclusive. The tags of the other models are not.
        scores = model.scores(logits) if model.spec.model == "lite" else logits.sigmoid()
        return np.asarray(scores.cpu().numpy(), dtype=np.float32)


def _batches(
    preprocessing: Preprocessing, benchmark: Benchmark, images: Path, rows: NDArray[np.intp], size: int
) -> Iterator[tuple[list[int], list[NDArray[np.uint8] | Unreadable]]]:
    parts = [rows[start : start + size].tolist() for start in range(0, len(rows), size)]

    def read(row: int) -> NDArray[np.uint8] | Unreadable:
        return _read(preprocessing, images, benchmark.images[row])

    with ThreadPoolExecutor(max_workers=4) as threads:
        ahead = [threads.submit(read, row) for row in parts[0]] if parts else []
        for i, part in enumerate(parts):
            current = ahead
            ahead = [threads.submit(read, row) for row in parts[i + 1]] if i + 1 < len(parts) else []
            yield part, [each.result() for each in current]


def _read(preprocessing: Preprocessing, images: Path, name: str) -> NDArray[np.uint8] | Unreadable:
    """Read one image. Like the official evaluation, do not apply its EXIF orientation."""
    try:
        with Image.open(locate(images, name)) as image:
            return preprocessing(image)
    except FileNotFoundError:
        return Unreadable(name, f"not in {images}")
    except (OSError, ValueError, SyntaxError, ImageError, Image.DecompressionBombError) as error:
        return Unreadable(name, str(error) or type(error).__name__)


def report(model: str, benchmark: Benchmark, metrics: Metrics, failed: int = 0) -> str:
    """Return the figures as a table, in percent, next to those that the paper reports for the same annotations."""
    published = PUBLISHED.get(benchmark.sha256)
    paper = published.figures.get(model) if published else None
    name = published.benchmark if published else "these annotations"
    lines = [
        f"{model} on {name}: {metrics.images:,} images, {len(benchmark.tags):,} tags",
        f"  mAP {100 * metrics.mean_average_precision:6.2f}" + (f"   published: {paper}" if paper else ""),
    ]
    absent = int((metrics.classes.positives == 0).sum())
    if absent:
        present = 100 * metrics.mean_average_precision_present
        lines.append(f"  mAP {present:6.2f}   without the {absent:,} tags that no image has")
    for label, values in (
        ("OP  OR  OF1", (metrics.overall_precision, metrics.overall_recall, metrics.overall_f1)),
        ("CP  CR  CF1", (metrics.class_precision, metrics.class_recall, metrics.class_f1)),
    ):
        lines.append(f"  {label}  " + "  ".join(f"{100 * value:6.2f}" for value in values))
    if failed:
        lines.append(f"  {failed:,} images could not be read and are excluded: not comparable with published figures")
    return "\n".join(lines) + "\n"


def _write_results(folder: Path, benchmark: Benchmark, metrics: Metrics, failed: int) -> None:
    classes = metrics.classes
    with (folder / "per_class.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["tag", "ap", "precision", "recall", "f1", "images", "assigned"])
        columns = (classes.average_precision, classes.precision, classes.recall, classes.f1)
        for i, tag in enumerate(benchmark.tags):
            figures = [f"{column[i]:.6f}" for column in columns]
            writer.writerow([tag, *figures, int(classes.positives[i]), int(classes.assigned[i])])
    summary = {
        "images": metrics.images,
        "unreadable": failed,
        "mAP": metrics.mean_average_precision,
        "mAP_present": metrics.mean_average_precision_present,
        "OP": metrics.overall_precision,
        "OR": metrics.overall_recall,
        "OF1": metrics.overall_f1,
        "CP": metrics.class_precision,
        "CR": metrics.class_recall,
        "CF1": metrics.class_f1,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ram_core.evaluate",
        description="Score a benchmark's images and report mAP, precision, recall and F1.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, choices=model_names())
    add("--images", required=True, type=Path, help="folder that the annotations' paths are relative to")
    add("--annotations", required=True, type=Path, help="one line per image: path, comma, tags")
    add("--taglist", required=True, type=Path, help="one tag per line")
    add("--checkpoint", type=Path, help="weights; default: those in --models-dir")
    add("--models-dir", type=Path, help="folder of `ramq models pull`")
    add(
        "--vocabulary",
        type=Path,
        help="the model's tags, one per line, or a .jsonl, .csv or .labels file; default: its own",
    )
    add("--open-set", action="store_true", help="take the tag list as the model's tags (ram, ram_plus)")
    add("--descriptions", type=Path, help="JSON list of {tag: [sentences]} for --open-set with ram_plus")
    add("--by-position", action="store_true", help="the tag list has the model's tags in the same order, renamed")
    add("--threshold", type=float, help="for all tags; default: the model's own, 0.5 with --open-set")
    add("--output", type=Path, help="folder for scores and results; default: evaluation/MODEL-ANNOTATIONS")
    add("--device", default="auto", help="cpu, cuda, cuda:N or auto (default)")
    add("--dtype", default="float32", choices=("float32", "float16", "bfloat16"))
    add("--batch-size", type=_positive, default=32)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
