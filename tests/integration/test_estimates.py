"""What a job would take: compared with the job itself, and what is said if nobody can know."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from ramq.client import Client
from ramq.services.estimate_views import Prices, Range
from ramq.services.estimates import Amounts
from ramq.services.job_wishes import JobWishes
from ramq.services.trial import Trial, trial_of
from storage.database import unit_of_work
from storage.errors import ForbiddenError, NotFoundError, UsageError
from storage.ledger import paces
from storage.ledger import workers as worker_rows
from storage.objects.ignoring import Selection
from tests.services.command_line import run_here
from tests.services.recognised import make_worker
from tests.services.web import services_of, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Engine
    from starlette.testclient import TestClient

    from ramq.settings import Settings
    from ramq.wiring import Services
    from tests.services.s3 import S3Server

pytestmark = pytest.mark.services

NAMES = ("a.jpg", "b/c.png", "b/d.webp", "Thumbs.db", "notes.xmp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of 100, 200 and 300 bytes, and junk."""
    root = tmp_path / "photos"
    for number, name in enumerate(NAMES, 1):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes(100 * number))
    return root


def measure(engine: Engine, model: str, device: str, rates: Sequence[float], stage: str = "recognition") -> None:
    with unit_of_work(engine) as session:
        for rate in rates:
            paces.add(session, device, [paces.Worked(stage, model, round(10 * rate), 10.0)])


def be_alive(engine: Engine, number: int, device: str, **changes: Any) -> None:
    with unit_of_work(engine) as session:
        about = {"host": "here", "pid": number, "model": None, "job_id": None, "images_per_second": 0.0, "stages": {}}
        worker_rows.beat(session, f"worker {number}", device=device, **{**about, **changes})


def inside(value: float, found: Range | None) -> bool:
    return found is not None and found.low <= value <= (found.high if found.high is not None else value)


def size_of_database(services: Services) -> int:
    with unit_of_work(services.engine) as session:
        size: int = session.scalar(text("SELECT pg_database_size(current_database())")) or 0
        return size


def test_an_archive_is_counted_and_nothing_is_written(services: Services, folder: Path) -> None:
    def rows() -> int:
        with unit_of_work(services.engine) as session:
            return sum(
                session.scalar(text(f"SELECT count(*) FROM {table}")) or 0
                for table in ("archive", "image", "job", "shard", "pace")
            )

    before = rows()
    view = services.jobs.estimate(str(folder), JobWishes())
    assert (view.images, view.size_bytes, view.is_listed_whole) == (Range(3, 3), Range(600, 600), True)
    assert view.archive == folder.as_uri()
    assert (view.hours, view.gpu_hours, view.cpu_hours, view.cost) == (None, Range(0, 0), None, None)
    assert (view.are_alive, view.workers[0].images_per_second) == (False, None)
    assert any("No worker on cpu has measured lite" in note for note in view.notes)
    assert view.requests == Range(0, 0)
    assert rows() == before
    narrowed = services.jobs.estimate(str(folder), JobWishes(selection=Selection(exclude=("*.png",))))
    assert narrowed.images == Range(2, 2)


def test_hours_are_those_of_the_workers_that_are_alive_and_can_do_it(services: Services, folder: Path) -> None:
    measure(services.engine, "ram_plus", "cuda", [100.0] * 4)
    measure(services.engine, "ram_plus", "cpu", [1.0] * 4)
    be_alive(services.engine, 1, "cuda:0")
    be_alive(services.engine, 2, "cuda:1")
    be_alive(services.engine, 3, "cpu")
    be_alive(services.engine, 4, "cuda:2", models=["lite"])
    be_alive(services.engine, 5, "cuda:3", runs=["text"])
    amounts = Amounts(images=3_600_000, prices=Prices(gpu_hour=2.0, cpu_hour=0.1))
    view = services.jobs.estimate(str(folder), JobWishes(model="ram_plus"), amounts)
    assert view.are_alive
    assert {each.device: each.workers for each in view.workers} == {"cpu": 1, "cuda": 2}
    assert inside(3_600_000 / 201 / 3_600, view.hours)
    assert view.hours is not None
    assert view.gpu_hours == view.hours.scaled(2, 2)
    assert view.cpu_hours == view.hours
    assert view.cost is not None
    assert view.cost.low == pytest.approx(2.0 * 2 * view.hours.low + 0.1 * view.hours.low)
    assert view.waiting_hours == 0

    assumed = services.jobs.estimate(
        str(folder), JobWishes(model="ram_plus"), Amounts(images=3_600_000, workers=10, device="cuda")
    )
    assert (assumed.are_alive, [each.workers for each in assumed.workers]) == (False, [10])
    assert inside(1.0, assumed.hours)


def test_rates_that_differ_make_a_wide_range(services: Services, folder: Path) -> None:
    measure(services.engine, "ram", "cuda", [100.0] * 6)
    steady = services.jobs.estimate(str(folder), JobWishes(model="ram"))
    measure(services.engine, "ram_plus", "cuda", [60.0, 140.0] * 3)
    uneven = services.jobs.estimate(str(folder), JobWishes(model="ram_plus"))
    assert steady.hours is not None
    assert uneven.hours is not None
    assert (steady.hours.high or 0) / steady.hours.low < (uneven.hours.high or 0) / uneven.hours.low


