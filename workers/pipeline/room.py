"""Whether a further model fits into the memory of a device, beside those that are loaded."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

_WEIGHTS = {".pth", ".safetensors"}
_SMALL_BYTES = 500_000_000
"""What a model takes at least, with what comes with it. ``lite`` takes so much: its files are not in the folder."""
_KEPT_FREE = 4
"""One part in this many of all memory stays free, for batches."""
_TIMES = 2
"""While weights are read and converted, they are in memory twice."""
_CGROUP = Path("/sys/fs/cgroup")


def has_room(name: str, models_dir: Path, device: str) -> bool:
    """Return whether a model can be loaded without unloading another one.

    Args:
        name: of the model.
        models_dir: folder of checkpoints.
        device: where the models run.
    """
    needed = _TIMES * _bytes_of(models_dir / name)
    memory = _on_gpu(device) if device.startswith("cuda") else _of_host()
    if memory is None:
        return True
    free, total = memory
    return free - max(needed, _SMALL_BYTES) > total / _KEPT_FREE


def _bytes_of(folder: Path) -> int:
    found = 0
    for file in folder.glob("*"):
        with suppress(FileNotFoundError):  # just replaced
            found += file.stat().st_size if file.suffix in _WEIGHTS else 0
    return found


def _of_host() -> tuple[int, int]:
    """Return free and total bytes of memory, of the container if it has a limit of its own."""
    memory = psutil.virtual_memory()
    free, total = memory.available, memory.total
    with suppress(OSError, ValueError):  # no such file, or `max`
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text()) - _reclaimable()
        free, total = min(free, limit - used), min(total, limit)
    return free, total


def _reclaimable() -> int:
    """Return the bytes of files that the container has read and the kernel keeps as long as nobody needs the memory."""
    with suppress(OSError, ValueError, KeyError):  # no such file or line
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["inactive_file"])
    return 0


def _on_gpu(device: str) -> tuple[int, int] | None:
    """Return free and total bytes of a GPU's memory; None without it: loading says what is wrong."""
    import torch  # noqa: PLC0415  (loaded with the first model, not with this module)

    try:
        free, total = torch.cuda.mem_get_info(torch.device(device))
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    except (RuntimeError, AssertionError):  # no driver, no such device, or a torch without CUDA
        return None
    return free + cached, total
