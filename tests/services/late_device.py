"""A device that answers late, in a pipeline of this process and in workers.

Run as a script, this file is such a worker. ``LATE_SECONDS`` (float): how long its device takes for a batch; it
computes one after the other. ``LATE_FIRST_NOTE``: a file that is made when it gets its second batch.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramq.embedded.process import spawn
from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.index.feature_files import FeatureFiles
from storage.ledger import claims
from storage.ledger.waiting import Able
from storage.objects.base import S3Options
from storage.objects.source import open_store, parse_source
from tests.services.forked_worker import ROOT
from tests.services.null_worker import NullModel, expected
from workers.pipeline.decoders import Decoders
from workers.pipeline.fitness import Fitness
from workers.pipeline.metrics import WorkerMetrics
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.pipeline import Pipeline
from workers.pipeline.stage_holder import StageHolder
from workers.pipeline.steps import PipelineOptions
from workers.pipeline.work import Lease
from workers.planner import Planner
from workers.stages import StageOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from ram_core.recognition import Prediction
    from ramq.settings import Settings
    from ramq.wiring import Services
    from tests.services.fleet import Fleet

BATCH, SHARD, IMAGES = 4, 16, 24
HANG_SECONDS = 30.0


class Answer:
    """A batch that the device was given. It is computed when somebody calls ``come``."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.count = len(pixels)
        self._predictions = [expected(image) for image in pixels]
        self._came = threading.Event()
        self._error: Exception | None = None
        self.asked = threading.Event()

    def come(self, error: Exception | None = None) -> None:
        self._error = error
        self._came.set()

    def is_done(self) -> bool:
        return self._came.is_set()

    def result(self) -> list[Prediction]:
        self.asked.set()
        assert self._came.wait(HANG_SECONDS), "nobody answered"
        if self._error is not None:
            raise self._error
        return self._predictions


class LateModel(NullModel):
    """A recognizer whose answers come when the test says so."""

    def __init__(self) -> None:
        self.given: list[Answer] = []
        self.react: Callable[[Answer], None] = lambda _: None
        self._new = threading.Condition()

    def submit(self, pixels: NDArray[np.uint8], *, features: Any = None) -> Answer:
        del features
        answer = Answer(pixels)
        with self._new:
            self.given.append(answer)
            self._new.notify_all()
        self.react(answer)
        return answer

    def wait_for(self, count: int) -> list[Answer]:
        """Wait until the device was given so many batches."""
        with self._new:
            assert self._new.wait_for(lambda: len(self.given) >= count, HANG_SECONDS), len(self.given)
            return list(self.given)


class Run:
    """A pipeline that works on the shards of a job, in a thread as in a worker."""

    def __init__(
        self, settings: Settings, services: Services, model: LateModel, *, lease_seconds: float = 60.0
    ) -> None:
        self.services, self.model, self.fitness = services, model, Fitness()
        engine = services.engine
        further = StageHolder(StageOptions("cpu", settings.models_path), [])
        models = ModelHolder(engine, ModelOptions("cpu", settings.models_path, settings.cache_path), None, further)
        self._planner = Planner(engine, models, fitness=self.fitness, shard_size=SHARD, s3=S3Options())
        self._decoders = Decoders(1, 10**7)
        self._lease_seconds = lease_seconds
        self._able = Able(None, models.runs)
        self.error: Exception | None = None
        self.pipeline = Pipeline(
            engine,
            models,
            PipelineOptions(BATCH, 2, 1, lease_seconds, 10**7, 10**7),
            decoders=self._decoders,
            files=FeatureFiles(make_builder(settings, engine).store.place),
            fitness=self.fitness,
            metrics=WorkerMetrics(),
        )
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        while self._planner.begin(lambda: False) or self._planner.go_on(lambda: False):
            pass
        self._thread.start()

    def _work(self) -> None:
        try:
            with self.pipeline as pipeline:
                while True:
                    pipeline.wait_until_at_most(1)
                    with unit_of_work(self.services.engine) as session:
                        shard = claims.claim(session, owner="late", lease_seconds=self._lease_seconds, able=self._able)
                    if shard is None:
                        break
                    pipeline.feed(Lease(shard, open_store(parse_source(shard.archive_uri), S3Options())))
                pipeline.wait_until_at_most(0)
        except Exception as error:  # noqa: BLE001  (looked at by the test)
            self.error = error

    def end(self, seconds: float = HANG_SECONDS) -> None:
        """Wait until it ends by itself."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the pipeline hangs"

    def close(self) -> None:
        self.pipeline.stop()
        self.model.react = Answer.come
        for answer in list(self.model.given):
            answer.come()
        self._thread.join(HANG_SECONDS)
        self._decoders.close()


def start_late(fleet: Fleet, **environment: str) -> Any:
    """Start a worker with a late device."""
    log = fleet.folder / "worker.log"
    process = spawn(
        [sys.executable, "-m", "tests.services.late_device"],
        cwd=ROOT,
        log=log,
        stop_signal=signal.SIGKILL,
        env={**fleet.environment, "PYTHONPATH": str(ROOT), **environment},
    )
    fleet.processes.append(process)
    return process


def wait_until_given(note: Path) -> None:
    deadline = time.monotonic() + 90
    while not note.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Queue:
    """A device that computes one batch after the other, each for ``LATE_SECONDS``."""

    free_at = 0.0
    batches = 0


class TimedAnswer:
    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        seconds = float(os.environ["LATE_SECONDS"])
        self._ready_at = Queue.free_at = max(time.monotonic(), Queue.free_at) + seconds
        self._predictions = [expected(image) for image in pixels]

    def is_done(self) -> bool:
        return time.monotonic() >= self._ready_at

    def result(self) -> list[Prediction]:
        time.sleep(max(0.0, self._ready_at - time.monotonic()))
        return self._predictions


class TimedModel(NullModel):
    def submit(self, pixels: NDArray[np.uint8], *, features: Any = None) -> TimedAnswer:
        if count_path := os.environ.get("NULL_MODEL_COUNT"):
            with Path(count_path).open("ab", buffering=0) as file:
                file.write(b"." * len(pixels))
        Queue.batches += 1
        if Queue.batches == 2 and (note := os.environ.get("LATE_FIRST_NOTE")):
            Path(note).touch()
        return TimedAnswer(pixels)


def main() -> None:
    from tests.services import null_worker  # noqa: PLC0415

    null_worker.load_null = lambda _name, **_options: TimedModel()  # type: ignore[assignment]
    null_worker.main()


if __name__ == "__main__":
    main()
