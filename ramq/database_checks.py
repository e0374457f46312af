"""Checks of ``ramq doctor`` on the database: what a restore leaves to do, and what keeps it from cleaning up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.findings import Finding, fault
from storage import upkeep
from storage.database import unit_of_work
from storage.errors import RamqError
from storage.results import restamping
from storage.texts import plural, without_secrets

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ramq.settings import Settings


def upkeep_findings(engine: Engine) -> list[Finding]:
    """Look for what keeps the database from cleaning up after itself."""
    with unit_of_work(engine) as session:
        found = [
            Finding("upkeep", "fault" if each.is_fault else "note", without_secrets(each.detail), each.next)
            for each in upkeep.troubles(session)
        ]
    return found or [Finding("upkeep", "ok", "nothing keeps the database from cleaning up")]


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
