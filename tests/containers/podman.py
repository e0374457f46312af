"""Containers and networks of podman, for tests: started, stopped, parted and removed by name."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

WORK = Path(__file__).resolve().parents[2] / "build" / "containers"
"""Configuration that is written here, and nothing else. Images are in podman's own storage."""

_SECONDS = 120.0
_LIMIT = 16_384
"""Of open files and of processes: more than any container here needs."""


class PodmanError(Exception):
    """A command of podman or buildah failed; the message has the command and what it said."""


def missing_tools() -> str | None:
    """Return what is missing for these tests and how to get it, or None."""
    tools = ("podman", "buildah", "runc", "mmdebstrap", "iptables")
    absent = [name for name in tools if shutil.which(name) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install {' '.join(tools)}"
    if os.geteuid() != 0:
        return "these tests make networks and root file systems: run them as root"
    return None


def environment() -> dict[str, str]:
    """Return the environment for podman and buildah: the configuration of these tests, not that of the machine.

    Limits above those of podman's own process would be refused, so containers get lower ones. Where systemd does not
    run, podman must manage the cgroups itself, and crun may not know their layout.
    """
    limits = ", ".join(
        f'"{name}={limit}:{limit}"'
        for name, limit in {
            "nofile": min(_LIMIT, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
            "nproc": min(_LIMIT, resource.getrlimit(resource.RLIMIT_NPROC)[1]),
        }.items()
    )
    lines = ["[containers]", f"default_ulimits = [{limits}]", 'log_driver = "k8s-file"']
    lines += ["[engine]", 'events_logger = "file"']
    if not Path("/run/systemd/system").is_dir():
        lines += ['runtime = "runc"', 'cgroup_manager = "cgroupfs"']
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "containers.conf"
    written = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text() != written:
        path.write_text(written)
    return {**os.environ, "CONTAINERS_CONF": str(path)}


def podman(
    *words: str | Path, check: bool = True, seconds: float = _SECONDS, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``podman WORDS``. ``text`` is its standard input. Raises ``PodmanError`` if it fails and ``check``."""
    return run(["podman", *map(str, words)], check=check, seconds=seconds, text=text)


def run(
    command: Sequence[str], *, check: bool = True, seconds: float = _SECONDS, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with the environment of these tests. Raises ``PodmanError`` if it fails and ``check``."""
    done = subprocess.run(
        command, env=environment(), input=text, capture_output=True, text=True, timeout=seconds, check=False
    )
    if check and done.returncode:
        raise PodmanError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done


def until(
    condition: Callable[[], Any], what: str, *, seconds: float = _SECONDS, evidence: Callable[[], str] = str
) -> Any:
    """Wait until ``condition`` returns something true, and return it. Raises ``PodmanError`` after ``seconds``.

    Args:
        condition: called every half second.
        what: is waited for, as the error names it.
        seconds: to wait at most.
        evidence: what the error adds, for example the end of a log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.5)
    raise PodmanError(f"waited {seconds:.0f} s for {what} in vain\n{evidence()}")


@dataclass(frozen=True, slots=True)
class Container:
    """A container, by its name."""

    name: str

    def exec(
        self, *words: str, user: str | None = None, check: bool = True, seconds: float = _SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        return podman("exec", *(("--user", user) if user else ()), self.name, *words, check=check, seconds=seconds)

    def inspect(self) -> dict[str, Any]:
        """Return what podman knows of it."""
        found: list[dict[str, Any]] = json.loads(podman("container", "inspect", self.name).stdout)
        return found[0]

    @property
    def state(self) -> str:
        """``running``, ``paused``, ``exited``, …; ``gone`` if it does not exist."""
        done = podman("container", "inspect", "--format={{.State.Status}}", self.name, check=False)
        return done.stdout.strip() if done.returncode == 0 else "gone"

    @property
    def exit_code(self) -> int:
        """Of its last run."""
        return int(self.inspect()["State"]["ExitCode"])

    @property
    def pid(self) -> int:
        """Of its first process, as this machine counts: the way into its namespaces (``nsenter --target``)."""
        return int(self.inspect()["State"]["Pid"])

    def address(self, network: str) -> str:
        """Return its IP address in a network, reachable from this machine."""
        return str(self.inspect()["NetworkSettings"]["Networks"][network]["IPAddress"])

    def logs(self, lines: int | None = None) -> str:
        """Return what it wrote to stdout and stderr."""
        done = podman("logs", *(() if lines is None else (f"--tail={lines}",)), self.name, check=False)
        return done.stdout + done.stderr

    def start(self) -> None:
        """Start it again after ``stop`` or ``kill``, with the same files."""
        podman("start", self.name)

    def stop(self, seconds: int = 10) -> None:
        """Send SIGTERM, and SIGKILL after so many seconds."""
        podman("stop", f"--time={seconds}", self.name, seconds=seconds + _SECONDS)

    def kill(self, signal: str = "KILL") -> None:
        """Send a signal to its first process."""
        podman("kill", f"--signal={signal}", self.name)

    def pause(self) -> None:
        """Freeze all its processes."""
        podman("pause", self.name)

    def unpause(self) -> None:
        """Let them go on."""
        podman("unpause", self.name)

    def remove(self) -> None:
        """Kill and remove it and its anonymous volumes."""
        podman("rm", "--force", "--volumes", "--time=0", self.name, check=False)


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge on which containers find each other by name."""

    name: str

    def connect(self, container: Container, *aliases: str) -> None:
        """Join a container, under further names."""
        podman("network", "connect", *(f"--alias={alias}" for alias in aliases), self.name, container.name)

    def disconnect(self, container: Container) -> None:
        """Part a container from all others."""
        podman("network", "disconnect", "--force", self.name, container.name)

    def remove(self) -> None:
        """Remove it and the containers on it."""
        podman("network", "rm", "--force", self.name, check=False)


@dataclass(slots=True)
class Machines:
    """Containers on one network of their own, each with the name by which the others find it."""

    network: Network
    containers: dict[str, Container] = field(default_factory=dict)

    def start(
        self,
        name: str,
        image: str,
        *command: str,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Container:
        """Start a container.

        Args:
            name: its host name, and its name for the others.
            image: to run.
            *command: instead of the image's own.
            environment: further variables.
            options: of ``podman run``, for example ``--read-only`` or ``--volume=/from:/to:ro``.
        """
        container = Container(f"{self.network.name}-{name}")
        variables = [f"--env={key}={value}" for key, value in (environment or {}).items()]
        place = [f"--network={self.network.name}", f"--network-alias={name}", f"--hostname={name}"]
        podman(
            "run", "--detach", "--pull=never", f"--name={container.name}", *place, *variables, *options, image, *command
        )
        self.containers[name] = container
        return container

    def __getitem__(self, name: str) -> Container:
        """Return the container of that name."""
        return self.containers[name]

    def remove(self) -> None:
        """Remove all containers, then the network."""
        for container in self.containers.values():
            container.remove()
        self.network.remove()


@contextmanager
def machines(prefix: str = "ramq") -> Iterator[Machines]:
    """Make a network and remove it, with all containers that were started on it, at the end."""
    network = Network(f"{prefix}-{uuid.uuid4().hex[:8]}")
    podman("network", "create", network.name)
    found = Machines(network)
    try:
        yield found
    finally:
        found.remove()
