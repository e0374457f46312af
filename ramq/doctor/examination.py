"""All checks, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.addresses import addresses
from ramq.doctor.archives import archive
from ramq.doctor.database import database, database_clock, places, restore_findings, standby, upkeep_findings
from ramq.doctor.index import index, shadow
from ramq.doctor.machine import device, disks, versions
from ramq.doctor.models import model_files, towers
from ramq.doctor.services import alive_workers, broker, watches, webhook
from ramq.findings import Finding
from storage import revision
from storage.database import make_engine
from storage.errors import RamqError
from storage.texts import without_secrets

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ramq.settings import Settings


def examine(settings: Settings, source: str | None = None) -> list[Finding]:
    """Run every check and return the results.

    Args:
        settings: the effective settings.
        source: an archive to check in addition to those in ``RAMQ_ARCHIVE_ALLOW``.
    """
    findings = [versions(), *disks(settings), device(settings), *model_files(settings)]
    try:
        with addresses(settings) as (database_url, broker_url):
            engine = make_engine(database_url)
            try:
                findings += _services(settings, engine, broker_url)
            finally:
                engine.dispose()
    except RamqError as error:
        next_command = f"tail {settings.data_dir}/logs/*.log" if settings.is_embedded else "ramq db run psql"
        findings.append(Finding("database", "fault", without_secrets(str(error)), next_command))
    for address in dict.fromkeys([*settings.archive_allow, *([source] if source else [])]):
        findings += archive(settings, address)
    return findings


def _services(settings: Settings, engine: Engine, broker_url: str | None) -> list[Finding]:
    if settings.is_embedded:
        revision.bring_up_to_date(engine)
    found = [broker(broker_url), database(engine)]
    if found[-1].state == "fault":
        return found  # the other checks would fail for the same reason
    found += [
        database_clock(engine),
        *upkeep_findings(engine),
        *restore_findings(settings, engine),
        *places(settings, engine),
        *standby(settings, engine),
        alive_workers(engine),
        *towers(settings, engine),
    ]
    return [
        *found,
        *webhook(settings, engine),
        *watches(engine),
        *index(settings, engine),
        *shadow(settings, engine),
    ]
