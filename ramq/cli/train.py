"""``ramq train``: train RAM, RAM++ or Tag2Text, and list trainings."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.dataset_names import is_dataset, opened, with_splits
from ramq.cli.labels import vocabulary_of
from ramq.cli.output import duration, err, out, print_json, print_table
from ramq.services.trainings import Asked, Place, Trainings, usage
from storage.errors import RamqError, UsageError
from storage.search.views import SearchQuery
from storage.texts import plural, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from ram_core.training.data import DataSet
    from ram_core.training.run import Prepared
    from ram_core.vocabulary import TagVocabulary
    from ramq.settings import Settings

_LINE_SECONDS = 30.0  # between lines of progress without a terminal
_ARCHIVE = "archive:"  # how a query that is data begins


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (train, trainings):
        app.command()(command)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="pretrain or finetune; the official recipes.")],
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH|NAME", help="Data to learn from, or a data set; see docs/training.md (repeatable)."),
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder that paths in the data begin in; default: the data's.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="ram, ram_plus or tag2text; default: that of the weights.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WEIGHTS",
            help="A file, a folder of a training, a model's name, or new; default: the model's published weights, and "
            "new ones for pretrain.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")] = False,
    to: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Folder of the run; default: in RAMQ_TRAINING_DIR.")
    ] = None,
    validate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH|NAME",
            help="Data to score on before and after each epoch (repeatable); default: the data set's validation split.",
        ),
    ] = None,
    vocabulary: Annotated[
        str | None, typer.Option(metavar="V", help="A file of tags, or a model; default: those of the weights.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=1000, metavar="N", help="Default: the recipe's.")] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Images of a batch, on each GPU; default: the recipe's.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="X", help="The highest one; default: the recipe's.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=32, metavar="N", help="Side of the images; default: the recipe's.")
    ] = None,
    accumulate: Annotated[int | None, typer.Option(min=1, metavar="N", help="Batches of a step; default: 1.")] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="P", help="float32, bfloat16 or float16; default: float32.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Of everything random; default: 0.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda:0, cpu or auto; default: RAMQ_DEVICE.")] = None,
    workers: Annotated[int, typer.Option(min=0, max=256, metavar="N", help="Threads that load images.")] = 4,
    save_every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps between saved states; default: 500.")
    ] = None,
    keep: Annotated[int | None, typer.Option(min=1, metavar="N", help="States that are kept; default: 2.")] = None,
    most_bad: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="X", help="Share of an epoch's images that may be bad; default: 0.05."),
    ] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute activations again: less memory, more time.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Load and check everything, say what would be done, and end.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines on stdout and nothing else.")] = False,
) -> None:
    """Train a model. Prints the folder with the result, which `ramq models add` takes.

    Ctrl-C saves the state and ends after the current step. --resume goes on as if nothing had happened.

    Example: ramq train finetune --dataset birds.json --images ./birds --validate birds-val.json --out runs/birds

    Example: ramq train finetune --out runs/birds --resume
    """
    settings = settings_for()
    if resume and to is None:
        raise UsageError("--resume needs the folder of the training; give --out FOLDER")
    with ExitStack() as stack:
        splits = with_splits(dataset, validate, lambda: stack.enter_context(services(settings)))
    asked = Asked(
        recipe=recipe,
        dataset=splits.dataset,
        images=images,
        model=model,
        start=start,
        vocabulary=vocabulary,
        validate=splits.validate,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        size=size,
        accumulate=accumulate,
        precision=precision,
        seed=seed,
    )
    place = Place(
        models_dir=settings.models_path,
        device=device or settings.device,
        workers=workers,
        save_every=save_every,
        keep=keep,
        most_bad=most_bad,
        recompute=recompute,
    )
    with _stop_on_request() as should_stop, _known(settings, workers) as known:
        plan = known.resumed(asked, place, to) if resume and to is not None else known.new(asked, place, to)
        from ram_core.training.run import prepare  # noqa: PLC0415  (torch)

        with usage():
            ready = prepare(plan)
        if ready.rank == 0:
            _say_plan(ready, resume=resume, as_json=as_json, is_dry=dry_run)
        if not dry_run:
            _train(ready, resume=resume, should_stop=should_stop, as_json=as_json)


@contextmanager
def _known(settings: Settings, workers: int) -> Iterator[Trainings]:
    """Provide what starts trainings. The database is used only for archives and data sets."""
    from ramq.services.training_data import DecodeInProcesses  # noqa: PLC0415

    with ExitStack() as stack:

        def open_data(sources: tuple[str, ...], images: str | None, vocabulary: TagVocabulary) -> DataSet:
            if not any(each.startswith(_ARCHIVE) or is_dataset(each) for each in sources):
                from ram_core.training.data import open_dataset  # noqa: PLC0415  (torch)

                return open_dataset(sources, images=images, vocabulary=vocabulary)
            if len(sources) > 1:
                raise UsageError("an archive or a data set is data alone: give one --dataset, and one --validate")
            ramq = stack.enter_context(services(settings))
            if is_dataset(sources[0]):
                return opened(sources[0], vocabulary, ramq)
            query = ramq.search.read(SearchQuery(), sources[0], is_strict=True)
            return ramq.training_data.dataset(query, vocabulary, name=sources[0])

        # A picture that crashes its decoder must not end the training.
        decode = DecodeInProcesses(max(1, workers), settings.max_pixels)
        stack.callback(decode.close)
        yield Trainings(settings.training_path, vocabulary_of=vocabulary_of, open_data=open_data, decode=decode)


def trainings(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")] = False,
) -> None:
    """List the trainings in RAMQ_TRAINING_DIR, the last one first.

    Example: ramq trainings
    """
    found = Trainings(settings_for().training_path).list()
    if as_json:
        print_json(found)
        return
    print_table(
        ("training", "state", "model", "recipe", "step", "of", "epoch", "map", "bad", "started"),
        (
            (
                run.name, run.state, run.model, run.recipe, run.step, run.steps, run.epoch,
                run.scores[-1].validation_map if run.scores else None, run.bad_images, run.started_at,
            )
            for run in found
        ),
        empty="No trainings in RAMQ_TRAINING_DIR; see `ramq train --help`. Those with another --out are not listed.",
    )  # fmt: skip


def _train(ready: Prepared, *, resume: bool, should_stop: Callable[[], bool], as_json: bool) -> None:
    from ram_core.errors import TrainingError, TrainingStoppedError  # noqa: PLC0415
    from ram_core.training.run import train as run_training  # noqa: PLC0415

    plan = ready.plan
    with _listener(as_json=as_json, is_first=ready.rank == 0) as listen:
        try:
            folder = run_training(ready, resume=resume, listen=listen, should_stop=should_stop)
        except TrainingStoppedError as error:
            if ready.rank == 0:
                again = f"ramq train {plan.recipe.name} --out {plan.folder} --resume"
                err().print(f"{error}. Go on with: {again}", markup=False, soft_wrap=True)
            raise typer.Exit(130) from error
        except TrainingError as error:
            raise RamqError(str(error)) from error
    if ready.rank == 0 and as_json:  # one line, as the others are
        sys.stdout.write(json.dumps({"kind": "result", "folder": str(folder)}) + "\n")
        sys.stdout.flush()
    elif ready.rank == 0:
        out().print(str(folder), markup=False, soft_wrap=True)
        err().print(f"Use it with: ramq models add NAME --from {folder}", markup=False, soft_wrap=True)


def _say_plan(ready: Prepared, *, resume: bool, as_json: bool, is_dry: bool) -> None:
    plan, about = ready.plan, ready.about()
    if as_json:
        if is_dry:
            print_json(about | {"folder": str(plan.folder)})
        return
    data, recipe = about["data"], plan.recipe
    pixels, rate = f"{recipe.image_size} pixels", f"{recipe.schedule.rate:g}"
    lines = [
        f"{about['model']}, {recipe.name}, from {about['parent']['name']}, with {len(plan.begin.vocabulary):,} tags",
        f"{plural(data['images'], 'image')}, {plural(data['captions'], 'caption')}: {data['name']}",
        f"{plural(recipe.epochs, 'epoch')} of {plural(ready.steps, 'step')} of {about['images_per_step']} images of "
        f"{pixels}, learning rate {rate}, {plan.options.precision}, on {ready.device}"
        + (f", {about['processes']} processes" if about["processes"] > 1 else ""),
        f"{'Would write to' if is_dry else 'Writes to'} {plan.folder}",
    ]
    if resume:
        from ram_core.training.states import States  # noqa: PLC0415  (torch)

        newest = States(plan.folder / "states", 1).newest()
        lines.append(
            "No state was saved before it ended, so it begins again" if newest is None else f"Goes on from {newest}"
        )
    for line in lines:
        err().print(visible(line), markup=False, soft_wrap=True)


@contextmanager
def _stop_on_request() -> Iterator[Callable[[], bool]]:
    """Provide a function that tells, after a step, whether somebody pressed Ctrl-C, or a manager ended this process.

    Before the first step there is nothing to save, so both end the process at once. A second Ctrl-C does so too. The
    last saved state stays.
    """
    wanted = stepped = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal wanted
        if not stepped or (wanted and number == signal.SIGINT):
            raise KeyboardInterrupt
        wanted = True

    def should_stop() -> bool:
        nonlocal stepped
        stepped = True
        return wanted

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield should_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _listener(*, as_json: bool, is_first: bool) -> Iterator[Callable[[dict[str, Any]], None] | None]:
    """Provide what shows progress: JSON lines, one line that changes on a terminal, or a line now and then."""
    if not is_first:
        yield None
    elif as_json:
        yield _print_written
    elif not sys.stderr.isatty():
        yield _Lines()
    else:
        with err().status("Training…") as status:

            def show(entry: dict[str, Any]) -> None:
                if entry["kind"] == "step":
                    status.update(said(entry))
                elif entry["kind"] == "score":
                    err().print(said(entry), markup=False)

            yield show


def _print_written(entry: dict[str, Any]) -> None:
    """Print what is also written to the run's folder."""
    if "at" in entry:
        sys.stdout.write(json.dumps(entry) + "\n")
        sys.stdout.flush()


class _Lines:
    """Prints a line for each score, and for a step now and then."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, entry: dict[str, Any]) -> None:
        """Print an entry, or not."""
        is_step = entry["kind"] == "step"
        if entry["kind"] == "score" or (is_step and time.monotonic() >= self._next):
            err().print(said(entry), markup=False, soft_wrap=True)
            self._next = time.monotonic() + _LINE_SECONDS if is_step else self._next


def said(entry: dict[str, Any]) -> str:
    """Return a step or a score in words."""
    if entry["kind"] == "score":
        when = f"after epoch {entry['epochs']}" if entry["epochs"] else "before training"
        return f"validation mAP {entry['validation_map']:.3f} {when}"
    losses = ", ".join(f"{name} {value:.4g}" for name, value in entry["losses"].items())
    rate, left = entry["images_per_second"], entry["seconds_left"]
    pace = "" if rate is None else f" · {rate:,.1f} images/s · {duration(left)} left"
    return f"epoch {entry['epoch']}/{entry['epochs']} · step {entry['step']:,}/{entry['steps']:,} · {losses}{pace}"
