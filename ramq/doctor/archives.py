"""Checks of archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ramq.doctor.machine import clock
from ramq.findings import Finding, fault
from storage.errors import RamqError
from storage.objects.ignoring import Ignoring, Selection
from storage.objects.source import open_bucket, open_store, parse_source
from storage.objects.tars import is_damage
from storage.texts import without_secrets

if TYPE_CHECKING:
    from ramq.settings import Settings


def archive(settings: Settings, source: str) -> list[Finding]:
    """List an archive, and read its first object. These are two permissions, and either may be missing."""
    try:
        place = parse_source(source)
        store = open_store(place, settings.s3)
        store.check()
        pages = store.pages(place.prefix, None, Ignoring(Selection(), place.kind, place.prefix, place.prefix))
        found = (info for page in pages for info in page if not info.ignored)
        first = next((info for info in found if not is_damage(info.version)), None)
        version_now = store.stat(first.key, first.version).version if first else ""
    except RamqError as error:
        plain = source.removeprefix("tar+")
        next_command = f"aws s3 ls {plain}" if plain.startswith("s3://") else f"ls -ld {plain}"
        return [fault("archive", error, next_command)]
    name = without_secrets(place.uri)
    if first and version_now.startswith("!"):
        detail = f"{name} can be listed, but {first.key} cannot be read ({version_now[1:]}); allow s3:GetObject"
        return [Finding("archive", "fault", detail, f"aws s3 cp '{name}/{first.key}' -")]
    able = "can be listed and read" if first else "can be listed, and is empty"
    findings = [Finding("archive", "ok", f"{name} {able}")]
    if place.scheme == "s3":
        theirs = open_bucket(place.root, settings.s3).time()
        findings += [clock(theirs, "S3's")] if theirs else []
    return findings
