"""Pictures that want gigabytes are refused on their headers: what a worker process takes does not grow with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from tests.poison import bad, odd
from tests.services.checker import picture
from tests.services.fleet import check_counters, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from ramq.wiring import Services
    from tests.services.fleet import Fleet

BOMBS_MOST_BYTES = 450_000_000


@pytest.mark.slow
def test_bombs_and_odd_files_take_little_memory_and_no_process(
    services: Services, fleet: Fleet, tmp_path: Path
) -> None:
    """A worker with its decoders grows by less than 450 MB over a folder of harmless pictures.

    The largest bombs take 150 MB of a decoder, and both decoders may have one.
    """
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for folder in (calm, rough):
        folder.mkdir()
    for number in range(40):
        (calm / f"{number}.png").write_bytes(picture(number))
    for number, one in enumerate((*bad(), *odd()) * 2):
        (rough / f"{number}.jpg").write_bytes(one.body)
    [worker] = fleet.start(1, RAMQ_DECODE_THREADS="2")
    peaks = []
    for folder in (calm, rough):
        job = services.jobs.create(str(folder))
        peak = 0
        while not services.jobs.get(job.id).is_over:
            tree = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children()]
            peak = max(peak, sum(_resident_bytes(process) for process in tree))
        peaks.append(peak)
        view = wait_for(services, job.id, fleet, lambda view: view.is_over)
        assert (view.state, view.listed, view.pending) == ("done", len(list(folder.iterdir())), 0)
        assert not {"unexpected", "decoder_crash", "decoder_timeout"} & view.failures_by_class.keys()
        check_counters(services, job.id)
    assert worker.poll() is None
    assert peaks[1] - peaks[0] < BOMBS_MOST_BYTES


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:  # a decoder that has just been replaced
        return 0
