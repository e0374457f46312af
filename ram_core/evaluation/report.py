"""Evaluations and calibrations as files for programs and tables, and as text for people."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ram_core.errors import ModelError
from ram_core.evaluation.calibration import Outcome
from ram_core.evaluation.figures import wilson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from ram_core.evaluation.calibration import CalibratedTag, Calibration
    from ram_core.evaluation.figures import Counts, Evaluation, Means, TagFigures, Together

TAGS, SUMMARY, CALIBRATION = "tags.csv", "summary.json", "calibration.csv"
_SHOWN = 8  # names in a line of text


def evaluation_data(evaluation: Evaluation, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return an evaluation as JSON has it.

    Args:
        evaluation: the figures.
        about: what else is said of the run, at the top.
    """
    return {**_summary(evaluation, about), "tags": [_tag(tag, evaluation.enough) for tag in evaluation.tags]}


def calibration_data(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as JSON has it."""
    return {
        "target": calibration.target,
        "folds": calibration.folds,
        "enough": calibration.enough,
        "outcomes": dict(Counter(tag.outcome.value for tag in calibration.tags)),
        "before": None if calibration.before is None else asdict(calibration.before),
        "after": None if calibration.after is None else asdict(calibration.after),
        "tags": [_calibrated(tag) for tag in calibration.tags],
    }


def write_evaluation(folder: Path, evaluation: Evaluation, about: Mapping[str, Any]) -> None:
    """Write ``tags.csv``, a line for each tag, and ``summary.json``. Raises ``ModelError``."""
    _write_csv(folder / TAGS, (_tag(tag, evaluation.enough) for tag in evaluation.tags))
    _write(folder / SUMMARY, json.dumps(_summary(evaluation, about), indent=2, ensure_ascii=False) + "\n")


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write ``calibration.csv``, a line for each tag. Raises ``ModelError``."""
    _write_csv(folder / CALIBRATION, map(_calibrated, calibration.tags))


def evaluation_text(evaluation: Evaluation) -> str:
    """Return a summary of some lines, in percent."""
    few = [tag for tag in evaluation.tags if 0 < tag.counts.images < evaluation.enough]
    absent = sum(1 for tag in evaluation.tags if not tag.counts.images)
    lines = [
        f"{evaluation.images:,} images, {evaluation.means.tags:,} tags that images have",
        _cells("", "precision", "recall", "F1", "mAP"),
        _row(f"mean of {evaluation.means.tags:,} tags", evaluation.means),
        _row(f"of {evaluation.firm.tags:,} with {evaluation.enough} images", evaluation.firm),
        *_together("all assignments", evaluation.together),
    ]
    if few:
        names = _listed([tag.name for tag in sorted(few, key=lambda tag: -tag.counts.images)])
        lines.append(f"Too few images to say anything of {len(few):,} tags (fewer than {evaluation.enough}): {names}")
    if absent:
        lines.append(
            f"No image has {absent:,} tags. They are in none of these figures; they were assigned "
            f"{evaluation.elsewhere:,} times."
        )
    return "\n".join(lines) + "\n"


def calibration_text(calibration: Calibration) -> str:
    """Return a summary of some lines, in percent."""
    outcomes = Counter(tag.outcome for tag in calibration.tags)
    changed = outcomes[Outcome.CALIBRATED]
    lines = [f"New thresholds of {changed:,} tags, for a precision of {100 * calibration.target:g} %"]
    if calibration.before is not None and calibration.after is not None:
        lines += [
            _cells("", "precision", "recall", "F1"),
            *_together("before", calibration.before),
            *_together("after, on held-out images", calibration.after),
        ]
        missed = [tag.name for tag in calibration.tags if _is_missed(tag, calibration.target)]
        if missed:
            lines.append(f"Below it on held-out images, by the whole 95 % interval: {_listed(missed)}")
    lines += [f"{count:,}: {outcome.value}" for outcome, count in outcomes.items() if outcome is not Outcome.CALIBRATED]
    return "\n".join(lines) + "\n"


def _summary(evaluation: Evaluation, about: Mapping[str, Any]) -> dict[str, Any]:
    present = sum(1 for tag in evaluation.tags if tag.counts.images)
    return {
        **about,
        "images": evaluation.images,
        "tags_of_images": present,
        "tags_with_few_images": present - evaluation.firm.tags,
        "enough": evaluation.enough,
        "macro": asdict(evaluation.means),
        "macro_enough": asdict(evaluation.firm),
        "micro": asdict(evaluation.together),
        "assigned_elsewhere": evaluation.elsewhere,
    }


def _tag(tag: TagFigures, enough: int) -> dict[str, Any]:
    return {
        "id": tag.tag_id,
        "tag": tag.name,
        "threshold": tag.threshold,
        "images": tag.counts.images,
        "assigned": tag.counts.assigned,
        **_figures(tag.counts),
        "ap": tag.average_precision,
        "few_images": tag.counts.images < enough,
    }


def _calibrated(tag: CalibratedTag) -> dict[str, Any]:
    after = tag.counts_after
    held_out = dict.fromkeys(_figures(tag.counts_before)) if after is None else _figures(after)
    return {
        "id": tag.tag_id,
        "tag": tag.name,
        "outcome": tag.outcome.value,
        "images": tag.counts_before.images,
        "threshold_before": tag.before,
        "threshold_after": tag.after,
        **{f"{name}_before": value for name, value in _figures(tag.counts_before).items()},
        **{f"{name}_after": value for name, value in held_out.items()},
    }


def _figures(counts: Counts) -> dict[str, float | None]:
    """Return figures by name; None for one that is not defined, such as the precision of a tag never assigned."""
    precision, recall = wilson(counts.hits, counts.assigned), wilson(counts.hits, counts.images)
    return {
        "precision": counts.precision,
        "precision_low": precision.low if counts.assigned else None,
        "precision_high": precision.high if counts.assigned else None,
        "recall": counts.recall,
        "recall_low": recall.low if counts.images else None,
        "recall_high": recall.high if counts.images else None,
        "f1": counts.f1,
    }


def _is_missed(tag: CalibratedTag, target: float) -> bool:
    after = tag.counts_after
    return after is not None and after.assigned > 0 and wilson(after.hits, after.assigned).high < target


def _row(name: str, means: Means) -> str:
    values = (means.precision, means.recall, means.f1, means.average_precision)
    return _cells(name, *(map(_percent, values) if means.tags else "-" * len(values)))


def _together(name: str, figures: Together) -> list[str]:
    intervals = (figures.precision_interval, figures.recall_interval, figures.f1_interval)
    return [
        _cells(name, *map(_percent, (figures.precision, figures.recall, figures.f1))),
        _cells("  95 % interval", *(f"{_percent(low)} to {_percent(high)}" for low, high in intervals)),
    ]


def _cells(name: str, *cells: str) -> str:
    return f"{name:<26}" + "".join(f"{cell:>16}" for cell in cells)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = None
            for row in rows:
                if writer is None:
                    writer = csv.DictWriter(stream, list(row))
                    writer.writeheader()
                writer.writerow(row)
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}; give another folder") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path} cannot be written: {error.strerror}; give another folder") from error
