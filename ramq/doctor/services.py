"""Checks of what runs beside the database: the broker, workers, watches, the webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.broker import broker_client, check_broker
from ramq.findings import Finding, fault
from storage.database import unit_of_work
from storage.errors import RamqError
from storage.ledger import shards, watch_views, webhook_deliveries
from storage.ledger import workers as worker_rows
from storage.texts import plural, without_secrets

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ramq.settings import Settings

_LATE_SECONDS = 600.0
"""A listing that is overdue, or an event that waits, for longer than this is a fault, as in the shipped alerts."""


def broker(url: str | None) -> Finding:
    """Check that the broker answers."""
    if url is None:
        return Finding("broker", "fault", "RAMQ_BROKER_URL is not set, so workers get no wake-ups", "env | grep RAMQ_")
    try:
        check_broker(url)
        info = broker_client(url).info("server")
    except RamqError as error:
        return fault("broker", error, 'redis-cli -u "$RAMQ_BROKER_URL" ping')
    return Finding("broker", "ok", f"Redis {info['redis_version']}")


def alive_workers(engine: Engine) -> Finding:
    """Check that workers are alive if images wait, and fit for their work."""
    with unit_of_work(engine) as session:
        views = worker_rows.views(session)
        waiting = bool(shards.backlog(session))
    alive = sum(view.is_alive for view in views)
    if waiting and not alive:
        return Finding("workers", "fault", "images are pending, but no worker is alive", "ramq worker")
    unfit = [(view, each) for view in views if view.is_alive for each in view.unfit]
    if unfit:
        detail = "; ".join(f"{v.host} (process {v.pid}) is unfit for {each.label}: {each.reason}" for v, each in unfit)
        return Finding("workers", "fault", without_secrets(f"{alive} alive; {detail}"), "ramq workers")
    # A worker that stops normally deletes its row, so the rows that are left belong to workers that crashed.
    silent = [f"{view.host} (process {view.pid})" for view in views if not view.is_alive]
    if silent:
        return Finding("workers", "note", f"{alive} alive; stopped responding: {', '.join(silent)}", "ramq workers")
    if not alive:
        return Finding("workers", "note", "no worker is running", "ramq up")
    return Finding("workers", "ok", f"{alive} alive")


def webhook(settings: Settings, engine: Engine) -> list[Finding]:
    """Look for deliveries of the webhook that did not arrive."""
    with unit_of_work(engine) as session:
        again, lost, job_id = webhook_deliveries.troubled(session)
    if job_id is not None:
        detail = f"undelivered webhook deliveries: {again} retrying, {lost} given up"
        return [Finding("webhook", "note", detail, f"ramq job {job_id}")]
    return [Finding("webhook", "ok", "no undelivered webhook deliveries")] if settings.webhook_url else []


def watches(engine: Engine) -> list[Finding]:
    """Look for watches that fail, are late, or are not told of changes."""
    with unit_of_work(engine) as session:
        views = watch_views.views(session)
    findings = []
    for view in views:
        show = f"ramq watch show {view.id}"
        if view.state == "failing":
            detail = f"watch {view.id} failed {plural(view.failures, 'time')}: {view.error}"
            findings.append(Finding("watches", "fault", without_secrets(detail), show))
        elif view.state == "active" and view.events != "none" and not view.is_told:
            detail = f"watch {view.id} is not told of changes: {view.events_state}"
            findings.append(Finding("watches", "fault", without_secrets(detail), show))
        elif max(view.overdue_seconds, view.oldest_event_seconds or 0.0) > _LATE_SECONDS:
            findings.append(Finding("watches", "fault", f"watch {view.id} is late", show))
    if views and not findings:
        findings.append(Finding("watches", "ok", f"{plural(len(views), 'watch', 'watches')}, none fails or is late"))
    return findings