def test_further_stages_take_their_own_time_and_no_hours_are_told_if_one_was_never_measured(
    services: Services, folder: Path
) -> None:
    measure(services.engine, "lite", "cpu", [10.0])
    alone = services.jobs.estimate(str(folder), JobWishes(), Amounts(images=36_000))
    assert inside(1.0, alone.hours)
    unknown = services.jobs.estimate(str(folder), JobWishes(stages=["text"]), Amounts(images=36_000))
    assert unknown.hours is None
    assert any("ppocr_v6 (text)" in note for note in unknown.notes)
    measure(services.engine, "ppocr_v6", "cpu", [5.0], stage="text")
    both = services.jobs.estimate(str(folder), JobWishes(stages=["text"]), Amounts(images=36_000))
    # Side by side two hours, one after the other three.
    assert inside(2.0, both.hours)
    assert inside(3.0, both.hours)


def test_other_jobs_come_first(services: Services, folder: Path, ledger: Any) -> None:
    measure(services.engine, "lite", "cpu", [1.0])
    ledger.make_job([1_800])
    view = services.jobs.estimate(str(folder), JobWishes(), Amounts(workers=2, device="cpu"))
    assert view.waiting_hours == pytest.approx(0.25)


def test_a_listing_that_was_ended_early_gives_lower_bounds_unless_the_number_is_known(
    services: Services, tmp_path: Path
) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(2_500):
        (root / f"{number:05}.jpg").write_bytes(bytes(100))
    measure(services.engine, "lite", "cpu", [10.0])
    part = services.jobs.estimate(str(root), JobWishes(), Amounts(most_keys=1_000))
    assert (part.images, part.is_listed_whole) == (Range(1_000, None), False)
    assert (part.hours is not None, part.hours and part.hours.high) == (True, None)
    assert any("lower bounds" in note for note in part.notes)
    told = services.jobs.estimate(str(root), JobWishes(), Amounts(images=2_500, most_keys=1_000))
    assert (told.images, told.size_bytes) == (Range(2_500, 2_500), Range(250_000, 250_000))
    assert told.hours is not None
    assert told.hours.high is not None


def test_requests_to_a_bucket_are_listings_and_one_read_for_each_image(
    s3_settings: Settings, services: Services, bucket: str, s3_server: S3Server, folder: Path
) -> None:
    client = s3_server.client()
    for path in folder.rglob("*.*"):
        client.upload_file(str(path), bucket, f"in/{path.relative_to(folder).as_posix()}")
    services.settings = s3_settings  # its endpoint
    view = services.jobs.estimate(f"s3://{bucket}/in", JobWishes(), Amounts(prices=Prices(thousand_requests=0.4)))
    assert view.images == Range(3, 3)
    assert inside(4, view.requests)
    assert view.cost is not None
    assert view.cost.low == pytest.approx(0.0004 * view.requests.low)


