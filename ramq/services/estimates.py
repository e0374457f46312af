"""What a job would take before it is started: images, hours, requests, room, cost. Ranges, since nobody knows better.

Rates are those that workers of this installation reported for the model (``storage.ledger.paces``). Where there are
none, and somebody lets this machine try, they are those of a short trial. No rate and no price is built in.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ramq.services.backlog import backlog_of, kind_named
from ramq.services.estimate_views import EstimatedWorkers, EstimateView, Prices, Range
from ramq.services.survey import survey
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.ledger import paces
from storage.ledger import workers as worker_rows
from storage.objects.base import PAGE_SIZE
from storage.results.sizes import database_bytes_per_image
from storage.tables import RECOGNITION
from storage.texts import plural
from workers.messages import features_kept, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from ramq.services.job_wishes import Settled
    from ramq.services.survey import Survey
    from ramq.services.trial import Trial
    from storage.ledger.paces import Pace
    from storage.ledger.worker_views import WorkerView
    from storage.objects.base import ObjectInfo, ObjectStore, S3Options
    from storage.objects.ignoring import Selection
    from storage.objects.manifest import Manifest
    from storage.objects.source import Source

MOST_KEYS = 1_000_000
"""Keys that are listed unless the caller says otherwise: a thousand requests, some minutes."""

SAMPLE = 200

_LEAST_SPREAD, _MOST_SPREAD = 0.25, 0.7
"""How far measured rates may be off: pictures of other archives have other sizes. At least this share, and twice the
standard deviation of what workers reported, up to the other."""

_RETRIES = 1.05
"""Requests that a store answers with an error are sent again."""

# See "Sizing" in docs/operations.md, and for hashes, what files say and the places of features another 400. The vector
# has 2 bytes a number.
_ROWS_BYTES = 900
_VECTOR_ROW_BYTES = 222
_SEGMENT_BYTES = 504
_VECTOR_SIZES = {"lite": 384}
_OTHER_VECTOR_SIZE = 512
_FEATURE_BYTES = {"none": 0, "pooled": 1_852, "global": 1_024, "tokens": 75_000}
_LESS, _MORE = 0.8, 2.0
"""Of these bytes: short keys and few tags, or long ones, captions, and files that say much."""
_FIXED_BYTES = 10_000_000
"""The most that the tables, or the files, of a generation take when they are nearly empty."""


@dataclass(frozen=True, slots=True)
class Amounts:
    """What an estimate is reckoned with.

    Attributes:
        images: how many images there are, if somebody knows; None: they are listed.
        most_keys: keys that are listed at most.
        sample: images that are drawn for sizes, and for a trial.
        workers: how many to reckon with, on ``device``; None: those that are alive.
        device: their kind of device, or with ``workers`` None the one to assume if none is alive.
        prices: what people pay.
    """

    images: int | None = None
    most_keys: int = MOST_KEYS
    sample: int = SAMPLE
    workers: int | None = None
    device: str | None = None
    prices: Prices = field(default_factory=Prices)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for.

    Attributes:
        place: the archive or the part of it.
        manifest: a list of keys, if the source is one.
        selection: which keys are listed.
        settled: the models of the job.
        pages: whether each page of a TIFF or PDF file is an image of its own.
        amounts: what it is reckoned with.
    """

    place: Source
    manifest: Manifest | None
    selection: Selection
    settled: Settled
    pages: bool
    amounts: Amounts


def estimate(
    engine: Engine,
    s3: S3Options,
    asked: Question,
    trial: Callable[[str, ObjectStore, Sequence[ObjectInfo]], Trial] | None = None,
) -> EstimateView:
    """Return what a job would take. Reads the archive's keys and, for a trial, a sample; writes nothing.

    Args:
        engine: the database.
        s3: how to reach buckets.
        asked: what is asked for.
        trial: tries the model on this machine if no worker has measured it; None: the hours are then not known.

    Raises:
        UsageError: the source holds no images, or a number makes no sense.
        StoreUnavailableError, CredentialsError: the object store cannot be accessed.
        ModelMissingError: the model cannot be tried here.
    """
    found = survey(
        asked.place,
        asked.selection,
        s3,
        manifest=asked.manifest,
        most_keys=asked.amounts.most_keys,
        sample=asked.amounts.sample,
    )
    if not found.images:
        raise UsageError(f"{asked.place.uri} holds no images that a job would read; {found.keys:,} keys were listed")
    images = _images(asked, found)
    with unit_of_work(engine) as session:
        measured, alive = paces.paces(session), worker_rows.views(session)
        per_image = database_bytes_per_image(session)
    rates = _Rates(measured, asked.settled.model)
    notes = _notes(asked, found)
    if trial is not None and not rates.devices(RECOGNITION, asked.settled.model):
        rates.tried = trial(asked.settled.model, found.store, found.sample)
    workers, are_alive = _workers(asked, rates, [worker for worker in alive if worker.is_alive])
    hours = _hours(images, workers, notes)
    spent = {device: _spent(hours, workers, device) for device in ("cpu", "cuda")}
    requests = _requests(asked, found, images)
    database, index = _room(asked.settled, images, per_image)
    return EstimateView(
        archive=asked.place.uri,
        model=asked.settled.model,
        stages=list(asked.settled.stages),
        images=images,
        is_listed_whole=found.is_complete,
        sampled=len(found.sample),
        size_bytes=_size(found, _files(asked, found)),
        workers=workers,
        are_alive=are_alive,
        hours=hours,
        waiting_hours=_waiting_hours(engine, asked.settled, workers),
        gpu_hours=spent["cuda"],
        cpu_hours=spent["cpu"],
        requests=requests,
        database_bytes=database,
        index_bytes=index,
        cost=_cost(asked.amounts.prices, spent["cuda"], spent["cpu"], requests),
        notes=notes,
    )


