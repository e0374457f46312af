"""Pictures whose results are known beforehand, and what must hold of a job on them whatever happened on its way."""

from __future__ import annotations

import hashlib
import io
import json
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import text

from ram_core.transforms import SquashTransform
from ramq.services.index import make_builder
from storage.database import unit_of_work
from storage.results.packing import unpack_vectors
from storage.tables import SCORE_SCALE
from tests.services.fleet import check_counters, wait_for
from tests.services.null_worker import SIZE, VECTOR_SIZE, expected

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from tests.services.fleet import Fleet

_INDEX_TIMEOUT_SECONDS = 60.0


def picture(seed: int) -> bytes:
    """A small PNG that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def prepared(body: bytes) -> np.ndarray:
    """What the null model sees of a picture."""
    return SquashTransform(SIZE)(Image.open(io.BytesIO(body)))


def seen(body: bytes) -> np.ndarray:
    """What stages see of a picture that is small enough for them."""
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def pictures(count: int) -> dict[str, bytes]:
    """So many pictures by key."""
    return {f"{number:05}.png": picture(number) for number in range(count)}


def fill(folder: Path, count: int) -> dict[str, bytes]:
    """Make a folder of so many pictures; return them by key."""
    folder.mkdir()
    files = pictures(count)
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return files


def check_job(services: Services, job_id: int, files: Mapping[str, bytes], failed: Mapping[str, str] = {}) -> JobView:
    """Check everything that can be checked without another run; return the finished job.

    Args:
        services: of the job.
        job_id: of a job that is done and recognised all of ``files`` itself.
        files: what the archive held, by key.
        failed: keys of ``files`` that must have failed, each with its class.
    """
    view = services.jobs.get(job_id)
    assert (view.state, view.listed, view.pending) == ("done", len(files), 0)
    assert (view.done, view.failed, view.skipped) == (len(files) - len(failed), len(failed), 0)
    check_counters(services, job_id)
    check_results(services, files, failed.keys())
    check_report(services, job_id, {key: ("failed", failed[key]) if key in failed else ("done", None) for key in files})
    check_index(services)
    return view


def check_results(services: Services, files: Mapping[str, bytes], failed: Iterable[str] = ()) -> None:
    """Every record holds what its picture's bytes say, and nobody else's; no key has two."""
    with unit_of_work(services.engine) as session:
        rows = session.execute(
            text(
                "SELECT key, tags, scores, v FROM image JOIN record ON image_id = image.id JOIN vector USING (image_id)"
            )
        ).all()
    astray = {row.key for row in rows} ^ (set(files) - set(failed))
    assert not astray, astray
    assert len(rows) == len({row.key for row in rows})
    for row in rows:
        wanted = expected(prepared(files[row.key]))
        assert row.tags == wanted.tag_ids.tolist(), row.key
        assert row.scores == pytest.approx((wanted.scores * SCORE_SCALE).tolist(), abs=1)
        assert unpack_vectors(row.v, VECTOR_SIZE)[0] == pytest.approx(wanted.vector, abs=1e-3)


def check_report(services: Services, job_id: int, outcomes: Mapping[str, tuple[str, str | None]]) -> None:
    """The report has one line for each key, says what became of it, and its hash is that of the lines."""
    lines = list(services.jobs.report_lines(job_id))
    told = [json.loads(line) for line in lines]
    assert {line["key"]: (line["outcome"], line["class"]) for line in told} == outcomes
    assert len(lines) == len(outcomes)
    report = services.jobs.report(job_id)
    assert report.sha256 == hashlib.sha256(b"".join(lines)).hexdigest()
    assert report.lines + report.folder_markers == report.done + report.failed + report.skipped + report.pending


def check_index(services: Services) -> None:
    """Once it has caught up, the index holds the same images as the database, whole."""
    builder = make_builder(services.settings, services.engine)
    deadline = time.monotonic() + _INDEX_TIMEOUT_SECONDS
    for number in [view.generation_id for view in services.index.status()]:
        while builder.publish_new(number, force=True) is None:
            [status] = [view for view in services.index.status() if view.generation_id == number]
            if status.delta == 0:
                break
            assert time.monotonic() < deadline, status
            time.sleep(0.2)
        assert builder.verify(number) == []


def check_second_run(services: Services, fleet: Fleet, source: str, first: JobView) -> None:
    """A further job on the same archive recognises nothing."""
    job = services.jobs.create(source)
    second = wait_for(services, job.id, fleet, lambda view: view.is_over)
    assert (second.state, second.done, second.failed) == ("done", 0, 0)
    assert second.skipped == first.listed
