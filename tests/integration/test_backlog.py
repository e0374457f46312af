"""What waits for each kind of worker: counts, seconds, and what does not count."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from ramq.client import Client, ProblemError
from ramq.services.backlog import LISTING_SECONDS, BacklogView, WaitingWork, backlog_of
from ramq.services.job_wishes import JobWishes
from storage.database import unit_of_work
from storage.errors import UsageError
from storage.ledger import paces
from storage.ledger.backlog import MOST_SHARDS
from tests.services.command_line import run_here
from tests.services.recognised import make_worker
from tests.services.web import services_of, serving
from tests.unit.test_chart import named

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from ramq.wiring import Services
    from tests.ledger import Ledger

pytestmark = pytest.mark.services


def work(view: BacklogView, kind: str, priority: str = "normal") -> WaitingWork:
    return next(item for item in view.items if (item.kind, item.priority) == (kind, priority))


def measure(engine: Engine, model: str, device: str, images: int, seconds: float, stage: str = "recognition") -> None:
    with unit_of_work(engine) as session:
        paces.add(session, device, [paces.Worked(stage, model, images, seconds)])


def test_nothing_waits_in_an_empty_database_and_every_kind_says_so(engine: Engine) -> None:
    view = backlog_of(engine)
    assert view.seconds == 0
    assert {(item.images, item.shards, item.listings) for item in view.items} == {(0, 0, 0)}
    assert {item.kind for item in view.items} >= {"lite", "ram", "ram_plus", "text", "crops", "siglip"}
    assert len(view.items) == 3 * len({item.kind for item in view.items})


def test_seconds_are_images_by_the_measured_rate_of_that_device(ledger: Ledger) -> None:
    ledger.make_job([4, 4, 2], model="ram_plus")
    assumed = work(backlog_of(ledger.engine), "ram_plus")
    assert (assumed.images, assumed.shards, assumed.listings) == (10, 3, 0)
    assert [(each.device, each.is_measured) for each in assumed.devices] == [("cpu", False), ("cuda", False)]
    assert all(each.seconds == 10 / each.images_per_second for each in assumed.devices)

    measure(ledger.engine, "ram_plus", "cuda:1", 400, 2.0)
    view = backlog_of(ledger.engine, kinds=["ram_plus"], device="cuda")
    found = {each.device: each for each in work(view, "ram_plus").devices}
    assert (found["cuda"].images_per_second, found["cuda"].is_measured, found["cuda"].seconds) == (200.0, True, 0.05)
    assert found["cpu"] == assumed.devices[0]
    assert view.seconds == 0.05
    assert view.measured == [("ram_plus", "cuda", 200.0)]
    assert backlog_of(ledger.engine, kinds=["lite"]).seconds == 0


def test_trained_models_wait_for_workers_of_their_base_at_its_rate_until_they_have_their_own(ledger: Ledger) -> None:
    ledger.make_job([8], model="ram_plus@birds")
    measure(ledger.engine, "ram_plus", "cpu", 20, 10.0)
    assert work(backlog_of(ledger.engine), "ram_plus").seconds_on("cpu") == 4.0
    measure(ledger.engine, "ram_plus@birds", "cpu", 80, 10.0)
    assert work(backlog_of(ledger.engine), "ram_plus").seconds_on("cpu") == 1.0


def test_priorities_are_apart_and_paused_jobs_do_not_count(ledger: Ledger, services: Services) -> None:
    ledger.make_job([3], priority="high")
    paused = ledger.make_job([5], priority="low")
    assert work(backlog_of(ledger.engine), "lite", "low").images == 5
    services.jobs.pause(paused)
    view = backlog_of(ledger.engine)
    assert [work(view, "lite", priority).images for priority in ("high", "normal", "low")] == [3, 0, 0]
    services.jobs.resume(paused)
    services.jobs.cancel(paused)
    assert work(backlog_of(ledger.engine), "lite", "low").images == 0


def test_what_is_done_in_a_shard_that_is_held_no_longer_waits(ledger: Ledger) -> None:
    ledger.make_job([4, 4])
    ledger.execute("UPDATE shard SET state = 'leased', n_done = 2, n_failed = 1 WHERE id = (SELECT min(id) FROM shard)")
    found = work(backlog_of(ledger.engine), "lite")
    assert (found.images, found.shards) == (5, 2)


def test_an_archive_that_is_not_listed_yet_wants_one_worker(services: Services, tmp_path: Path) -> None:
    job = services.jobs.create(str(tmp_path), model="ram", stages=["text"])
    view = services.jobs.backlog()
    assert (work(view, "ram").listings, work(view, "ram").seconds_on("cpu")) == (1, LISTING_SECONDS)
    assert work(view, "text").listings == 0  # it follows the listing of the other
    services.jobs.pause(job.id)
    assert services.jobs.backlog().seconds == 0


def test_a_watch_that_is_due_wants_one_worker_and_a_paused_one_none(services: Services, tmp_path: Path) -> None:
    watch = services.watches.add(str(tmp_path), JobWishes(model="ram", priority="high")).watch
    assert work(services.jobs.backlog(), "ram", "high").listings == 1
    services.watches.pause(watch.id)
    assert services.jobs.backlog().seconds == 0


def test_shards_beyond_a_thousand_are_not_counted_but_their_images_are(ledger: Ledger) -> None:
    job = ledger.make_job([1])
    ledger.execute(
        """INSERT INTO shard (job_id, image_ids, outcomes)
           SELECT :id, '{1,2}', '\\x0000' FROM generate_series(1, :n)""",
        id=job,
        n=MOST_SHARDS + 500,
    )
    ledger.execute("UPDATE job SET listed = listed + 2 * :n WHERE id = :id", id=job, n=MOST_SHARDS + 500)
    found = work(backlog_of(ledger.engine), "lite")
    assert (found.images, found.shards) == (1 + 2 * (MOST_SHARDS + 500), MOST_SHARDS)


def test_the_backlog_reads_no_images(ledger: Ledger) -> None:
    """It is asked every few seconds, and an archive may have a thousand million images."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    ledger.make_job([4])
    event.listen(ledger.engine, "before_cursor_execute", note)
    backlog_of(ledger.engine)
    event.remove(ledger.engine, "before_cursor_execute", note)
    assert not any(table in statement for statement in statements for table in (" image ", " record ", " vector "))


