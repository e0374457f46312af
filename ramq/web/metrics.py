"""The metrics for Prometheus: counters of the jobs, workers, the index and the disk, and durations of searches."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ramq.readiness import is_ok
from ramq.web.shadow_metrics import ShadowMetrics
from storage.errors import RamqError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from prometheus_client.metrics_core import Metric
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ramq.services.backlog import BacklogView
    from ramq.wiring import Services
    from storage.index.status import Lag
    from storage.ledger.quota_use import UseView
    from storage.ledger.views import JobView
    from storage.ledger.watch_views import WatchView
    from storage.standby import Databases

RECENT_JOBS = 50
"""The number of jobs with metrics of their own, newest first. It is limited because every job is a time series."""

MOST_USERS = 20
"""The number of users with metrics of their own: those with the most images in flight."""


class WebMetrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._registry = CollectorRegistry()
        self._registry.register(_JobMetrics(services))
        if services.settings.shadow_index_url is not None:
            self._registry.register(ShadowMetrics(services.shadow.comparer.tally))
        self._search = Histogram(
            "ramq_search_seconds",
            "Duration of a search.",
            ["kind"],
            registry=self._registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self._requests = Counter(
            "ramq_http_requests", "Answered requests.", ["method", "route", "status"], registry=self._registry
        )

    def counting(self, app: ASGIApp) -> ASGIApp:
        """Wrap ``app`` so that every answer is counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_counted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    # Use the route's pattern, because every distinct path would be a time series of its own.
                    route = getattr(scope.get("route"), "path", "none")
                    self._requests.labels(_method(scope), route, str(message["status"])).inc()
                await send(message)

            await app(scope, receive, send_counted if scope["type"] == "http" else send)

        return counted

    def search_seconds(self, kind: str) -> AbstractContextManager[Any]:
        """Measure the duration of a search of ``kind`` (``query`` or ``image``)."""
        return self._search.labels(kind).time()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def text_of_services(self) -> bytes:
        """Return only which services are available."""
        registry = CollectorRegistry()
        registry.register(_ServiceMetrics(self._services))
        return generate_latest(registry)


def _method(scope: Scope) -> str:
    # Clients may send any method, and must not be able to create labels with it.
    method: str = scope["method"]
    return method if method in {"GET", "HEAD", "POST", "PUT", "DELETE"} else "other"


class _ServiceMetrics(Collector):
    """Asks the services at each scrape."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterator[Metric]:
        """Yield nothing, because registering must not read the database."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield which services are available."""
        up = GaugeMetricFamily("ramq_service_up", "Whether a required service is available.", labels=["service"])
        for name, state in self._services.ready().items():
            up.add_metric([name], float(is_ok(state)))
        yield up
        yield from _search_metrics(self._services.databases)


class _JobMetrics(_ServiceMetrics):
    """Reads the jobs and workers at each scrape too, so that the numbers are those of the database."""

    def collect(self) -> Iterator[Metric]:
        """Yield everything that is not counted in this process."""
        yield from super().collect()
        yield from _disk_metrics(self._services.settings.data_dir)
        try:
            jobs = self._services.jobs.list(limit=RECENT_JOBS, fold=True).items
            workers = self._services.jobs.workers()
            watches = self._services.watches.list()
            used = self._services.quotas.use()
            backlog = self._services.jobs.backlog()
            lags = self._services.index.lags()
        except RamqError:
            # `ramq_service_up` reports the error. Zeros here would look like an empty queue.
            return
        yield from _job_metrics(jobs)
        yield from _watch_metrics(watches)
        yield _user_metrics(used)
        yield from _backlog_metrics(backlog)
        yield from _index_metrics(lags)
        alive = GaugeMetricFamily("ramq_workers_alive", "Workers with a recent heartbeat.", labels=["device"])
        for device in {worker.device for worker in workers}:
            alive.add_metric([device], sum(worker.is_alive for worker in workers if worker.device == device))
        yield alive


def _search_metrics(databases: Databases) -> Iterator[Metric]:
    """Yield which database searches read, if there is a standby."""
    if databases.standby is None:
        return
    is_used = databases.why_not_standby is None
    yield GaugeMetricFamily("ramq_search_reads_standby", "Whether searches read the standby.", value=float(is_used))
    behind = databases.behind_seconds
    if behind is not None:
        yield GaugeMetricFamily("ramq_search_standby_behind_seconds", "How far the standby is behind.", value=behind)
    yield CounterMetricFamily(
        "ramq_search_fallbacks", "Reads that began again because the standby failed.", value=databases.fallbacks
    )


def _job_metrics(jobs: list[JobView]) -> Iterator[Metric]:
    images = GaugeMetricFamily("ramq_job_images", "Images of a job by outcome.", labels=["job_id", "outcome"])
    rate = GaugeMetricFamily("ramq_job_images_per_second", "Current rate of a job.", labels=["job_id"])
    ignored = GaugeMetricFamily("ramq_job_ignored_keys", "Keys that a job left out.", labels=["job_id", "reason"])
    for job in jobs:
        for reason, count in job.ignored_by_reason.items():
            ignored.add_metric([str(job.id), reason], count)
        for outcome in ("done", "skipped", "failed", "pending"):
            images.add_metric([str(job.id), outcome], getattr(job, outcome))
        if job.images_per_second is not None:
            rate.add_metric([str(job.id)], job.images_per_second)
    yield images
    yield ignored
    yield rate
    running = [job for job in jobs if job.state == "running"]
    backlog = "Pending images of all running jobs."
    yield GaugeMetricFamily("ramq_backlog_images", backlog, value=sum(job.pending for job in running))
    yield GaugeMetricFamily("ramq_jobs_running", "Running jobs.", value=len(running))


