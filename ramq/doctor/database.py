"""Checks of the database and its standby, of what keeps it from cleaning up, and of what a restore leaves to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ramq.doctor.machine import clock
from ramq.findings import Finding, fault
from storage import revision, upkeep
from storage.database import server_time, server_version, unit_of_work
from storage.errors import RamqError, ServiceUnavailableError
from storage.results import metadata, restamping
from storage.standby import Databases, make_standby_engine
from storage.texts import plural, without_secrets

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ramq.settings import Settings


def database(engine: Engine) -> Finding:
    """Check that the database answers and has the schema of this version."""
    try:
        if revision.current(engine) is None:
            return Finding("database", "fault", "it is empty; the tables of ramq must be created", "ramq db upgrade")
        revision.require_current(engine)
        with unit_of_work(engine) as session:
            server = server_version(session)
    except ServiceUnavailableError as error:
        return fault("database", error, "ramq db run psql")
    except RamqError as error:
        return fault("database", error, "ramq db upgrade")
    return Finding("database", "ok", f"PostgreSQL {server}, revision {revision.head()}")


def database_clock(engine: Engine) -> Finding:
    """Compare the clock of this machine with the database's."""
    with unit_of_work(engine) as session:
        return clock(server_time(session), "the database's")


def standby(settings: Settings, engine: Engine) -> list[Finding]:
    """Check whether searches read the standby, if there is one."""
    if settings.search_database_url is None:
        return []
    standby = make_standby_engine(settings.search_database_url)
    databases = Databases(engine, standby, most_behind_seconds=settings.search_behind_seconds)
    ask = 'psql "$RAMQ_SEARCH_DATABASE_URL"'
    try:
        with databases.watched():
            is_used = databases.chosen is standby
            if not is_used:
                detail = f"searches read the database itself, not the standby: {databases.why_not_standby}"
                state: Literal["note", "fault"] = "note" if databases.is_promoted else "fault"
                return [Finding("standby", state, without_secrets(detail), ask)]
            revision.require_current(standby)
            behind = databases.behind_seconds or 0.0
    except RamqError as error:
        return [fault("standby", error, ask)]
    finally:
        standby.dispose()
    return [Finding("standby", "ok", f"used for searches; {behind:,.0f} s behind the database")]


def upkeep_findings(engine: Engine) -> list[Finding]:
    """Look for what keeps the database from cleaning up after itself."""
    with unit_of_work(engine) as session:
        found = [
            Finding("upkeep", "fault" if each.is_fault else "note", without_secrets(each.detail), each.next)
            for each in upkeep.troubles(session)
        ]
    return found or [Finding("upkeep", "ok", "nothing keeps the database from cleaning up")]


def places(settings: Settings, engine: Engine) -> list[Finding]:
    """Look for places of images that the settings forbid, such as those that a restore brought back."""
    with unit_of_work(engine) as session:
        if settings.keep_place or not metadata.is_any_place(session):
            return []
    detail = "RAMQ_KEEP_PLACE is false, but it is stored where images were taken, by earlier jobs or since a restore"
    return [Finding("places", "note", detail, "ramq forget-places")]


def restore_findings(settings: Settings, engine: Engine) -> list[Finding]:
    """Look for what a restore leaves to do."""
    from ramq.services.index import make_place  # noqa: PLC0415  (an S3 client)
    from storage.index import erasure_log  # noqa: PLC0415

    findings = []
    try:
        with unit_of_work(engine) as session:
            if restamping.is_restored(session):
                detail = "it was restored from a dump, and its rows look as if they changed all the time"
                findings.append(Finding("restore", "fault", detail, "ramq db upgrade"))
            deletions, damaged = erasure_log.unknown(session, make_place(settings))
    except RamqError as error:
        return [*findings, fault("restore", error, "env | grep RAMQ_INDEX_URL")]
    back = sum(len(each.same) for each in deletions)
    if back:
        detail = f"{plural(back, 'image')} that were deleted after the backup was taken are here again"
        findings.append(Finding("restore", "fault", detail, "ramq delete --again"))
    elif renamed := sum(len(each.renamed) for each in deletions):
        detail = f"{plural(renamed, 'image')} with another name have the numbers of images that were deleted"
        findings.append(Finding("restore", "note", detail, "ramq delete --again"))
    if damaged:
        detail = f"the log of deletions has damaged files; copy them from a backup again: {', '.join(damaged)}"
        findings.append(Finding("restore", "fault", detail, "ramq delete --again"))
    return findings