def _images(asked: Question, found: Survey) -> Range:
    """Return how many images there are. Pages are counted when their file is opened, so nobody knows them here."""
    files = _files(asked, found)
    return Range(files.low, None) if _has_uncounted_pages(asked, found) else files


def _has_uncounted_pages(asked: Question, found: Survey) -> bool:
    return asked.pages and asked.amounts.images is None and found.paged > 0


def _files(asked: Question, found: Survey) -> Range:
    if asked.amounts.images is not None:
        return Range.exactly(asked.amounts.images)
    return Range(found.images, found.images if found.is_complete else None)


def _notes(asked: Question, found: Survey) -> list[str]:
    notes = ["Every image counts, also those that are recorded already: a job skips them."]
    if not found.is_complete and asked.amounts.images is None:
        notes.append(
            f"The listing was ended after {found.keys:,} keys, so these are lower bounds: give the number of images, "
            "or list more keys."
        )
    if found.paged:
        files = f"{plural(found.paged, 'TIFF or PDF file')} may have several pages"
        if _has_uncounted_pages(asked, found):
            notes.append(
                f"{files}. Pages are counted when a job opens the file, so each counts once here and these are lower "
                "bounds: give the number of images if you know it."
            )
        elif not asked.pages:
            notes.append(f"{files}, of which the first is read. With `--pages` each page is an image of its own.")
    return notes


def _size(found: Survey, images: Range) -> Range:
    """Return the bytes of the objects: their sum, or the mean with twice its standard error."""
    if found.is_complete and images.high == found.images:
        return Range.exactly(found.size_bytes)
    mean = found.size_bytes / found.images
    sizes = [info.size_bytes for info in found.sample]
    error = math.sqrt(sum((size - mean) ** 2 for size in sizes) / max(1, len(sizes) - 1) / max(1, len(sizes)))
    return images.scaled(max(0.0, mean - 2 * error), mean + 2 * error)


class _Rates:
    """Rates of one worker, by stage, model and device."""

    def __init__(self, measured: Sequence[Pace], model: str) -> None:
        self._measured = {(each.stage, each.model, each.device): each for each in measured}
        self._model = model
        self.tried: Trial | None = None

    def devices(self, stage: str, model: str) -> list[str]:
        """Return the kinds of devices that a rate was measured on, GPUs first."""
        names = {model, kind_of(model)}
        found = {device for (of, name, device) in self._measured if of == stage and name in names}
        return sorted(found, key=lambda device: (device == "cpu", device))

    def of(self, stage: str, model: str, device: str, workers: int) -> EstimatedWorkers:
        """Return how fast some workers are together."""
        for name in (model, kind_of(model)):
            if (pace := self._measured.get((stage, name, device))) is not None:
                rate = workers * pace.images_per_second
                spread = min(_MOST_SPREAD, max(_LEAST_SPREAD, 2 * pace.deviation / pace.images_per_second))
                rates = Range(rate * (1 - spread), rate * (1 + spread))
                return EstimatedWorkers(stage, model, device, workers, rates, "measured")
        tried = self.tried
        if tried is not None and (stage, model, device) == (RECOGNITION, self._model, tried.device):
            rates = Range(workers * tried.slow, workers * tried.fast)
            return EstimatedWorkers(stage, model, device, workers, rates, "trial")
        return EstimatedWorkers(stage, model, device, workers, None, None)


def _workers(asked: Question, rates: _Rates, alive: Sequence[WorkerView]) -> tuple[list[EstimatedWorkers], bool]:
    """Return who would work on each stage, and whether these are the workers that are alive."""
    stages = {RECOGNITION: asked.settled.model, **asked.settled.stages}
    able = {stage: _able(stage, model, alive) for stage, model in stages.items()}
    if asked.amounts.workers is None and able[RECOGNITION]:
        counted = [(stage, device, count) for stage in stages for device, count in sorted(able[stage].items())]
        return [rates.of(stage, stages[stage], device, count) for stage, device, count in counted], True
    known = rates.devices(RECOGNITION, asked.settled.model)
    tried = [rates.tried.device] if rates.tried is not None else []
    device = asked.amounts.device or next(iter([*known, *tried, "cpu"]))
    return [rates.of(stage, model, device, asked.amounts.workers or 1) for stage, model in stages.items()], False


