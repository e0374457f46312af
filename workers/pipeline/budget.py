"""The budget of bytes in memory."""

from __future__ import annotations

import threading


class BytesBudget:
    """Limits the bytes in memory between fetch and decode."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._free = total_bytes
        self._changed = threading.Condition()

    def acquire(self, amount: int) -> int:
        """Wait until ``amount`` bytes are free, reserve them and return how many were reserved.

        An object larger than the whole budget reserves all of it. No other object is then in memory.
        """
        taken = min(amount, self.total_bytes)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        return taken

    def release(self, amount: int) -> None:
        """Return reserved bytes to the budget."""
        with self._changed:
            self._free += amount
            self._changed.notify_all()
