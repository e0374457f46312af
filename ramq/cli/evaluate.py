"""``ramq evaluate``: how well a model tags a data set, and which thresholds reach a precision there."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.dataset_names import is_dataset, opened, with_splits
from ramq.cli.labels import vocabulary_of
from ramq.cli.output import err, out, print_json
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)
from storage.errors import RamqError, UsageError
from storage.texts import plural, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ramq.settings import Settings

_PRECISIONS = ("float32", "float16", "bfloat16")
_SHOWN = 5  # bad images on stderr; all of them are in a file


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="lite, ram, ram_plus, tag2text, or a trained model.")],
    dataset: Annotated[
        list[str],
        typer.Option(
            metavar="PATH|NAME",
            help="Images and their tags, or a data set, of which the validation split counts (repeatable).",
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder that paths in the data begin in; default: the data's.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Other weights of this model; --vocabulary has their tags.")
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(metavar="V", help="A file of tags, or a model; default: those of the weights.")
    ] = None,
    calibrate: Annotated[
        float | None,
        typer.Option(metavar="P", help="Find the lowest thresholds with this precision, for example 0.9."),
    ] = None,
    calibrated: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The vocabulary to write; default: MODEL-calibrated.jsonl in --out."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, metavar="N", help="Parts of the images, each held out once.")] = 5,
    enough: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images that a tag needs, so that its figures say something.")
    ] = 10,
    to: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="For scores and results; default: evaluation/MODEL-DATA."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda:0, cpu or auto; default: RAMQ_DEVICE.")] = None,
    precision: Annotated[str, typer.Option(metavar="P", help="float32, float16 or bfloat16.")] = "float32",
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Images of a batch.")] = 32,
    workers: Annotated[int, typer.Option(min=0, max=256, metavar="N", help="Threads that load images.")] = 4,
    as_json: Json = False,
) -> None:
    """Compare a model's tags with those of a data set: precision, recall, F1 and AP of each tag and of all.

    Takes the formats that training takes. Scores are kept in --out, so an interrupted run is continued. Images that
    cannot be read are left out and listed in bad.jsonl.

    Example: ramq evaluate ram_plus --dataset birds-val.json --images ./birds

    Example: ramq evaluate ram_plus --dataset birds-val.json --calibrate 0.9
    """
    _check(calibrate, calibrated, folds, enough, precision)
    settings = settings_for()
    folder = to or Path("evaluation") / re.sub(r"[^\w.-]+", "_", f"{model}-{Path(dataset[0]).stem}")
    with _errors(), ExitStack() as stack:
        scored_on = with_splits(None, dataset, lambda: stack.enter_context(services(settings))).validate or ()
        from ram_core import evaluation  # noqa: PLC0415  (torch loads here)
        from ram_core.training.data import open_dataset  # noqa: PLC0415
        from ram_core.vocabulary_file import write_vocabulary  # noqa: PLC0415

        loaded = _model(settings, model, checkpoint, vocabulary, device or settings.device, precision)
        tags = loaded.vocabulary
        if is_dataset(scored_on[0]):
            if len(scored_on) > 1:
                raise UsageError("a data set is data alone: give one --dataset")
            data = opened(scored_on[0], tags, stack.enter_context(services(settings)))
        else:
            data = open_dataset(scored_on, vocabulary=tags, images=images)
        with _told(folder, as_json=as_json) as told:
            scored = evaluation.score_dataset(
                loaded, data, folder, precision=precision, batch_size=batch, workers=workers,
                on_bad=told.bad, on_progress=told.progress,
            )  # fmt: skip
            if not told.count:
                told.forget()
        result = evaluation.evaluate(scored, tags, enough)
        about = {"model": model, "vocabulary": tags.name, "data": data.describe(), "unreadable": told.count}
        evaluation.write_evaluation(folder, result, about)
        found = None
        file = calibrated or folder / f"{model}-calibrated.jsonl"
        if calibrate is not None:
            found = evaluation.calibrate(scored, tags, calibrate, folds=folds, enough=enough, floor=loaded.score_floor)
            evaluation.write_calibration(folder, found)
            write_vocabulary(file, found.vocabulary)
    if as_json:
        about["calibration"] = None if found is None else evaluation.calibration_data(found) | {"vocabulary": str(file)}
        print_json(evaluation.evaluation_data(result, about))
        return
    said = [evaluation.evaluation_text(result), *([] if found is None else [evaluation.calibration_text(found)])]
    for line in "\n".join(said).splitlines():
        out().print(visible(line), markup=False, soft_wrap=True)
    notes = []
    if is_dataset(scored_on[0]):
        notes.append(
            f"Tags of the data set that {model} itself assigned speak for it. What captions, manifests and people say "
            "makes a fair comparison."
        )
    notes += [f"All tags: {folder / evaluation.TAGS}"]
    if found is not None:
        notes.append(f"Thresholds before and after: {folder / evaluation.CALIBRATION}")
        notes.append(f"Use the new ones with: ramq vocab add {file}")
    for line in notes:
        err().print(line, markup=False, soft_wrap=True)


def _check(calibrate: float | None, calibrated: Path | None, folds: int, enough: int, precision: str) -> None:
    """Raise ``UsageError`` for options that do not fit each other."""
    if precision not in _PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}; choose one of {', '.join(_PRECISIONS)}")
    if calibrated is not None and calibrate is None:
        raise UsageError("--calibrated is the file of new thresholds: give --calibrate P as well")
    if calibrate is not None and not 0 < calibrate <= 1:
        raise UsageError(f"--calibrate {calibrate:g} is no precision; give one above 0 and up to 1, for example 0.9")
    if calibrate is not None and folds > enough:
        raise UsageError(f"tags with {enough} images cannot be parted into {folds} folds; raise --enough")
    if calibrated is not None and calibrated.suffix.lower() != ".jsonl":
        raise UsageError(f"{calibrated} cannot be written as a vocabulary: give a .jsonl file")


def _model(
    settings: Settings, name: str, checkpoint: Path | None, vocabulary: str | None, device: str, precision: str
) -> Any:
    """Return the model with its tags, or with others."""
    import torch  # noqa: PLC0415

    from ram_core.registry import load_model  # noqa: PLC0415

    tags = None if vocabulary is None else vocabulary_of(vocabulary)
    # A list that belongs to the weights. Tag2Text has no other tags than those it was trained with.
    is_own = checkpoint is not None or name.startswith("tag2text")
    model: Any = load_model(
        name,
        checkpoint=checkpoint,
        vocabulary=tags if is_own else None,
        device=device,
        dtype=getattr(torch, precision),
        models_dir=settings.models_path,
        cache_dir=settings.cache_path,
    )
    return model if tags is None or is_own else model.with_vocabulary(tags)


class _Told:
    """What is said while images are scored.

    Args:
        folder: where the list of bad images is written.
        as_json: whether nothing is said but errors.
    """

    def __init__(self, folder: Path, *, as_json: bool) -> None:
        from ram_core.training.data import BadImages  # noqa: PLC0415

        self.count = 0
        self._list, self._is_quiet = BadImages(folder), as_json

    def bad(self, name: str, reason: str) -> None:
        """List a bad image."""
        if not self.count:
            self.forget()
        self.count += 1
        self._list(name, reason)
        if self.count <= _SHOWN:
            err().print(visible(f"Left out: {name}: {reason}"), markup=False, soft_wrap=True)

    def forget(self) -> None:
        """Delete the list of an earlier run: what is still bad is tried again, and comes up again."""
        self._list.path.unlink(missing_ok=True)

    def progress(self, done: int, of: int) -> None:
        """Show how far it is, on a terminal."""
        if sys.stderr.isatty() and not self._is_quiet:
            sys.stderr.write(f"\r{done:,} of {of:,} images" + ("\n" if done == of else ""))

    def end(self) -> None:
        """Say how many images are left out."""
        if self.count:
            err().print(
                f"{plural(self.count, 'image')} could not be read; all are in {self._list.path}",
                markup=False,
                soft_wrap=True,
            )


@contextmanager
def _told(folder: Path, *, as_json: bool) -> Iterator[_Told]:
    told = _Told(folder, as_json=as_json)
    try:
        yield told
    finally:
        told.end()


@contextmanager
def _errors() -> Iterator[None]:
    """Turn errors of ``ram_core`` into the errors that determine the exit code."""
    from ram_core.errors import CheckpointError, DeviceError, ModelError  # noqa: PLC0415

    try:
        yield
    except (CheckpointError, DeviceError) as error:
        raise RamqError(str(error)) from error
    except ModelError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{error.filename or 'the folder'}: {error.strerror}; give another --out") from error
