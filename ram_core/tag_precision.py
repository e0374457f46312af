"""The number format in which images are tagged, by what the device can do and what it is measured to do.

A CPU may know bfloat16 by name only and take longer for it than for float32. So ``auto`` asks for the instructions, and
takes the time of a matrix product of the image encoder in both formats.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch

from ram_core.errors import DeviceError
from ram_core.precision import AUTO, FORMATS

if TYPE_CHECKING:
    from collections.abc import Collection

CERTIFIED = "certified"
"""Computed in bfloat16, with nearly always the tags of float32: see ``ram_core.modeling.certified``."""

CPU_INFO = Path("/proc/cpuinfo")
# As Linux names them. ``bf16`` is ARM's.
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")
LEAST_SPEEDUP = 1.5
"""A choice: with less, computing some images again in float32 may take what bfloat16 saves."""

_PRODUCT = (576, 1536, 3072)  # rows, inputs, outputs: about the largest one of RAM's image encoder
_ROUNDS = 9  # the first of which warm up; a disturbed one does not move the median


@dataclass(frozen=True, slots=True)
class TagPrecision:
    """A chosen number format.

    Attributes:
        name: a key of ``FORMATS``, or ``certified``.
        why: a few words for people.
    """

    name: str
    why: str

    @property
    def dtype(self) -> torch.dtype:
        """The format of the weights that are loaded, as torch names it."""
        return FORMATS.get(self.name, torch.float32)


def choose_for_tags(name: str, device: torch.device, *, model: str) -> TagPrecision:
    """Choose the number format of a model of recognition.

    Args:
        name: a key of ``FORMATS``; ``certified``; or ``auto``. This is float16 on a GPU, and float32 on a CPU, or
            ``certified`` on one that computes in bfloat16 and is measured to be faster in it, but for ``lite``.
        device: where the model will be.
        model: its name.

    Raises:
        DeviceError: there is no such format, or not for this model or device.
    """
    is_lite, is_on_cpu = model == "lite", device.type == "cpu"
    if name == AUTO:
        if not is_on_cpu:
            return TagPrecision("float16", "a GPU")
        return TagPrecision("float32", "the format of lite on a CPU") if is_lite else _on_this_cpu()
    if name not in {*FORMATS, CERTIFIED}:
        raise DeviceError(f"{name!r} is not a number format; use {AUTO}, {', '.join(FORMATS)} or {CERTIFIED}")
    if name == "float16" and is_on_cpu:
        raise DeviceError("float16 is not available on the CPU; use auto, bfloat16 or float32 there, or a GPU")
    if name == CERTIFIED and not is_on_cpu:
        raise DeviceError(f"{CERTIFIED} is for CPUs; use {AUTO}, or another format")
    if name == CERTIFIED and is_lite:
        return TagPrecision("float32", "lite is not certified")
    return TagPrecision(name, "as asked for")


def describe_cpu() -> str:
    """Return what ``auto`` chooses on this CPU for large models, and why."""
    chosen = _on_this_cpu()
    return f"{chosen.name} for ram and ram_plus: {chosen.why}"


@cache
def _on_this_cpu() -> TagPrecision:
    known = [name for name in INSTRUCTIONS if name in cpu_flags()]
    if not known:
        return TagPrecision("float32", "this CPU does not compute in bfloat16")
    faster = speedup()
    if faster < LEAST_SPEEDUP:
        return TagPrecision("float32", f"bfloat16 ({known[0]}) is only {faster:.1f} x as fast here")
    return TagPrecision(CERTIFIED, f"bfloat16 ({known[0]}) is {faster:.1f} x as fast here")


def cpu_flags() -> Collection[str]:
    """Return the names of the CPU's instructions. None are known where the system does not tell them."""
    if platform.system() != "Linux" or not CPU_INFO.is_file():
        return ()
    for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return ()


@torch.inference_mode()
def speedup() -> float:
    """Measure how many times as fast as in float32 a matrix product is in bfloat16: the median of some rounds."""
    rows, inputs, outputs = _PRODUCT
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(rows, inputs, generator=generator), torch.randn(outputs, inputs, generator=generator))
    pairs = [(left.to(dtype), right.to(dtype)) for dtype in (torch.float32, torch.bfloat16)]
    ratios = []
    for _ in range(_ROUNDS):
        seconds = []
        for images, weights in pairs:
            start = time.perf_counter()
            torch.nn.functional.linear(images, weights)
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return median(ratios)
