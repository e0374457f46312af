"""Faults that are drawn from a seed, for ``benchmarks.chaos``."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis import RedisError

from ramq.broker import broker_client
from tests.services.fault_proxy import Cut, Refuse, Reset, Status
from workers.app import KEY_PREFIX
from workers.messages import queue_of

if TYPE_CHECKING:
    import random

    from tests.services.breakable import BreakableServices
    from tests.services.fault_proxy import Fault, FaultProxy
    from tests.services.fleet import Fleet, Process

STORE_FAULTS: dict[str, Fault] = {
    "store says 503": Status(503),
    "store cuts bodies short": Cut(200),
    "store resets": Reset(),
    "store vanishes": Refuse(),
}
WITHOUT_STORE = ("kill", "kill", "sleep", "flush", "redis restarts empty", "postgres crashes", "messages doubled")
KINDS = (*WITHOUT_STORE, *STORE_FAULTS)
COPIES = 5


@dataclass
class FaultInjector:
    """Strikes when told to, and counts.

    Attributes:
        fleet: the workers; replaced when they die, as a supervisor would.
        services: PostgreSQL and Redis.
        proxy: in front of the object store, None where there is none.
        random: what is drawn from.
        sleep_seconds: for how long a worker is stopped, longer than its lease.
        kinds: what is drawn; twice is twice as often.
    """

    fleet: Fleet
    services: BreakableServices
    proxy: FaultProxy | None
    random: random.Random
    sleep_seconds: float
    kinds: tuple[str, ...] = KINDS
    faults: Counter[str] = field(default_factory=Counter)
    asleep: list[tuple[float, Process]] = field(default_factory=list)

    def strike(self) -> None:
        """Do one thing that must not matter."""
        kind = self.random.choice(self.kinds)
        if self._strike(kind):
            self.faults[kind] += 1

    def tend(self) -> None:
        """Wake sleepers whose time has come, and replace the dead."""
        now = time.monotonic()
        for due, process in list(self.asleep):
            if now > due:
                process.send_signal(signal.SIGCONT)
                self.asleep.remove((due, process))
        for process in list(self.fleet.processes):
            if process.poll() is not None:
                self.fleet.processes.remove(process)
                self.fleet.start(1)

    def rest(self) -> None:
        """Stop being a nuisance: wake everyone and let every request through."""
        for _, process in self.asleep:
            process.send_signal(signal.SIGCONT)
        self.asleep.clear()
        if self.proxy is not None:
            self.proxy.heal()

    def _strike(self, kind: str) -> bool:
        """Do it; False if it was not possible now."""
        if kind in STORE_FAULTS:
            self._for_a_while(STORE_FAULTS[kind])
            return True
        match kind:
            case "kill":
                self.random.choice(self.fleet.processes).kill()
            case "sleep":
                return self._sleep()
            case "flush":
                broker_client(self.services.broker_url).flushall()
            case "redis restarts empty":
                self.services.empty_redis()
            case "postgres crashes":
                self.services.crash_postgres()
            case "messages doubled":
                return self._double()
        return True

    def _sleep(self) -> bool:
        sleepers = {process.pid for _, process in self.asleep}
        awake = [process for process in self.fleet.processes if process.pid not in sleepers]
        if len(awake) < 2:
            return False
        process = self.random.choice(awake)
        process.send_signal(signal.SIGSTOP)
        self.asleep.append((time.monotonic() + self.sleep_seconds, process))
        return True

    def _for_a_while(self, fault: Fault) -> None:
        assert self.proxy is not None
        self.proxy.fail(fault)
        timer = threading.Timer(self.random.uniform(0.5, 2.0), self.proxy.heal)
        timer.daemon = True
        timer.start()

    def _double(self) -> bool:
        broker, queue = broker_client(self.services.broker_url), f"{KEY_PREFIX}{queue_of('lite')}"
        try:
            waiting: list[bytes] = broker.lrange(queue, 0, -1)  # type: ignore[assignment]  # typed for both clients
            for message in waiting * COPIES:
                broker.lpush(queue, message)
        except RedisError:  # on its way back from another fault
            return False
        return bool(waiting)
