"""A plan of faults, carried out while the cluster works."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from tests.containers.chaos.faults import KINDS, supervise

if TYPE_CHECKING:
    from tests.containers.chaos.cluster import Cluster
    from tests.containers.chaos.faults import Planned

_log = logging.getLogger(__name__)

_SUPERVISE_SECONDS = 2.0


@dataclass
class Storm:
    """Faults to different machines overlap; a machine, or a service, has one at a time.

    Attributes:
        cluster: that suffers.
        plan: in order.
        began: what has begun, each with when and for how long.
        errors: of this program, not of the cluster: a fault that could not be made or undone.
        restarted: machines that ended by themselves and were started again.
    """

    cluster: Cluster
    plan: list[Planned]
    began: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._locks = {name: threading.Lock() for name in (*self.cluster.machines, "database")}
        self._started_at = time.monotonic()
        self._threads = [threading.Thread(target=self._supervise), threading.Thread(target=self._strike)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._threads[1].join()
        self._over.set()
        self._threads[0].join()

    @property
    def is_over(self) -> bool:
        """Whether every fault has begun and ended."""
        return not self._threads[1].is_alive()

    def _supervise(self) -> None:
        while not self._over.wait(_SUPERVISE_SECONDS):
            for name in (*self.cluster.workers, *self.cluster.webs):
                if self._locks[name].acquire(blocking=False):
                    try:
                        self.restarted += supervise(self.cluster, [name])
                    except Exception:  # noqa: BLE001  (told at the end of the run, which must go on)
                        self.errors.append(traceback.format_exc())
                    finally:
                        self._locks[name].release()

    def _strike(self) -> None:
        running = []
        for fault in self.plan:
            time.sleep(fault.after_seconds)
            thread = threading.Thread(target=self._one, args=(fault,))
            thread.start()
            running.append(thread)
        for thread in running:
            thread.join()

    def _one(self, fault: Planned) -> None:
        kind = KINDS[fault.kind]
        with self._locks[fault.target]:
            at = time.monotonic() - self._started_at
            try:
                kind.begin(self.cluster, fault.target)
                entry: dict[str, Any] = {"at_seconds": round(at, 1), **asdict(fault)}
                self.began.append(entry)
                _log.info("%.1f s: %s: %s for %.1f s", at, fault.kind, fault.target, fault.lasts_seconds)
                time.sleep(fault.lasts_seconds)
                kind.end(self.cluster, fault.target)
                entry["over_at_seconds"] = round(time.monotonic() - self._started_at, 1)
            except Exception:  # noqa: BLE001  (told at the end of the run, which must go on)
                self.errors.append(f"{fault}: {traceback.format_exc()}")