def test_sources_that_cannot_be_read_are_refused(services: Services, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        services.jobs.estimate(str(tmp_path / "nowhere"), JobWishes())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no images that a job would read"):
        services.jobs.estimate(str(tmp_path / "empty"), JobWishes())


def test_api_and_client_say_the_same_and_keep_to_the_allow_list(
    make_client: Callable[..., TestClient], folder: Path, tmp_path: Path
) -> None:
    client = make_client(archive_allow=(str(folder),))
    measure(services_of(client).engine, "lite", "cpu", [10.0])
    body = {"source": str(folder), "images": 36_000, "workers": 1, "device": "cpu", "cpu_hour_price": 2.0}
    answer = client.post("/v1/estimates", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["images"] == {"low": 36_000, "high": 36_000}
    assert answer.json()["cost"]["low"] == pytest.approx(2 * answer.json()["hours"]["low"])
    with serving(services_of(client)) as url, Client(url) as ramq:
        found = ramq.estimate(str(folder), images=36_000, workers=1, device="cpu", cpu_hour_price=2.0)
    assert found.model_dump(mode="json") == answer.json()
    assert client.post("/v1/estimates", json={"source": str(tmp_path)}).status_code == 403
    assert client.post("/v1/estimates", json={"source": str(folder / "none")}).status_code == 422
    assert client.post("/v1/estimates", json={"source": str(folder), "cost": 1}).status_code == 422
    with pytest.raises(ForbiddenError):
        services_of(client).jobs.estimate(str(tmp_path), JobWishes())


def test_the_model_is_tried_only_if_nobody_measured_it(services: Services, folder: Path) -> None:
    tried: list[tuple[str, int]] = []

    def trial(model: str, _store: object, sample: Sequence[object]) -> Trial:
        tried.append((model, len(sample)))
        return Trial("cpu", 2.0, 4.0)

    view = services.jobs.estimate(str(folder), JobWishes(), Amounts(images=36_000), trial)
    assert tried == [("lite", 3)]
    assert (view.workers[0].basis, view.workers[0].images_per_second) == ("trial", Range(2.0, 4.0))
    assert view.hours == Range(2.5, 5.0)
    measure(services.engine, "lite", "cpu", [10.0])
    assert services.jobs.estimate(str(folder), JobWishes(), Amounts(), trial).workers[0].basis == "measured"
    assert len(tried) == 1


@pytest.mark.slow
def test_an_estimate_by_trial_and_one_by_measured_rates_hold_for_the_job_itself(
    services: Services, archive: Path, tmp_path: Path, broker_url: str
) -> None:
    """The job is worked on by one real worker. Images and bytes are in the ranges; hours follow from the rates.

    Whether the job takes these hours is not asserted: other work may come and go between the trial and the job.
    """
    root = tmp_path / "photographs"
    for number in range(12):
        shutil.copytree(archive, root / f"{number:02}", ignore=shutil.ignore_patterns("odd"))
    for number, path in enumerate(sorted(root.rglob("*.*"))):  # no two have the same bytes
        with path.open("ab") as file:
            file.write(number.to_bytes(4, "big"))
    environment = {
        "RAMQ_DATA_DIR": str(services.settings.data_dir),
        "RAMQ_DATABASE_URL": services.engine.url.set(drivername="postgresql").render_as_string(hide_password=False),
        "RAMQ_BROKER_URL": broker_url,
        "RAMQ_DECODE_THREADS": "2",
        "RAMQ_BATCH_SIZE": "8",
    }
    before = size_of_database(services)
    told = run_here(["estimate", str(root), "--json", "--cpu-hour-price", "1"], environment)
    assert told.returncode == 0, told.stderr
    by_trial = json.loads(told.stdout)
    assert by_trial["workers"][0]["basis"] == "trial"

    job = services.jobs.create(str(root))
    worker = make_worker(services)
    while not services.jobs.get(job.id).is_over:
        worker.work()
    worker._publish()
    worker.leave()
    done = services.jobs.get(job.id)
    assert by_trial["images"]["low"] == done.done + done.failed
    grown = size_of_database(services) - before
    assert by_trial["database_bytes"]["low"] <= grown <= by_trial["database_bytes"]["high"]
    published = sum(path.stat().st_size for path in (services.settings.data_dir / "index").rglob("*") if path.is_file())
    assert by_trial["index_bytes"]["low"] <= published <= by_trial["index_bytes"]["high"]
    tried = by_trial["workers"][0]["images_per_second"]
    assert by_trial["hours"]["low"] == pytest.approx(by_trial["images"]["low"] / tried["high"] / 3_600)
    assert by_trial["hours"]["high"] == pytest.approx(by_trial["images"]["high"] / tried["low"] / 3_600)

    measured = services.jobs.estimate(str(root), JobWishes())
    assert measured.workers[0].basis == "measured"
    with unit_of_work(services.engine) as session:
        rate = session.scalar(text("SELECT sum(images) / sum(seconds) FROM pace WHERE stage = 'recognition'"))
    assert inside(done.done / rate / 3_600, measured.hours), (measured.hours, rate)


def test_the_command_says_it_in_words(services: Services, folder: Path, broker_url: str) -> None:
    measure(services.engine, "lite", "cpu", [10.0])
    environment = {
        "RAMQ_DATA_DIR": str(services.settings.data_dir),
        "RAMQ_DATABASE_URL": services.engine.url.set(drivername="postgresql").render_as_string(hide_password=False),
        "RAMQ_BROKER_URL": broker_url,
    }
    done = run_here(["estimate", str(folder), "--images", "36000", "--cpu-hour-price", "2"], environment)
    assert done.returncode == 0, done.stderr
    lines = {
        name.strip(): words.strip() for name, _, words in (line.partition(":") for line in done.stdout.splitlines())
    }
    assert lines["images"] == "36,000"
    assert lines["recognition, lite"].endswith("images/s (measured)")
    assert lines["time"].endswith(", on assumed workers")
    assert " to " in lines["cost"]
    wrong = run_here(["estimate", str(folder), "--device", "tpu"], environment)
    assert (wrong.returncode, "unknown kind of device 'tpu'" in wrong.stderr) == (2, True)


def test_trials_of_pictures_that_nobody_can_read_are_refused(services: Services, folder: Path) -> None:

    with pytest.raises(UsageError, match="none of the pictures in the sample can be read"):
        services.jobs.estimate(str(folder), JobWishes(), Amounts(), trial_of(services.settings))


def test_the_page_says_it_before_the_job_is_started(client: TestClient, folder: Path) -> None:
    services = services_of(client)
    measure(services.engine, "lite", "cpu", [10.0])
    jobs = len(services.jobs.list().items)
    page = client.post("/jobs", data={"source": str(folder), "then": "estimate"})
    assert page.status_code == 200
    assert "What this job would take" in page.text
    assert "<dt>images</dt><dd>3</dd>" in page.text
    assert f'value="{folder}"' in page.text  # the form stays as it was filled in
    assert len(services.jobs.list().items) == jobs
    wrong = client.post("/jobs", data={"source": str(folder / "none"), "then": "estimate"})
    assert 'role="alert"' in wrong.text
    assert "What this job would take" not in client.get("/jobs").text
