"""Checks of this machine: versions, disks, device, clocks."""

from __future__ import annotations

import platform
import shutil
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ramq.findings import Finding
from storage.texts import plural

if TYPE_CHECKING:
    from ramq.settings import Settings

_LEAST_FREE_BYTES = 2 * 1024**3
_CLOCK_SECONDS = 5.0


def versions() -> Finding:
    """Name the versions of what ramq is made of."""
    names = ("ramq", "torch", "timm", "transformers", "celery", "sqlalchemy", "faiss-cpu", "faiss-gpu", "obstore")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return Finding("versions", "ok", f"Python {platform.python_version()}, {', '.join(found)}")


def disks(settings: Settings) -> list[Finding]:
    """Check each folder that ramq writes to. Check folders on the same disk only once."""
    folders = [settings.data_dir, settings.cache_path]
    with suppress(ValueError):  # a wrong address is what the check of the index tells of
        index = urlsplit(settings.index_files_location)
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


def device(settings: Settings) -> Finding:
    """Check that the device of the settings is there, and say which precision is used."""
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


def clock(theirs: datetime, whose: str) -> Finding:
    """Compare the clock of this machine with another one."""
    off = abs((datetime.now(UTC) - theirs).total_seconds())
    if off > _CLOCK_SECONDS:
        detail = f"this clock and {whose} differ by {off:,.0f} s; S3 refuses requests with a wrong time"
        return Finding("clock", "fault", detail, "timedatectl status")
    return Finding("clock", "ok", f"differs by {off:.2f} s from {whose}")
