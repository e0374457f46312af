"""One training in several processes, which ``accelerate launch`` or ``torchrun`` started."""

from __future__ import annotations

import torch

from ram_core.registry import resolve_device


def own_device(device: str | torch.device) -> torch.device:
    """Return the device of this process: of several processes on a machine with GPUs, each has its own.

    Raises:
        DeviceError: the device does not exist.
    """
    found = resolve_device(device)
    if found == torch.device("cuda") and torch.distributed.is_torchelastic_launched():
        return resolve_device(f"cuda:{torch.distributed.get_node_local_rank()}")
    return found


def join_processes(device: torch.device) -> tuple[int, int]:
    """Join the other processes; return the number of this one, and how many there are."""
    if not torch.distributed.is_torchelastic_launched():
        return 0, 1
    if not torch.distributed.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return torch.distributed.get_rank(), torch.distributed.get_world_size()
