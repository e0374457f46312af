"""Let small products be computed by one thread of each library: several would mostly wait for each other."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class _OneThread:
    """See ``one_thread``, which is the only object of this class: some limits are one for the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._modules = 0  # which were loaded when libraries were looked for
        self._of_process: Any = None  # libraries with one limit for all threads
        self._of_thread: Any = None  # and with one for each
        self._limited: set[str] = set()  # files of libraries
        self._limits: list[Any] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Limit BLAS in this process, and OpenMP in this thread, until the block is left. Thread-safe, nestable.

        BLAS gets back what it had when the last thread leaves. threadpoolctl by itself counts no threads: one that
        comes second and leaves last restores the 1 that it found.
        """
        with self._lock:
            self._look_for_libraries()
            of_thread = self._of_thread
            self._limit()
            self._inside += 1
        try:
            with of_thread.limit(limits=1):
                yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._restore()

    def _look_for_libraries(self) -> None:
        """Look again after imports, which may have loaded more. It takes milliseconds."""
        if len(sys.modules) == self._modules:
            return
        from threadpoolctl import ThreadpoolController  # noqa: PLC0415  (only few callers need it)

        found = ThreadpoolController()
        files: dict[bool, list[str]] = {True: [], False: []}
        for library in found.info():
            # Such a BLAS asks OpenMP for its number of threads.
            files[library["user_api"] == "openmp" or library.get("threading_layer") == "openmp"].append(
                library["filepath"]
            )
        self._of_thread, self._of_process = (found.select(filepath=files[is_own]) for is_own in (True, False))
        self._modules = len(sys.modules)

    def _limit(self) -> None:
        """Limit what is not limited yet."""
        new = sorted({each.filepath for each in self._of_process.lib_controllers} - self._limited)
        if new:
            # Not as a context: that would have to be left by the thread that entered it.
            self._limits.append(self._of_process.select(filepath=new).limit(limits=1))
            self._limited.update(new)

    def _restore(self) -> None:
        from threadpoolctl import OpenBLASController  # noqa: PLC0415

        # Otherwise only the thread that set a limit can change it.
        OpenBLASController.clear_controlling_thread(force=True)
        for limit in self._limits:
            limit.restore_original_limits()
        OpenBLASController.clear_controlling_thread()
        self._limits.clear()
        self._limited.clear()


one_thread = _OneThread()
