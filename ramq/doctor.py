"""What is reachable, which versions, which device: each check in one line, none of them raising."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from sqlalchemy import text

from ramq.kit.errors import RamqError
from ramq.kit.logs import without_secrets
from ramq.wiring import addresses, broker_client, check_broker
from storage import revision
from storage.database import make_engine, unit_of_work
from storage.objects.source import open_store, parse_source
from storage.repositories import generations
from storage.repositories import workers as worker_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Engine

    from ramq.settings import Settings

_LEAST_FREE_BYTES = 2 * 1024**3
_CLOCK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: ``ok``, ``note`` (works, but you may want to know) or ``fault``."""

    name: str
    state: Literal["ok", "note", "fault"]
    detail: str


def examine(settings: Settings, source: str | None = None) -> list[Finding]:
    """Run every check and return what was found."""
    findings = [_versions(), _disk(settings), _device(settings), _models(settings)]
    try:
        with addresses(settings) as (database_url, broker_url):
            engine = make_engine(database_url)
            if settings.is_embedded:
                revision.bring_up_to_date(engine)
            findings += [
                _checked("database", lambda: _database(engine)),
                _checked("clock", lambda: _clock(engine)),
                _checked("broker", lambda: _broker(broker_url)),
                _checked("workers", lambda: _workers(engine)),
                _checked("index", lambda: _index(settings, engine)),
            ]
            engine.dispose()
    except RamqError as error:
        findings.append(Finding("database", "fault", without_secrets(str(error))))
    if source is not None:
        findings.append(_checked("source", lambda: _source(settings, source)))
    return findings


def _checked(name: str, check: Callable[[], tuple[Literal["ok", "note", "fault"], str]]) -> Finding:
    try:
        state, detail = check()
    except RamqError as error:
        return Finding(name, "fault", without_secrets(str(error)))
    return Finding(name, state, detail)


def _versions() -> Finding:
    names = ("ramq", "torch", "timm", "transformers", "celery", "sqlalchemy", "faiss-cpu", "faiss-gpu", "obstore")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return Finding("versions", "ok", f"Python {platform.python_version()}, {', '.join(found)}")


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1024**3:,.1f} GiB free at {settings.data_dir}"
    return Finding("disk", "ok" if free > _LEAST_FREE_BYTES else "fault", detail)


def _device(settings: Settings) -> Finding:
    if find_spec("torch") is None:
        return Finding("device", "fault", "torch is not installed: pip install ramq again")
    import torch  # noqa: PLC0415  (seconds; only this check needs it)

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    if settings.device.startswith("cuda") and not gpus:
        return Finding("device", "fault", f"RAMQ_DEVICE is {settings.device}, but torch sees no GPU")
    return Finding("device", "ok", f"{', '.join(gpus)}" if gpus else "no GPU; the CPU is used")


def _models(settings: Settings) -> Finding:
    if settings.model == "lite":
        return Finding("model files", "ok", "lite comes with ramq")
    from ram_core.checkpoints import find  # noqa: PLC0415
    from ram_core.errors import ModelError  # noqa: PLC0415

    try:
        files = find(settings.model, settings.models_path)
    except ModelError as error:
        return Finding("model files", "fault", str(error))
    return Finding("model files", "ok", f"{settings.model}: {len(files)} files in {settings.models_path}")


def _database(engine: Engine) -> tuple[Literal["ok"], str]:
    revision.require_current(engine)
    with unit_of_work(engine) as session:
        server = session.scalar(text("SHOW server_version"))
    return "ok", f"PostgreSQL {server}, revision {revision.head()}"


def _clock(engine: Engine) -> tuple[Literal["ok", "fault"], str]:
    with unit_of_work(engine) as session:
        theirs = session.scalars(text("SELECT clock_timestamp()")).one()
    off = abs((datetime.now(UTC) - theirs).total_seconds())
    if off > _CLOCK_SECONDS:
        return "fault", f"this clock and the database's differ by {off:.0f} s: S3 refuses requests from a wrong clock"
    return "ok", f"{off:.2f} s from the database's"


def _broker(url: str | None) -> tuple[Literal["ok", "fault"], str]:
    if url is None:
        return "fault", "RAMQ_BROKER_URL is not set: workers hear no bells"
    check_broker(url)
    info = broker_client(url).info("server")
    return "ok", f"Redis {info['redis_version']}"


def _workers(engine: Engine) -> tuple[Literal["ok", "note"], str]:
    with unit_of_work(engine) as session:
        alive = [view for view in worker_rows.views(session) if view.is_alive]
    if not alive:
        return "note", "none is running: `ramq up` or `ramq worker` starts one"
    return "ok", f"{len(alive)} alive"


def _index(settings: Settings, engine: Engine) -> tuple[Literal["ok"], str]:
    from ramq.wiring import make_index  # noqa: PLC0415  (faiss)

    index = make_index(settings)
    with unit_of_work(engine) as session:
        views = [index.status(session, view.id) for view in generations.views(session)]
    stored, indexed = sum(view.vectors_stored for view in views), sum(view.vectors_indexed for view in views)
    return "ok", f"{indexed:,} of {stored:,} vectors in segments at {settings.index_location}"


def _source(settings: Settings, source: str) -> tuple[Literal["ok"], str]:
    place = parse_source(source)
    open_store(place, settings.s3_endpoint_url).check()
    return "ok", f"{place.uri} can be listed"
