"""A watched archive, its schedule and a planner, and time that passes when a test says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ramq.services.job_wishes import JobWishes
from storage.database import unit_of_work
from storage.ledger import watch_events
from workers.watching.schedule import Schedule

if TYPE_CHECKING:
    from ramq.wiring import Services
    from storage.ledger.views import JobView
    from storage.ledger.watch_views import WatchView
    from tests.plan import Plan

WISHES = JobWishes(model="lite", caption=False)

_TIMES = ("next_listing_at", "list_now_since", "listing_began_at", "listed_at", "not_before", "event_job_began_at")


@dataclass
class Watched:
    """Short words for what happens to a watch. ``plan`` does the jobs as a worker would."""

    services: Services
    plan: Plan
    id: int
    secret: str | None

    @classmethod
    def new(cls, services: Services, plan: Plan, source: str, **options: Any) -> Watched:
        added = services.watches.add(source, options.pop("wishes", WISHES), **{"settle_seconds": 0.0, **options})
        return cls(services, plan, added.watch.id, added.secret)

    @property
    def view(self) -> WatchView:
        return self.services.watches.get(self.id)

    def step(self) -> list[int]:
        return Schedule(self.services.engine).step()

    def tell(self, *keys: str) -> None:
        """Say that these keys changed."""
        with unit_of_work(self.services.engine) as session:
            watch_events.store(session, self.id, keys)

    def pass_time(self, seconds: float) -> None:
        """Let all that happened to the watch be so much longer ago."""
        moved = ", ".join(f"{name} = {name} - make_interval(secs => :seconds)" for name in _TIMES)
        self.plan.ledger.execute(f"UPDATE watch SET {moved}", seconds=seconds)
        self.plan.ledger.execute(
            "UPDATE watch_event SET first_at = first_at - make_interval(secs => :seconds), "
            "seen_at = seen_at - make_interval(secs => :seconds)",
            seconds=seconds,
        )

    def do(self, fail: dict[str, str] | None = None) -> list[JobView]:
        """Begin what is due and work it off. Return the jobs that were begun."""
        begun = self.step()
        self.plan.go_through()
        self.plan.work(fail)
        self.plan.go_through()
        self.step()
        return [self.plan.ledger.view(job_id) for job_id in begun]

    def look(self, *keys: str) -> JobView:
        """Tell of keys, and work off the one job that looks at them."""
        self.tell(*keys)
        self.pass_time(60)
        (job,) = self.do()
        assert job.of_keys
        return job

    def missing(self) -> set[str]:
        """The keys of images that are marked as missing."""
        keys = self.plan.ledger.scalar("SELECT array_agg(key) FROM image WHERE missing_since IS NOT NULL")
        return set(keys or ())

    def known(self) -> set[str]:
        """The keys of all images."""
        return set(self.plan.ledger.scalar("SELECT array_agg(key) FROM image") or ())
