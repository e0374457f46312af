"""The options of ``ramq job``: each combination does what it says, or is refused."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from storage.ledger.shards import DONE, FAILED
from tests.services.command_line import run_on

if TYPE_CHECKING:
    from ramq.wiring import Services
    from tests.ledger import Ledger

pytestmark = pytest.mark.services

FLAGS = ("--watch", "--report", "--lines", "--json")
EVERY = [tuple(itertools.compress(FLAGS, chosen)) for chosen in itertools.product((False, True), repeat=len(FLAGS))]


@pytest.fixture
def job_id(ledger: Ledger) -> int:
    """A job that has only to be ended."""
    job_id = ledger.make_job([2])
    shard = ledger.must_claim()
    ledger.write(shard, bytes([DONE, FAILED]))
    ledger.close(shard)
    return job_id


@pytest.mark.parametrize("flags", EVERY, ids=" ".join)
def test_a_job_is_shown_as_its_options_say_together(
    ledger: Ledger, services: Services, job_id: int, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[list[int]] = []
    clock = SimpleNamespace(sleep=lambda _: looks.append(ledger.finish()), monotonic=time.monotonic)
    monkeypatch.setattr("ramq.cli.following.time", clock)
    done = run_on(services, "job", str(job_id), *flags)
    if {"--lines", "--report"} <= {*flags}:
        assert (done.returncode, done.stdout, looks) == (2, "", [])
        assert done.stderr.strip() == (
            "ramq: --lines and --report cannot be combined: run the command once with each of them"
        )
        return
    assert done.returncode == 0, done.stderr
    assert looks == ([[job_id]] if "--watch" in flags else [])
    state = "done" if "--watch" in flags else "running"
    if "--lines" in flags:
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["outcome"] for line in lines] == ["done", "failed"]
        assert hashlib.sha256(done.stdout.encode()).hexdigest() == services.jobs.report(job_id).sha256
    elif "--json" in flags:
        shown = json.loads(done.stdout)
        assert (shown["state"], shown["done"], shown["failed"]) == (state, 1, 1)
        assert ("sha256" in shown) == ("--report" in flags)
    elif "--report" in flags:
        assert done.stdout.startswith(f"job         {job_id}  {state}")
        assert services.jobs.report(job_id).sha256 in done.stdout
    else:
        assert done.stdout == ""
        assert f"job {job_id}  {state}" in done.stderr
        assert "listed 2 = done 1 + skipped 0 + failed 1 + pending 0" in done.stderr
    if "--json" in flags:
        assert done.stderr == "", "programs read the rest"
