"""A short trial of a model on some pictures of an archive, on this machine: how fast would a worker here be?

It fetches, decodes and recognises as a worker does, one after the other instead of at the same time, and writes
nothing.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from storage.errors import ModelMissingError, PermanentError, UsageError
from storage.ledger.paces import device_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ram_core.recognition import Recognizer
    from ramq.settings import Settings
    from storage.objects.base import ObjectInfo, ObjectStore
    from workers.pipeline.decoders import Decoders

TRIAL_SECONDS = 60.0
"""After this time, no further pictures are tried. Loading the model does not count."""

_MORE = 1.25
"""A few pictures and a minute tell no more than this; and writing, which is not tried, takes its time."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How fast this machine was.

    Attributes:
        device: the kind of device: ``cpu``, ``cuda`` or ``mps``.
        slow: images per second if the steps follow each other, and a quarter less for what was not tried.
        fast: images per second if all steps happen at the same time, and a quarter more.
    """

    device: str
    slow: float
    fast: float


def trial_of(settings: Settings) -> Callable[[str, ObjectStore, Sequence[ObjectInfo]], Trial]:
    """Return what tries a model on pictures with these settings."""

    def run(model: str, store: ObjectStore, sample: Sequence[ObjectInfo]) -> Trial:
        return _run(settings, model, store, sample)

    return run


def _run(settings: Settings, model: str, store: ObjectStore, sample: Sequence[ObjectInfo]) -> Trial:
    from ram_core import load_model  # noqa: PLC0415  (torch)
    from ram_core.errors import ModelError  # noqa: PLC0415
    from workers.pipeline.decoders import Decoders  # noqa: PLC0415  (Pillow)
    from workers.pipeline.model_options import ModelOptions  # noqa: PLC0415

    options = ModelOptions(settings.device, settings.models_path, settings.cache_path, settings.precision)
    try:
        arguments = options.arguments
        recognizer = load_model(model, precision=options.chosen(model).name, **arguments)
    except ModelError as error:
        raise ModelMissingError(f"{model} cannot be tried on this machine: {error}") from error
    decoders = Decoders(settings.decode_threads, settings.max_pixels, reads_truncated=settings.truncated == "read")
    try:
        steps = _Steps(settings, recognizer, decoders, store)
        size = settings.batch_size
        if len(sample) >= 2 * size:  # the first batch warms up: threads, caches, kernels
            steps.do(sample[:size], counts=False)
            sample = sample[size:]
        began = time.monotonic()
        for start in range(0, len(sample), size):
            steps.do(sample[start : start + size])
            if time.monotonic() - began > TRIAL_SECONDS:
                break
    finally:
        decoders.close()
    if not steps.images:
        raise UsageError("none of the pictures in the sample can be read: give --images and run a small job instead")
    device = device_kind(str(arguments["device"]))
    every = steps.images + steps.failed
    times = (steps.fetch_seconds, steps.decode_seconds, steps.infer_seconds)
    return Trial(device, every / (_MORE * sum(times)), _MORE * every / max(times))


class _Steps:
    """The steps of a worker, one after the other, and their times."""

    def __init__(self, settings: Settings, recognizer: Recognizer, decoders: Decoders, store: ObjectStore) -> None:
        self._settings = settings
        self._recognizer = recognizer
        self._decoders = decoders
        self._store = store
        self.images = self.failed = 0
        self.fetch_seconds = self.decode_seconds = self.infer_seconds = 0.0

    def do(self, infos: Sequence[ObjectInfo], *, counts: bool = True) -> None:
        """Fetch, decode and recognise a batch."""
        times = [time.monotonic()]
        with ThreadPoolExecutor(self._settings.fetch_threads) as pool:
            bodies = list(pool.map(self._fetch, infos))
        times.append(time.monotonic())
        with ThreadPoolExecutor(self._settings.decode_threads) as pool:
            decoded = list(pool.map(self._decode, bodies))
        times.append(time.monotonic())
        # The square of each: tiles of long pictures come below it.
        pixels = [each[: each.shape[1]] for each in decoded if each is not None]
        if pixels:
            self._recognizer.predict(np.stack(pixels))
        times.append(time.monotonic())
        if counts:
            fetched, prepared, recognised = np.diff(times)
            self.fetch_seconds += fetched
            self.decode_seconds += prepared
            self.infer_seconds += recognised
            self.images += len(pixels)
            self.failed += len(infos) - len(pixels)

    def _fetch(self, info: ObjectInfo) -> bytes | memoryview | None:
        try:
            return self._store.fetch(info.key, info.version, self._settings.max_object_bytes).body
        except PermanentError:  # a job would count it as failed, too
            return None

    def _decode(self, body: bytes | memoryview | None) -> np.ndarray | None:
        if not body:
            return None
        try:
            return self._decoders.decode(body, self._recognizer.preprocessing).pixels
        except PermanentError:
            return None
