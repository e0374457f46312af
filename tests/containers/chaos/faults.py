"""What can happen to a cluster, and a plan of it that is drawn from a seed."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.containers.chaos.client import ask

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping

    from tests.containers.chaos.cluster import Cluster

_JUMP_SECONDS = 600


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        of: what it happens to: ``worker`` (one of them is drawn), or the part of the cluster that it takes.
        begin: makes it happen.
        end: undoes it after a while.
        seconds: how long it lasts, at least and at most; for ``past_lease`` in leases.
        past_lease: whether ``seconds`` are multiples of a lease.
    """

    of: str
    begin: Callable[[Cluster, str], None]
    end: Callable[[Cluster, str], None]
    seconds: tuple[float, float]
    past_lease: bool = False


@dataclass(frozen=True)
class Planned:
    """A fault of a plan: what, to whom, how long, and how long after the one before it, in seconds."""

    kind: str
    target: str
    lasts_seconds: float
    after_seconds: float


def plan(
    random: random.Random, kinds: Mapping[str, Kind], count: int, workers: int, lease_seconds: float,
    between: tuple[float, float],
) -> list[Planned]:  # fmt: skip
    """Draw ``count`` faults. Each kind comes once before one comes twice."""
    names: list[str] = []
    while len(names) < count:
        names += random.sample(sorted(kinds), len(kinds))
    planned = []
    for name in names[:count]:
        kind = kinds[name]
        scale = lease_seconds if kind.past_lease else 1.0
        planned.append(
            Planned(
                name,
                f"worker{random.randint(1, workers)}" if kind.of == "worker" else kind.of,
                round(random.uniform(*kind.seconds) * scale, 1),
                round(random.uniform(*between), 1),
            )
        )
    return planned


def _nothing(_cluster: Cluster, _target: str) -> None:
    """It passes by itself."""


# --- workers


def _pause(cluster: Cluster, target: str) -> None:
    cluster.machines[target].container.pause()


def _unpause(cluster: Cluster, target: str) -> None:
    cluster.machines[target].container.unpause()


def _kill(cluster: Cluster, target: str) -> None:
    cluster.machines[target].kill()


def _start(cluster: Cluster, target: str) -> None:
    cluster.machines[target].container.start()


def _rules(*to: str, ways: tuple[str, ...] = ("out", "in")) -> list[Callable[[Cluster], tuple[str, ...]]]:
    made: list[Callable[[Cluster], tuple[str, ...]]] = []
    for name in to:
        for way in ways:
            chain, side = ("OUTPUT", "-d") if way == "out" else ("INPUT", "-s")
            made.append(lambda cluster, n=name, c=chain, s=side: (c, s, cluster.address_of(n), "-j", "DROP"))  # type: ignore[misc]
    return made


def _parted(*to: str, ways: tuple[str, ...] = ("out", "in"), lasts: tuple[float, float] = (0.5, 2.0)) -> Kind:
    """A worker that does not reach some machines, or is not reached by them: packets vanish without a word."""
    rules = _rules(*to, ways=ways)

    def begin(cluster: Cluster, target: str) -> None:
        for rule in rules:
            cluster.machines[target].block(*rule(cluster))

    def end(cluster: Cluster, target: str) -> None:
        for rule in rules:
            cluster.machines[target].unblock(*rule(cluster))

    return Kind("worker", begin, end, lasts, past_lease=True)


_LOSSY = ("INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.3", "-j", "DROP")
_RESET = (
    "OUTPUT", "-p", "tcp", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "REJECT", "--reject-with", "tcp-reset",
)  # fmt: skip
_NO_NAMES = (
    ("OUTPUT", "-p", "udp", "--dport", "53", "-j", "DROP"),
    ("OUTPUT", "-p", "tcp", "--dport", "53", "-j", "DROP"),
)


def _make_lossy(cluster: Cluster, target: str) -> None:
    cluster.machines[target].block(*_LOSSY)


def _end_lossy(cluster: Cluster, target: str) -> None:
    cluster.machines[target].unblock(*_LOSSY)


def _make_slow(cluster: Cluster, target: str) -> None:
    rate = ("rate", "256kbit", "burst", "16kbit", "latency", "400ms")
    cluster.machines[target].in_network("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", *rate)


def _end_slow(cluster: Cluster, target: str) -> None:
    cluster.machines[target].in_network("tc", "qdisc", "del", "dev", "eth0", "root", check=False)


def _lose_names(cluster: Cluster, target: str) -> None:
    machine = cluster.machines[target]
    for rule in _NO_NAMES:
        machine.block(*rule)
    machine.block(*_RESET)  # so that names are asked for
    time.sleep(2)
    machine.unblock(*_RESET)


def _find_names(cluster: Cluster, target: str) -> None:
    for rule in _NO_NAMES:
        cluster.machines[target].unblock(*rule)


def _clock(seconds: int) -> Kind:
    return Kind(
        "worker", lambda cluster, target: cluster.set_clock(target, seconds),
        lambda cluster, target: cluster.set_clock(target, 0), (1.0, 2.5), past_lease=True,
    )  # fmt: skip