def _able(stage: str, model: str, alive: Sequence[WorkerView]) -> Counter[str]:
    """Return how many live workers can do a stage with a model, by kind of device."""
    able: Counter[str] = Counter()
    for worker in alive:
        is_pinned = stage == RECOGNITION and worker.models is not None and model not in worker.models
        is_unfit = any(each.kind == "everything" or (each.kind, each.name) == ("model", model) for each in worker.unfit)
        if stage in worker.runs and not is_pinned and not is_unfit:
            able[paces.device_kind(worker.device)] += 1
    return able


def _hours(images: Range, workers: Sequence[EstimatedWorkers], notes: list[str]) -> Range | None:
    """Return how long all stages take: at best at the same time, at worst one after the other."""
    slowest, together = 0.0, Range.exactly(0.0)
    for stage, model in dict.fromkeys((each.stage, each.model) for each in workers):
        of_stage = [each for each in workers if each.stage == stage]
        known = [each.images_per_second for each in of_stage if each.images_per_second is not None]
        notes += [
            f"No worker on {each.device} has measured {model} ({stage}): run a small job first, or `ramq estimate` on "
            "a machine like theirs."
            for each in of_stage
            if each.images_per_second is None
        ]
        if not known:
            return None
        fast = sum(rate.high for rate in known if rate.high is not None)
        hours = images.scaled(1 / fast / 3_600, 1 / sum(rate.low for rate in known) / 3_600)
        slowest, together = max(slowest, hours.low), together.plus(hours)
    return Range(slowest, together.high)


def _spent(hours: Range | None, workers: Sequence[EstimatedWorkers], device: str) -> Range | None:
    count = max((each.workers for each in workers if each.device == device), default=0)
    if not count:
        return Range.exactly(0.0)
    return None if hours is None else hours.scaled(count, count)


def _requests(asked: Question, found: Survey, images: Range) -> Range:
    if asked.place.scheme != "s3":
        return Range.exactly(0)
    listing = Range.exactly(found.pages) if found.is_complete else images.scaled(1 / PAGE_SIZE, 1 / PAGE_SIZE)
    # Workers that do all stages read an image once.
    reads = images.scaled(1, _RETRIES * (1 + len(asked.settled.stages)))
    return Range(math.floor(listing.low), listing.high).plus(reads)


def _room(settled: Settled, images: Range, per_image: float | None) -> tuple[Range, Range]:
    """Return the bytes of PostgreSQL and of the index."""
    kind = kind_of(settled.model)
    vector = 2 * _VECTOR_SIZES.get(kind, _OTHER_VECTOR_SIZE)
    spaces = [stage for stage in settled.stages if stage not in {"text", "metadata"}]
    rows = _ROWS_BYTES + (1 + len(spaces)) * (vector + _VECTOR_ROW_BYTES)
    features = _FEATURE_BYTES[features_kept(settled.model, settled.features)]
    segments = (1 + len(spaces)) * (vector + _SEGMENT_BYTES) + features
    least, most = rows * _LESS, rows * _MORE
    if per_image is not None:
        least, most = min(least, per_image), max(most, per_image)
    fixed = Range(0, _FIXED_BYTES)
    return images.scaled(least, most).plus(fixed), images.scaled(segments * _LESS, segments * _MORE).plus(fixed)


def _waiting_hours(engine: Engine, settled: Settled, workers: Sequence[EstimatedWorkers]) -> float | None:
    """Return how long other jobs keep these workers busy. Assumed rates tell nothing."""
    kind = kind_named(RECOGNITION, settled.model)
    doing = [each for each in workers if each.stage == RECOGNITION]
    items = [item for item in backlog_of(engine, kinds=[kind]).items if item.images]
    if not items:
        return 0.0
    on = {each.device for each in doing}
    if any(not device.is_measured for item in items for device in item.devices if device.device in on):
        return None
    work = [
        sum(each.workers / item.seconds_on(each.device) for each in doing if item.seconds_on(each.device))
        for item in items
    ]
    return sum(1 / share for share in work if share) / 3_600


def _cost(prices: Prices, gpu: Range | None, cpu: Range | None, requests: Range) -> Range | None:
    """Return the sum of what has a price."""
    total, is_priced = Range.exactly(0.0), False
    for amount, price in ((gpu, prices.gpu_hour), (cpu, prices.cpu_hour), (requests, prices.thousand_requests)):
        if price is None:
            continue
        is_priced = True
        share = price / 1_000 if amount is requests else price
        total = total.plus(Range(0.0, None) if amount is None else amount.scaled(share, share))
    return total if is_priced else None
