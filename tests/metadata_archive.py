"""A folder of pictures that say when, where and with what they were taken; recognised by a model that costs nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.services.null_worker import load_null
from tests.services.recognised import make_worker
from tests.told_by_files import exif, jpeg, xmp
from workers.pipeline import model_holder
from workers.pipeline.model_holder import ModelHolder
from workers.pipeline.model_options import ModelOptions
from workers.pipeline.stage_holder import StageHolder
from workers.stages import StageOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from workers.lifecycle import Worker

VIENNA, GRAZ, FIJI = (48.2085, 16.3721), (47.0707, 15.4395), (-17.7, 179.98)

PICTURES = {
    "2022/a.jpg": jpeg(exif("2022:12:31 23:59:59", place=VIENNA), xmp({"xmp:Rating": "5", "dc:subject": ["Dom"]})),
    "2023/b.jpg": jpeg(exif("2023:05:01 18:30:00", offset="+02:00", place=VIENNA, lens="AF-S 50mm"), color="red"),
    "2023/c.jpg": jpeg(
        exif("2023:05:20 08:00:00", make="Canon", model="Canon EOS 5D", place=GRAZ),
        xmp({"xmp:Rating": "3", "dc:subject": ["Österreich"], "lr:hierarchicalSubject": ["Places|Graz"]}),
        color="blue",
    ),
    "2023/d.jpg": jpeg(exif("2023:11:02 12:00:00", make="Apple", model="iPhone 12", place=FIJI), color="green"),
    "none/e.jpg": jpeg(color="white"),
    "none/f.jpg": jpeg(exif("0000:00:00 00:00:00"), color="black"),
}


_MOST_ROUNDS = 200
"""Of a worker. Each job here takes a few."""


def write_pictures(folder: Path) -> Path:
    """Write the pictures."""
    for name, body in PICTURES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
    return folder


@contextmanager
def worker(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """Give a worker that recognises, and reads what files say."""
    monkeypatch.setattr(model_holder, "load_model", load_null)
    monkeypatch.setattr(ModelOptions, "arguments", property(lambda _: {}))
    options = ModelOptions("cpu", services.settings.models_path, services.settings.cache_path)
    further = StageHolder(StageOptions("cpu", services.settings.models_path), ["metadata"])
    made = make_worker(services, ModelHolder(services.engine, options, None, further))
    yield made
    made.leave()


def work(services: Services, worker: Worker, job: JobView) -> JobView:
    """Let a worker end a job."""
    for _ in range(_MOST_ROUNDS):
        if (now := services.jobs.get(job.id)).is_over:
            return now
        worker.work()
        worker._list()  # what its listing loop does
    raise AssertionError(now)