def test_rates_are_the_mean_of_workers_and_forget_what_is_long_ago(engine: Engine) -> None:
    measure(engine, "lite", "cpu", 100, 10.0)
    measure(engine, "lite", "cpu", 300, 10.0)

    def rate() -> float:
        return backlog_of(engine).measured[0][2]

    assert rate() == 20.0
    for _ in range(20):
        measure(engine, "lite", "cpu", 3_600 * 50, 3_600.0)
    assert rate() == pytest.approx(50, rel=0.01)
    with unit_of_work(engine) as session:
        (pace,) = paces.paces(session)
    assert pace.seconds < 3 * 3_600


def test_a_worker_reports_its_rate_and_it_stays_when_the_worker_is_gone(services: Services, archive: Path) -> None:
    job = services.jobs.create(str(archive))
    worker = make_worker(services)
    while not services.jobs.get(job.id).is_over:
        worker.work()
    worker.leave()
    assert services.jobs.workers() == []
    done = services.jobs.get(job.id)
    with unit_of_work(services.engine) as session:
        (pace,) = paces.paces(session)
    assert (pace.stage, pace.model, pace.device) == ("recognition", "lite", "cpu")
    # One worker did everything: its own time is the job's, but for what was copied and the ends of shards.
    assert 0 < pace.seconds <= done.active_seconds
    assert pace.images_per_second * pace.seconds <= done.done + done.failed


def test_unknown_kinds_and_devices_are_refused(services: Services) -> None:
    with pytest.raises(UsageError, match="unknown kind of work 'ramm'; choose from lite"):
        services.jobs.backlog(kinds=["ramm"])
    with pytest.raises(UsageError, match="unknown kind of device 'gpu'; choose from cpu, cuda"):
        services.jobs.backlog(device="gpu")


def test_api_client_metrics_and_command_say_the_same(client: TestClient, tmp_path: Path, broker_url: str) -> None:
    services = services_of(client)
    services.jobs.create(str(tmp_path), model="ram_plus", priority="high")
    answer = client.get("/v1/backlog", params={"kind": "ram_plus", "device": "cuda"})
    assert answer.status_code == 200
    assert answer.json()["seconds"] == LISTING_SECONDS
    with serving(services) as url, Client(url) as ramq:
        assert ramq.backlog(kinds=["ram_plus"], device="cuda").model_dump(mode="json") == answer.json()
        with pytest.raises(ProblemError, match="unknown kind"):
            ramq.backlog(kinds=["nothing"])
    scraped = client.get("/metrics").text
    assert 'ramq_waiting_seconds{device="cuda",kind="ram_plus",priority="high"} 60.0' in scraped
    assert 'ramq_waiting_images{kind="text",priority="low"} 0.0' in scraped
    assert 'ramq_worker_images_per_second{device="cpu",kind="lite"}' in scraped

    environment = {
        "RAMQ_DATA_DIR": str(tmp_path / "data"),
        "RAMQ_DATABASE_URL": services.engine.url.set(drivername="postgresql").render_as_string(hide_password=False),
        "RAMQ_BROKER_URL": broker_url,
    }
    told = run_here(["backlog", "--kind", "ram_plus", "--device", "cuda", "--json"], environment)
    assert json.loads(told.stdout)["seconds"] == LISTING_SECONDS
    table = run_here(["backlog"], environment)
    assert "ram_plus" in table.stdout
    assert "assumed" in table.stdout


def test_what_the_chart_asks_for_is_answered(client: TestClient, tmp_path: Path) -> None:
    """Both triggers of KEDA, as the chart renders them, say how long a worker needs for what waits for it."""
    services_of(client).jobs.create(str(tmp_path), model="ram_plus", priority="high")
    for case in ("api", "autoscaled"):
        scaled = named(case, "ScaledObject", "photos-worker-gpu")["spec"]["triggers"][0]["metadata"]
        if case == "api":
            address = urlsplit(scaled["url"])
            answer = client.get(f"{address.path}?{address.query}").json()
            assert answer[scaled["valueLocation"]] == LISTING_SECONDS
            continue
        wanted = dict(re.findall(r'(device|kind)=~?"([^"]*)"', scaled["query"]))
        families = text_string_to_metric_families(client.get("/metrics").text)
        (found,) = (family for family in families if family.name in scaled["query"])
        greatest = [
            sample.value
            for sample in found.samples
            if sample.labels["device"] == wanted["device"] and re.fullmatch(wanted["kind"], sample.labels["kind"])
        ]
        assert sum(greatest) == LISTING_SECONDS