def _fill_disk(cluster: Cluster, target: str) -> None:
    cluster.machines[target].container.exec("dd", "if=/dev/zero", "of=/tmp/full", "bs=64k", check=False)


def _clear_disk(cluster: Cluster, target: str) -> None:
    cluster.machines[target].container.exec("rm", "-f", "/tmp/full")


# --- services


def _crash_database(cluster: Cluster, _target: str) -> None:
    cluster.machines[cluster.primary].kill()
    cluster.machines[cluster.primary].container.start()


def _fail_over(cluster: Cluster, _target: str) -> None:
    """The primary dies for good and the standby takes its place."""
    cluster.machines[cluster.primary].kill()
    with cluster.connect(cluster.standby) as connection:
        assert connection.execute("SELECT pg_promote(true, 300)").fetchone() == (True,)
    cluster.primary = cluster.standby


def _new_standby(cluster: Cluster, _target: str) -> None:
    """Another machine becomes the standby, under the name of the one that died."""
    cluster.remove(cluster.standby)
    cluster.add_postgres(cluster.standby, "standby", cluster.primary)
    cluster.wait(lambda: cluster.connect(cluster.standby).close(), "the new standby")


def _pause_standby(cluster: Cluster, _target: str) -> None:
    cluster.machines[cluster.standby].container.pause()


def _unpause_standby(cluster: Cluster, _target: str) -> None:
    cluster.machines[cluster.standby].container.unpause()


def _empty_redis(cluster: Cluster, _target: str) -> None:
    cluster.machines["redis"].container.exec("redis-cli", "flushall")


def _restart_redis(cluster: Cluster, _target: str) -> None:
    cluster.machines["redis"].kill()


def _store(fault: str, *seconds: float) -> Kind:
    return Kind(
        "store",
        lambda cluster, _: cluster.set_store(fault),
        lambda cluster, _: cluster.set_store(""),
        tuple(seconds),  # type: ignore[arg-type]
    )


def _kill_web(cluster: Cluster, target: str) -> None:
    """It is killed while searches wait for its answers."""

    def search() -> None:
        with suppress(OSError):
            ask(cluster.address_of(target), "/v1/search", {"tag": "tag 1", "limit": 100})

    searches = [threading.Thread(target=search) for _ in range(8)]
    for thread in searches:
        thread.start()
    cluster.machines[target].kill()
    for thread in searches:
        thread.join()


KINDS: dict[str, Kind] = {
    "worker paused past its lease": Kind("worker", _pause, _unpause, (1.5, 2.5), past_lease=True),
    "worker killed": Kind("worker", _kill, _start, (1.0, 6.0)),
    "worker parted from the database": _parted("pg1", "pg2"),
    "worker parted from Redis": _parted("redis"),
    "worker parted from the store": _parted("store"),
    "worker parted from everything": _parted("pg1", "pg2", "redis", "store"),
    "worker reaches the database, no answer comes": _parted("pg1", "pg2", ways=("in",)),
    "worker's words do not reach the database": _parted("pg1", "pg2", ways=("out",)),
    "worker's words do not reach the store": _parted("store", ways=("out",)),
    "worker's clock 10 minutes fast": _clock(_JUMP_SECONDS),
    "worker's clock 10 minutes slow": _clock(-_JUMP_SECONDS),
    "worker's disk full": Kind("worker", _fill_disk, _clear_disk, (8.0, 20.0)),
    "worker's link slow (256 kbit/s)": Kind("worker", _make_slow, _end_slow, (8.0, 20.0)),
    "worker loses 30 % of its packets": Kind("worker", _make_lossy, _end_lossy, (8.0, 20.0)),
    "worker without names, its connections reset": Kind("worker", _lose_names, _find_names, (5.0, 20.0)),
    "PostgreSQL killed and started": Kind("database", _crash_database, _nothing, (1.0, 1.0)),
    "PostgreSQL fails over to its standby": Kind("database", _fail_over, _new_standby, (10.0, 20.0)),
    "standby paused": Kind("database", _pause_standby, _unpause_standby, (5.0, 15.0)),
    "Redis emptied": Kind("redis", _empty_redis, _nothing, (1.0, 1.0)),
    "Redis killed, started empty": Kind("redis", _restart_redis, _start, (1.0, 10.0)),
    "store answers 503": _store("503", 5.0, 15.0),
    "store answers half of the requests with 503": _store("503 0.5", 8.0, 20.0),
    "store does not answer": _store("stall", 5.0, 15.0),
    "store cuts its answers short": _store("cut 0.5", 5.0, 15.0),
    "web server killed while searching": Kind("web1", _kill_web, _start, (1.0, 8.0)),
}


def supervise(cluster: Cluster, names: Iterable[str]) -> list[str]:
    """Start those of the machines that ended by themselves, as a supervisor would. Return their names."""
    ended = [name for name in names if cluster.machines[name].container.state == "exited"]
    for name in ended:
        cluster.machines[name].container.start()
    return ended
