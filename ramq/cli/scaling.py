"""Commands about capacity: backlog, estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ramq.cli.context import services, settings_for
from ramq.cli.job_options import Defaults, Exclude, Include, ModelOf, Pages, Stages, selected, stages_named
from ramq.cli.output import duration, err, file_size, out, print_json, print_table
from ramq.cli.search import Json  # noqa: TC001  (typer reads the annotations)
from storage.errors import UsageError
from storage.texts import visible

if TYPE_CHECKING:
    from ramq.services.estimate_views import EstimateView


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (backlog, estimate):
        app.command()(command)


def backlog(
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this kind of work: a model or another stage; repeatable.")
    ] = None,
    device: Annotated[str, typer.Option(help="The device that the total is for: cpu, cuda or mps.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Show how much work waits for each kind of worker, and how long one worker needs for it. For autoscalers, too.

    Example: ramq backlog --kind ram_plus --device cuda --json
    """
    with services() as ramq:
        view = ramq.jobs.backlog(kinds=kind or (), device=device)
    if as_json:
        print_json(view)
        return
    print_table(
        ("kind", "priority", "images", "shards", "listings", "device", "images/s", "rate is", "time of one worker"),
        (
            (
                *(item.kind, item.priority, item.images, item.shards, item.listings, each.device),
                *(each.images_per_second, "measured" if each.is_measured else "assumed", duration(each.seconds)),
            )
            for item in view.items
            if item.images or item.listings
            for each in item.devices
        ),
        keep=("kind", "device"),
        empty="Nothing waits.",
    )
    if view.seconds:
        err().print(f"One worker on {view.device} needs {duration(view.seconds)} for all of it.", style="dim")


def estimate(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="s3://bucket/prefix, a folder, or a manifest.")],
    model: ModelOf = None,
    stages: Stages = None,
    include: Include = None,
    exclude: Exclude = None,
    defaults: Defaults = True,
    pages: Pages = False,
    images: Annotated[int | None, typer.Option(min=1, help="How many there are, if you know.")] = None,
    list_keys: Annotated[int, typer.Option(min=1, help="Keys that are listed at most.")] = 1_000_000,
    sample: Annotated[int, typer.Option(min=1, max=10_000, help="Images for the mean size, and for a trial.")] = 200,
    workers: Annotated[int | None, typer.Option(min=1, help="Reckon with so many; default: those alive.")] = None,
    device: Annotated[str | None, typer.Option(help="Their kind of device: cpu, cuda or mps.")] = None,
    gpu_hour_price: Annotated[float | None, typer.Option(min=0, help="Of an hour of a worker on a GPU.")] = None,
    cpu_hour_price: Annotated[float | None, typer.Option(min=0, help="Of an hour of a worker on a CPU.")] = None,
    request_price: Annotated[float | None, typer.Option(min=0, help="Of 1,000 requests to the store.")] = None,
    trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Try the model on the sample if no worker has measured it.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Say what a job would take: images, hours, requests, bytes, cost. It starts no job and writes nothing.

    Rates are those that workers of this installation measured. If there are none, the model is tried here on a sample,
    for a minute at most. Prices are yours, in any currency. Pages of files are counted when a job opens these: with
    --pages the numbers are lower bounds, unless you give --images.

    Example: ramq estimate s3://holiday/2024 --model ram_plus --gpu-hour-price 2.5
    """
    from ramq.services.estimate_views import Prices  # noqa: PLC0415
    from ramq.services.estimates import Amounts  # noqa: PLC0415
    from ramq.services.job_wishes import JobWishes  # noqa: PLC0415
    from ramq.services.trial import trial_of  # noqa: PLC0415

    if device not in {None, "cpu", "cuda", "mps"}:
        raise UsageError(f"unknown kind of device {device!r}; choose one of cpu, cuda, mps")
    settings = settings_for()
    selection = selected(include, exclude, defaults=defaults)
    wishes = JobWishes(model=model, stages=stages_named(stages), selection=selection, pages=pages)
    prices = Prices(gpu_hour_price, cpu_hour_price, request_price)
    with services(settings) as ramq:
        view = ramq.jobs.estimate(
            source,
            wishes,
            Amounts(images, list_keys, sample, workers, device, prices),
            trial_of(settings) if trial else None,
        )
    if as_json:
        print_json(view)
    else:
        _tell_estimate(view)


def _tell_estimate(view: EstimateView) -> None:
    from ramq.services.estimate_words import lines_of  # noqa: PLC0415

    for name, words in [("archive", visible(view.archive)), *lines_of(view, duration, file_size)]:
        out().print(f"{name + ':':<24} {words}", markup=False)
    for note in view.notes:
        err().print(visible(note), style="dim", markup=False)
