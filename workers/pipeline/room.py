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
    needed = _TIMES * sum(file.stat().st_size for file in (models_dir / name).glob("*") if file.suffix in _WEIGHTS)
    free, total = _on_gpu(device) if device.startswith("cuda") else _of_host()
    return free - max(needed, _SMALL_BYTES) > total / _KEPT_FREE


def _of_host() -> tuple[int, int]:
    """Return free and total bytes of memory, of the container if it has a limit of its own."""
    memory = psutil.virtual_memory()
    free, total = memory.available, memory.total
    with suppress(OSError, ValueError):  # no such file, or `max`
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        free, total = min(free, limit - used), min(total, limit)
    return free, total


def _on_gpu(device: str) -> tuple[int, int]:
    import torch  # noqa: PLC0415  (loaded with the first model, not with this module)

    free, total = torch.cuda.mem_get_info(torch.device(device))
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + cached, total