def _user_metrics(used: list[UseView]) -> Metric:
    """Return the images in flight of the users with the most of them. All others are one series with an empty name."""
    images = GaugeMetricFamily("ramq_user_images_waiting", "Images in flight of a user.", labels=["user"])
    waiting = [each for each in used if each.subject == "user" and each.images_waiting]
    for each in waiting[:MOST_USERS]:
        images.add_metric([each.name], each.images_waiting)
    images.add_metric([""], sum(each.images_waiting for each in waiting[MOST_USERS:]))
    return images


def _backlog_metrics(backlog: BacklogView) -> Iterator[Metric]:
    """Yield what waits for each kind of worker, also where that is nothing: an autoscaler needs the zero."""
    labels = ["kind", "priority"]
    images = GaugeMetricFamily("ramq_waiting_images", "Images that wait for a kind of worker.", labels=labels)
    shards = GaugeMetricFamily("ramq_waiting_shards", "Shards likewise, at most 1,000 of each job.", labels=labels)
    listings = GaugeMetricFamily("ramq_waiting_listings", "Listings and due watches likewise.", labels=labels)
    seconds = GaugeMetricFamily(
        "ramq_waiting_seconds", "How long one worker on such a device needs for them.", labels=[*labels, "device"]
    )
    rate = GaugeMetricFamily("ramq_worker_images_per_second", "Measured rate of one worker.", labels=["kind", "device"])
    for item in backlog.items:
        label = [item.kind, item.priority]
        images.add_metric(label, item.images)
        shards.add_metric(label, item.shards)
        listings.add_metric(label, item.listings)
        for each in item.devices:
            seconds.add_metric([*label, each.device], each.seconds)
    for kind, device, images_per_second in backlog.measured:
        rate.add_metric([kind, device], images_per_second)
    yield from (images, shards, listings, seconds, rate)


def _index_metrics(lags: list[Lag]) -> Iterator[Metric]:
    label = ["generation_id"]
    waiting = GaugeMetricFamily("ramq_index_waiting_rows", "Rows newer than the published index.", labels=label)
    age = GaugeMetricFamily("ramq_index_published_age_seconds", "Time since the index was published.", labels=label)
    for lag in lags:
        waiting.add_metric([str(lag.generation_id)], lag.waiting_rows)
        if lag.published_at is not None:
            elapsed = datetime.now(UTC) - lag.published_at
            age.add_metric([str(lag.generation_id)], elapsed.total_seconds())
    yield waiting
    yield age


def _disk_metrics(folder: Path) -> Iterator[Metric]:
    """Yield how full the disk of the data folder is, on the machine of the web server."""
    existing = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    try:
        disk = shutil.disk_usage(existing)
    except OSError:  # a disk that is gone has no numbers; ``ramq_service_up`` tells what does not work for it
        return
    yield GaugeMetricFamily("ramq_disk_free_bytes", "Free bytes on the disk of RAMQ_DATA_DIR.", value=disk.free)
    yield GaugeMetricFamily("ramq_disk_size_bytes", "Size of the disk of RAMQ_DATA_DIR.", value=disk.total)


def _watch_metrics(watches: list[WatchView]) -> Iterator[Metric]:
    """Yield how the watches are doing. Those that are paused have no metrics: nobody has to be told of them."""
    named = {
        name: GaugeMetricFamily(name, words, labels=["watch_id"])
        for name, words in (
            ("ramq_watch_events_waiting", "Keys that events named and no job has looked at."),
            ("ramq_watch_oldest_event_seconds", "Age of the oldest of these keys; 0: there are none."),
            ("ramq_watch_every_seconds", "How often everything is to be listed."),
            (
                "ramq_watch_listing_age_seconds",
                "Time since everything was listed and worked off.",
            ),
            ("ramq_watch_listing_overdue_seconds", "By how much the next listing is late."),
            ("ramq_watch_failures", "Jobs of the watch that failed since one succeeded."),
            ("ramq_watch_is_told", "Whether events are received; 1 too if none are wanted."),
        )
    }
    for watch in watches:
        if watch.state == "paused":
            continue
        label = [str(watch.id)]
        named["ramq_watch_events_waiting"].add_metric(label, watch.events_waiting)
        named["ramq_watch_oldest_event_seconds"].add_metric(label, watch.oldest_event_seconds or 0.0)
        named["ramq_watch_every_seconds"].add_metric(label, watch.every_seconds)
        named["ramq_watch_listing_overdue_seconds"].add_metric(label, watch.overdue_seconds)
        named["ramq_watch_failures"].add_metric(label, watch.failures)
        named["ramq_watch_is_told"].add_metric(label, float(watch.is_told or watch.events == "none"))
        age = datetime.now(UTC) - (watch.listed_at or watch.created_at)
        named["ramq_watch_listing_age_seconds"].add_metric(label, age.total_seconds())
    yield from named.values()
