"""The checks of ``ramq doctor``: versions, disks, device, models, services and archives.

Each check returns one line. Checks do not raise errors. A failed check names the command to run next.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from ram_core.spaces import RECOGNISERS, TOWERS
from ramq.addresses import addresses
from ramq.broker import broker_client, check_broker
from ramq.database_checks import restore_findings, upkeep_findings
from ramq.findings import Finding, fault
from storage import revision
from storage.database import make_engine, server_time, server_version, unit_of_work
from storage.errors import RamqError, ServiceUnavailableError
from storage.ledger import shards, watch_views, webhook_deliveries
from storage.ledger import workers as worker_rows
from storage.objects.ignoring import Ignoring, Selection
from storage.objects.source import open_bucket, open_store, parse_source
from storage.objects.tars import is_damage
from storage.results import generations, index_rows
from storage.results.spaces import SPACES
from storage.standby import Databases, make_standby_engine
from storage.texts import plural, without_secrets
from workers.messages import kind_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ramq.settings import Settings
    from storage.tables import Generation

_LEAST_FREE_BYTES = 2 * 1024**3
_CLOCK_SECONDS = 5.0
_LATE_SECONDS = 600.0
"""A listing that is overdue, or an event that waits, for longer than this is a fault, as in the shipped alerts."""
_MANY_WAITING = 100_000
"""More vectors than this outside the segments make searches slow."""


def examine(settings: Settings, source: str | None = None) -> list[Finding]:
    """Run every check and return the results.

    Args:
        settings: the effective settings.
        source: an archive to check in addition to those in ``RAMQ_ARCHIVE_ALLOW``.
    """
    findings = [_versions(), *_disks(settings), _device(settings), *_models(settings)]
    try:
        with addresses(settings) as (database_url, broker_url):
            engine = make_engine(database_url)
            try:
                findings += _services(settings, engine, broker_url)
            finally:
                engine.dispose()
    except RamqError as error:
        next_command = f"tail {settings.data_dir}/logs/*.log" if settings.is_embedded else 'psql "$RAMQ_DATABASE_URL"'
        findings.append(Finding("database", "fault", without_secrets(str(error)), next_command))
    for archive in dict.fromkeys([*settings.archive_allow, *([source] if source else [])]):
        findings += _archive(settings, archive)
    return findings


def _services(settings: Settings, engine: Engine, broker_url: str | None) -> list[Finding]:
    if settings.is_embedded:
        revision.bring_up_to_date(engine)
    found = [_broker(broker_url), _database(engine)]
    if found[-1].state == "fault":
        return found  # the other checks would fail for the same reason
    found += [
        _database_clock(engine),
        *upkeep_findings(engine),
        *restore_findings(settings, engine),
        *_standby(settings, engine),
        _workers(engine),
        *_towers(settings, engine),
    ]
    return [
        *found,
        *_webhook(settings, engine),
        *_watches(engine),
        *_index(settings, engine),
        *_shadow(settings, engine),
    ]


def _versions() -> Finding:
    names = ("ramq", "torch", "timm", "transformers", "celery", "sqlalchemy", "faiss-cpu", "faiss-gpu", "obstore")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return Finding("versions", "ok", f"Python {platform.python_version()}, {', '.join(found)}")


def _disks(settings: Settings) -> list[Finding]:
    """Check each folder that ramq writes to. Check folders on the same disk only once."""
    folders = [settings.data_dir, settings.cache_path]
    index = urlsplit(settings.index_location)
    if index.scheme == "file":
        folders.append(Path(unquote(index.path)))
    seen: dict[int, Finding] = {}
    for folder in folders:
        existing = folder
        while not existing.exists():
            existing = existing.parent
        seen.setdefault(existing.stat().st_dev, _disk(folder, existing))
    return list(seen.values())


def _disk(folder: Path, existing: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding("disk", "fault", f"cannot write to {existing}: {error.strerror}", f"ls -ld {existing}")
    free = shutil.disk_usage(existing).free
    detail = f"{free / 1024**3:,.1f} GiB free at {folder}"
    if free < _LEAST_FREE_BYTES:
        return Finding("disk", "fault", f"{detail}: workers will stop when it is full", f"du -sh {folder}/*")
    return Finding("disk", "ok", detail)


def _device(settings: Settings) -> Finding:
    if find_spec("torch") is None:
        return Finding("device", "fault", "torch is not installed", "pip install --force-reinstall ramq")
    import torch  # noqa: PLC0415  (takes seconds; only this check needs it)

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if settings.device.startswith("cuda"):
        number = int(settings.device.partition(":")[2] or 0)
        if number >= len(gpus):
            detail = f"RAMQ_DEVICE is {settings.device}, but torch finds {plural(len(gpus), 'GPU')}"
            return Finding("device", "fault", detail, "nvidia-smi")
    if gpus and settings.device != "cpu":
        return Finding("device", "ok", ", ".join(gpus))
    detail = "the CPU is used" if gpus else "no GPU; the CPU is used"
    from ram_core.errors import DeviceError  # noqa: PLC0415
    from ram_core.tag_precision import choose_for_tags  # noqa: PLC0415  (torch)

    try:
        chosen = choose_for_tags(settings.precision, torch.device("cpu"), model=settings.model)
    except DeviceError as error:
        return Finding("device", "fault", f"RAMQ_PRECISION is {settings.precision}, but {error}", "set RAMQ_PRECISION")
    return Finding("device", "ok", f"{detail}, in {chosen.name}: {chosen.why}")


def _models(settings: Settings) -> list[Finding]:
    """Read the files of the models that the settings name and compare their hashes."""
    from ram_core.checkpoints import FileState, find, verify  # noqa: PLC0415
    from ram_core.errors import ModelError  # noqa: PLC0415

    if settings.model == "lite" and settings.captioner != "tag2text":
        return [Finding("model files", "ok", "lite comes with ramq")]
    findings = []
    for name in dict.fromkeys([settings.model, *(["tag2text"] if settings.captioner == "tag2text" else [])]):
        if name == "lite":
            continue
        if "@" in name:
            findings.append(_trained(name, settings))
            continue
        damaged = [file for file in verify(name, settings.models_path) if file.state is FileState.DAMAGED]
        if damaged:
            detail = "; ".join(f"{file.path}: {file.detail}" for file in damaged)
            findings.append(Finding("model files", "fault", detail, f"ramq models verify {name}"))
            continue
        try:
            files = find(name, settings.models_path)
        except ModelError as error:
            findings.append(Finding("model files", "fault", str(error), f"ramq models pull {name}"))
        else:
            findings.append(Finding("model files", "ok", f"{name}: {len(files)} files in {settings.models_path}"))
    return findings


def _trained(name: str, settings: Settings) -> Finding:
    from ram_core.errors import ModelError  # noqa: PLC0415
    from ram_core.trained import find_trained  # noqa: PLC0415

    try:
        found = find_trained(name, settings.models_path)
    except ModelError as error:
        return Finding("model files", "fault", str(error), "ramq models list")
    if fault := found.verify():
        return Finding("model files", "fault", fault, f"ramq models verify {name}")
    return Finding("model files", "ok", f"{name}: {found.summary}")


def _towers(settings: Settings, engine: Engine) -> list[Finding]:
    """Compare the weights here with those that made the vectors of spaces in use: searches need the same ones."""
    with unit_of_work(engine) as session:
        found = [generations.default(session, space) for space in SPACES]
    return [_tower(settings, each) for each in found if each is not None and kind_of(each.model) not in RECOGNISERS]


def _tower(settings: Settings, generation: Generation) -> Finding:
    weights = settings.models_path / generation.model / "model.safetensors"
    what = f"{generation.model}, which made the vectors of {generation.stage}"
    pull = f"ramq models pull {generation.model}" if generation.model in TOWERS else f"ls {settings.models_path}"
    try:
        with weights.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        detail = f"{what}, cannot be read ({error.strerror}): this machine cannot compare with them"
        return Finding("model files", "fault", detail, pull)
    if digest != generation.weights_sha256:
        detail = f"{what}, has other weights here: this machine cannot compare with them"
        return Finding("model files", "fault", detail, "ramq stages")
    return Finding("model files", "ok", f"{what}, has the same weights here")


def _database(engine: Engine) -> Finding:
    try:
        if revision.current(engine) is None:
            return Finding("database", "fault", "it is empty; the tables of ramq must be created", "ramq db upgrade")
        revision.require_current(engine)
        with unit_of_work(engine) as session:
            server = server_version(session)
    except ServiceUnavailableError as error:
        return fault("database", error, 'psql "$RAMQ_DATABASE_URL"')
    except RamqError as error:
        return fault("database", error, "ramq db upgrade")
    return Finding("database", "ok", f"PostgreSQL {server}, revision {revision.head()}")


def _database_clock(engine: Engine) -> Finding:
    with unit_of_work(engine) as session:
        return _clock(server_time(session), "the database's")


def _standby(settings: Settings, engine: Engine) -> list[Finding]:
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


def _clock(theirs: datetime, whose: str) -> Finding:
    off = abs((datetime.now(UTC) - theirs).total_seconds())
    if off > _CLOCK_SECONDS:
        detail = f"this clock and {whose} differ by {off:,.0f} s; S3 refuses requests with a wrong time"
        return Finding("clock", "fault", detail, "timedatectl status")
    return Finding("clock", "ok", f"differs by {off:.2f} s from {whose}")


def _broker(url: str | None) -> Finding:
    if url is None:
        return Finding("broker", "fault", "RAMQ_BROKER_URL is not set, so workers get no wake-ups", "env | grep RAMQ_")
    try:
        check_broker(url)
        info = broker_client(url).info("server")
    except RamqError as error:
        return fault("broker", error, 'redis-cli -u "$RAMQ_BROKER_URL" ping')
    return Finding("broker", "ok", f"Redis {info['redis_version']}")


def _workers(engine: Engine) -> Finding:
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


def _webhook(settings: Settings, engine: Engine) -> list[Finding]:
    with unit_of_work(engine) as session:
        again, lost, job_id = webhook_deliveries.troubled(session)
    if job_id is not None:
        detail = f"undelivered webhook deliveries: {again} retrying, {lost} given up"
        return [Finding("webhook", "note", detail, f"ramq job {job_id}")]
    return [Finding("webhook", "ok", "no undelivered webhook deliveries")] if settings.webhook_url else []


def _watches(engine: Engine) -> list[Finding]:
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


def _index(settings: Settings, engine: Engine) -> list[Finding]:
    from ramq.services.index import make_index  # noqa: PLC0415  (faiss)

    try:
        index = make_index(settings)
        index.check()
        with unit_of_work(engine) as session:
            views = [index.status(session, generation_id) for generation_id in index_rows.indexed(session)]
    except RamqError as error:
        return [fault("index", error, "env | grep RAMQ_INDEX_URL")]
    findings = []
    for view in views:
        if view.manifest is not None and not view.segments and view.vectors_stored:
            detail = f"generation {view.generation_id}: the index at {settings.index_location} cannot be read"
            findings.append(Finding("index", "fault", without_secrets(detail), "ramq index rebuild"))
        elif view.delta > _MANY_WAITING:
            detail = f"generation {view.generation_id}: {view.delta:,} vectors are not in segments, so search is slow"
            findings.append(Finding("index", "fault", detail, "ramq index compact"))
    if findings:
        return findings
    stored, indexed = sum(view.vectors_stored for view in views), sum(view.vectors_indexed for view in views)
    place = without_secrets(settings.index_location)
    return [Finding("index", "ok", f"{indexed:,} of {stored:,} vectors in the index at {place}")]


def _shadow(settings: Settings, engine: Engine) -> list[Finding]:
    if settings.shadow_index_url is None:
        return []
    from ramq.services.shadow import make_shadow_index  # noqa: PLC0415  (faiss)

    try:
        index = make_shadow_index(settings)
        index.check()
        with unit_of_work(engine) as session:
            views = [index.status(session, generation_id) for generation_id in index_rows.indexed(session)]
    except RamqError as error:
        return [fault("shadow", error, "env | grep RAMQ_SHADOW_INDEX_URL")]
    stored, indexed = sum(view.vectors_stored for view in views), sum(view.vectors_indexed for view in views)
    place = without_secrets(settings.shadow_index_url)
    detail = f"{indexed:,} of {stored:,} vectors in the shadow of the index at {place}"
    is_filled = indexed or not stored
    return [Finding("shadow", *(("ok", detail) if is_filled else ("note", detail, "ramq index shadow build")))]


def _archive(settings: Settings, source: str) -> list[Finding]:
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
        findings += [_clock(theirs, "S3's")] if theirs else []
    return findings
