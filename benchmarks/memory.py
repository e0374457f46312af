"""How much memory a call takes beyond what was there before it."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

STATUS = Path("/proc/self/status")
RESET_PEAK = "5"  # proc(5), clear_refs


def extra_bytes(job: Callable[[], object], device: torch.device) -> int:
    """Return the peak of memory during a call, less what was held before.

    On a GPU that of torch's allocator; on a CPU the resident set of the process, which Linux keeps the peak of.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        job()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier calls freed must not hide what this one takes
    Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")
    before = _kilobytes("VmRSS")
    job()
    return (_kilobytes("VmHWM") - before) * 1024


def _kilobytes(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise OSError(f"{STATUS} has no {field}: peaks of memory are measured on Linux only")
    return int(found[1])
